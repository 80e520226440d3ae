"""The connection to one API server: its CA, our client certificate, the proxy, name look-ups, and no redirects."""

import asyncio
import copy
import os
import socket
import ssl
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Final, cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from pullkeeper import errors
from pullkeeper.model import Endpoint
from pullkeeper.tokens import ClientCertificate

_CONNECTIONS: Final = 4
"""Per cluster, however many targets it has: each costs 0.35 MB while it is open."""
_PREPARED: Final = 1024
"""Clients kept, some 22 KB each. To read a CA costs a seventh of a refresh."""
_NAMES: Final = ThreadPoolExecutor(max_workers=96, thread_name_prefix="names")
"""For name look-ups alone: one that hangs must not hold a thread that other work waits for."""


def connect(endpoint: Endpoint, certificate: ClientCertificate | None) -> RESTClientObject:
    """Create a client for the API server. Raises ClusterTlsUntrusted if the CA or our certificate cannot be used."""
    if not endpoint.ca:
        # The client would trust the system's CAs instead.
        raise errors.ClusterTlsUntrusted(f"{host_of(endpoint)}: the cluster's CA is not known")
    try:
        client = copy.copy(_prepare(endpoint.server, endpoint.ca))
        if certificate:
            client.ssl_context = _relax(ssl.create_default_context(cadata=endpoint.ca))
            with _memory_file(f"{certificate.certificate}\n{certificate.key}") as path:
                client.ssl_context.load_cert_chain(path)
    except ssl.SSLError as e:
        raise errors.ClusterTlsUntrusted(
            f"{host_of(endpoint)}: its CA or our certificate cannot be read: {e}"
        ) from None
    return client


def host_of(endpoint: Endpoint) -> str:
    """Host and port, for messages."""
    return endpoint.server.removeprefix("https://")


@lru_cache(maxsize=_PREPARED)
def _prepare(server: str, ca: str) -> RESTClientObject:
    """Create a client that is never used itself: a copy shares its TLS context, and has a session of its own."""
    configuration = Configuration(host=server)
    configuration.ca_cert_data = ca
    configuration.retries = None
    configuration.connection_pool_maxsize = _CONNECTIONS
    # With trust_env, aiohttp reads netrc for every request, at half of all CPU; so the proxy is set here.
    configuration.client_session_kwargs = {
        "trust_env": False,
        "read_bufsize": 2**16,
        "cookie_jar": aiohttp.DummyCookieJar(),
    }
    proxy = getproxies().get("https")
    host = server.removeprefix("https://").partition(":")[0]
    configuration.proxy = proxy if proxy and not proxy_bypass(host) else None
    client = _Rest(configuration)
    _relax(client.ssl_context)
    return client


def _relax(context: ssl.SSLContext) -> ssl.SSLContext:
    """Leave out the RFC 5280 checks that Python 3.13 switches on and that AKS's own CAs have failed. Chain and name are
    checked all the same.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class _Rest(RESTClientObject):
    """The client's transport, with look-ups of its own and without redirects."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, resolver=_Resolver())

    def _create_pool_manager(self) -> aiohttp.ClientSession:
        # The client calls `request` and `close` alone.
        return cast("aiohttp.ClientSession", _Session(super()._create_pool_manager()))


class _Session:
    """An aiohttp session that follows no redirect: an API server never redirects; a server that does would get the
    token.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def request(self, **call: Any) -> Awaitable[aiohttp.ClientResponse]:
        return self._session.request(**call, allow_redirects=False)

    async def close(self) -> None:
        await self._session.close()


class _Resolver(AbstractResolver):
    """getaddrinfo in threads that nothing else uses."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(_NAMES, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Keep the threads: they serve every cluster."""


@contextmanager
def _memory_file(pem: str) -> Iterator[str]:
    """Yield a path to the PEM that exists in memory only: Python's ssl module reads client certificates from a path."""
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
