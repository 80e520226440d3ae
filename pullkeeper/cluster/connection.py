"""The connection to one API server: its CA, our client certificate, the proxy, name look-ups, and no redirects."""

import copy
import os
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from pullkeeper import errors
from pullkeeper.model import Endpoint
from pullkeeper.names import look_up
from pullkeeper.tokens import ClientCertificate

_CONNECTIONS: Final = 4
"""Per cluster, however many targets it has."""
_CONTEXTS: Final = 1024
"""Kept, some 17 KB each. To read a CA costs a seventh of a refresh."""
_contexts: dict[str, ssl.SSLContext] = {}
SSLProtocol.max_size = 32 * 1024
"""asyncio reserves so much to read a TLS connection. Its own 256 KiB were two thirds of what an open one costs, and a
twentieth of the CPU of a refresh.
"""


class Connection(RESTClientObject):
    """The client's session, with look-ups of its own."""

    async def call(
        self, method: str, url: str, headers: dict[str, str], body: str | None, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Follow no redirect: an API server never redirects; a server that does would get the token. The client's own
        `request` follows them.
        """
        session = self.pool_manager = self.pool_manager or self._create_pool_manager()
        return await session.request(
            method, url, headers=headers, data=body, timeout=limits, proxy=self.proxy, allow_redirects=False
        )

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, resolver=_Resolver())


class _Resolver(AbstractResolver):
    """aiohttp's own uses threads that other work waits for."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, proto, _, address in await look_up(host, port, family)
        ]

    async def close(self) -> None:
        """Keep the threads: they serve every cluster."""


def connect(endpoint: Endpoint, certificate: ClientCertificate | None) -> Connection:
    """Create a client for the API server. Raises ClusterTlsUntrusted if the CA or our certificate cannot be used."""
    if not endpoint.ca:
        # The client would trust the system's CAs instead.
        raise errors.ClusterTlsUntrusted(f"{host_of(endpoint)}: the cluster's CA is not known")
    client = copy.copy(_template())
    if client.proxy and proxy_bypass(host_of(endpoint)):
        client.proxy = None
    try:
        client.ssl_context = _create_context(endpoint.ca) if certificate else _context(endpoint.ca)
        if certificate:
            with _memory_file(f"{certificate.certificate}\n{certificate.key}") as path:
                client.ssl_context.load_cert_chain(path)
    except (ssl.SSLError, TypeError) as e:  # TypeError: not ASCII
        raise errors.ClusterTlsUntrusted(
            f"{host_of(endpoint)}: its CA or our certificate cannot be read: {e}"
        ) from None
    return client


def host_of(endpoint: Endpoint) -> str:
    """Host and port, for messages."""
    return endpoint.server.removeprefix("https://")


@cache
def _template() -> Connection:
    """Create the client that all are copies of. It is never used itself: each copy has a session of its own."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = _CONNECTIONS
    # With trust_env, aiohttp reads netrc for every request, at half of all CPU; so the proxy is set here.
    configuration.client_session_kwargs = {
        "trust_env": False,
        "read_bufsize": 2**16,
        "cookie_jar": aiohttp.DummyCookieJar(),
    }
    configuration.proxy = getproxies().get("https")
    return Connection(configuration)


def _context(ca: str) -> ssl.SSLContext:
    """Return the TLS context that trusts a CA. Where there is no room, the newest makes way: a fleet is refreshed in
    the same order again and again, and were it the oldest, none would ever be found.
    """
    if context := _contexts.get(ca):
        return context
    if len(_contexts) == _CONTEXTS:
        _contexts.popitem()
    _contexts[ca] = context = _create_context(ca)
    return context


def _create_context(ca: str) -> ssl.SSLContext:
    """Leave out the RFC 5280 checks that Python 3.13 switches on and that AKS's own CAs have failed. Chain and name are
    checked all the same.
    """
    context = ssl.create_default_context(cadata=ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@contextmanager
def _memory_file(pem: str) -> Iterator[str]:
    """Yield a path to the PEM that exists in memory only: Python's ssl module reads client certificates from a path."""
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
