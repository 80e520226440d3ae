"""The connection to one API server: its CA, our client certificate, the proxy, and name look-ups."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pullkeeper import errors
from pullkeeper.model import Endpoint
from pullkeeper.tokens import ClientCertificate

_CONNECTIONS: Final = 4
"""Per cluster, however many targets it has: each costs 0.35 MB while it is open."""
_PREPARED: Final = 1024
"""TLS contexts kept, some 22 KB each. To read a CA costs a seventh of a refresh."""
_NAMES: Final = ThreadPoolExecutor(max_workers=96, thread_name_prefix="names")
"""For name look-ups alone: one that hangs must not hold a thread that other work waits for."""


def connect(endpoint: Endpoint, certificate: ClientCertificate | None) -> aiohttp.ClientSession:
    """Create a session for the API server. Raises ClusterTlsUntrusted if the CA or our certificate cannot be used."""
    if not endpoint.ca:
        # The system's CAs would be trusted instead.
        raise errors.ClusterTlsUntrusted(f"{host_of(endpoint)}: the cluster's CA is not known")
    try:
        context, proxy = _prepare(endpoint.server, endpoint.ca)
        if certificate:
            context = _trust(endpoint.ca)
            with _memory_file(f"{certificate.certificate}\n{certificate.key}") as path:
                context.load_cert_chain(path)
    except ssl.SSLError as e:
        raise errors.ClusterTlsUntrusted(
            f"{host_of(endpoint)}: its CA or our certificate cannot be read: {e}"
        ) from None
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=context, resolver=_Resolver())
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), proxy=proxy)


def host_of(endpoint: Endpoint) -> str:
    """Host and port, for messages."""
    return endpoint.server.removeprefix("https://")


@lru_cache(maxsize=_PREPARED)
def _prepare(server: str, ca: str) -> tuple[ssl.SSLContext, str | None]:
    """Return the TLS context for the API server, and the proxy. With trust_env, aiohttp would look for the proxy, and
    read netrc, for every request, at half of all CPU.
    """
    proxy = getproxies().get("https")
    host = server.removeprefix("https://").partition(":")[0]
    return _trust(ca), proxy if proxy and not proxy_bypass(host) else None


def _trust(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca)
    # Python 3.13 switches on RFC 5280 checks that AKS's own CAs have failed. Chain and name are checked all the same.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


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
