"""What the stand-in for API servers can do beside the contract that it shares with the real one."""

import ssl
from pathlib import Path

import aiohttp
import pytest

from local.administrator import Administrator
from local.azure.entra import Entra
from local.clock import Clock
from local.kubernetes import ApiServer


async def test_the_certificate_of_one_cluster_opens_no_other(entra: Entra, tmp_path: Path) -> None:
    one, other = ApiServer("one", entra, Clock()), ApiServer("other", entra, Clock())
    await one.start()
    pem = tmp_path / "admin.pem"
    pem.write_text(other.admin_key_pem + other.admin_cert_pem)
    tls = ssl.create_default_context(cadata=one.ca_pem)
    tls.load_cert_chain(pem)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{one.url}/api/v1/namespaces", ssl=tls)
    await one.stop()


async def test_pods_are_only_read(entra: Entra) -> None:
    """They come from controllers, which are not played."""
    server = ApiServer("one", entra, Clock())
    await server.start()
    server.put_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "default"}})
    async with Administrator(server) as admin:
        assert [pod["metadata"]["name"] for pod in (await admin.call("GET", "/api/v1/pods"))["items"]] == ["app"]
        for method, path in (
            ("POST", "/api/v1/namespaces/default/pods"),
            ("DELETE", "/api/v1/namespaces/default/pods/app"),
        ):
            with pytest.raises(AssertionError, match="HTTP 501"):
                await admin.call(method, path, {})
    await server.stop()
