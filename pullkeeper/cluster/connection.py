"""The connection to one API server: its CA, our client certificate, the proxy, and no redirects."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from pullkeeper import errors
from pullkeeper.model import Endpoint
from pullkeeper.tokens import ClientCertificate


def connect(endpoint: Endpoint, certificate: ClientCertificate | None) -> ApiClient:
    """Create a client for the API server. Raises ClusterTlsUntrusted if the CA or our certificate cannot be used."""
    host = host_of(endpoint)
    if not endpoint.ca:
        # The client would trust the system's CAs instead.
        raise errors.ClusterTlsUntrusted(f"{host}: the cluster's CA is not known")
    configuration = Configuration(host=endpoint.server)
    configuration.ca_cert_data = endpoint.ca
    # Python 3.13 switches on RFC 5280 checks that AKS's own CAs have failed. Chain and name are checked all the same.
    configuration.disable_strict_ssl_verification = True
    configuration.retries = False
    # With trust_env, aiohttp reads netrc for every request, at half of all CPU; so the proxy is set here.
    configuration.client_session_kwargs = {"trust_env": False, "read_bufsize": 2**16}
    configuration.trace_configs = [_refuse_redirects()]
    proxy = getproxies().get("https")
    configuration.proxy = proxy if proxy and not proxy_bypass(host.partition(":")[0]) else None
    try:
        with _memory_file(f"{certificate.certificate}\n{certificate.key}") if certificate else nullcontext() as path:
            configuration.cert_file = configuration.key_file = path
            return ApiClient(configuration)
    except ssl.SSLError as e:
        raise errors.ClusterTlsUntrusted(f"{host}: its CA or our certificate cannot be read: {e}") from None


def host_of(endpoint: Endpoint) -> str:
    """Host and port, for messages."""
    return endpoint.server.removeprefix("https://")


def _refuse_redirects() -> aiohttp.TraceConfig:
    """An API server never redirects; a server that does would get the token."""

    async def refuse(*_: object) -> None:
        raise errors.ClusterMoved("the server answered with a redirect")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


@contextmanager
def _memory_file(pem: str) -> Iterator[str]:
    """Yield a path to the PEM that exists in memory only: Python's ssl module reads client certificates from a path."""
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
