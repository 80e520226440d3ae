"""No response is read beyond its limit, also one that is valid beyond it. No redirect of Azure's is followed. What an
open connection costs.
"""

import asyncio
import base64
import json
import tracemalloc
from asyncio import sslproto
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from aiohttp import web

from local.serving import Authority, Server
from pullkeeper.azure.arm import Arm
from pullkeeper.azure.clusters import AzureClusters
from pullkeeper.azure.entra import Entra
from pullkeeper.cluster.api import Api
from pullkeeper.errors import ClusterMoved, GoogleUnavailable, InternalError, PullkeeperError, RegistryUnavailable
from pullkeeper.model import ClusterId, Endpoint
from pullkeeper.publisher import google, registry
from pullkeeper.publisher.hub import Hub
from pullkeeper.tokens import EntraToken, Token
from tests.core.canned import ANY_PATH, Answers, CannedServer, http, serve_canned
from tests.core.credential import UncheckedCredential
from tests.core.failures import format_failure
from tests.core.publisher import credential_config, hub

_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_CLUSTER: Final = ClusterId.of("0b1f6471-1bf0-4dda-aec3-cb9272f09590", "rg", "aks-1")
_KIB: Final = 1024


def _hub(host: str) -> Hub:
    """Without impersonation: one call to Google."""
    config = credential_config(token_url=f"https://{host}/v1/token", service_account_impersonation_url=None)
    document = hub(credentialConfig=config, registries=[host], probe=f"{host}/project/repository/image:1")
    return Hub.parse(document, trusted_hosts=frozenset({host}))


def _endpoint(host: str, authority: Authority) -> Endpoint:
    return Endpoint(server=f"https://{host}", ca=authority.pem, read_at=_NOW)


async def _get(host: str, authority: Authority) -> None:
    async with Api(_endpoint(host, authority), EntraToken("canary")) as api:
        await api.get("/api/v1/namespaces/a")


async def _list(host: str, authority: Authority) -> None:
    async with Api(_endpoint(host, authority), EntraToken("canary")) as api:
        await api.list_page("/api/v1/namespaces", "")


async def _exchange(host: str, _: Authority) -> None:
    await asyncio.to_thread(google.exchange, _hub(host), EntraToken("canary"), _NOW, google.TIMEOUT)


async def _probe(host: str, _: Authority) -> None:
    await registry.probe(_hub(host), Token("canary", _NOW, _NOW + timedelta(hours=1)), "subject")


def _pad(answer: dict[str, Any], size: int) -> bytes:
    """JSON of exactly this size, all of which is needed."""
    return json.dumps({"padding": "x" * (size - len(json.dumps({"padding": "", **answer}))), **answer}).encode()


Call = Callable[[str, Authority], Awaitable[None]]


@pytest.mark.parametrize(
    ("call", "answer", "longest", "failure"),
    [
        pytest.param(_get, {"metadata": {"uid": "u"}}, 1024 * _KIB, ClusterMoved, id="an object"),
        pytest.param(_list, {"metadata": {}, "items": []}, 8192 * _KIB, ClusterMoved, id="a page of a list"),
        pytest.param(
            _exchange,
            {"access_token": "ya29.d.canary", "token_type": "Bearer", "expires_in": 3599},
            64 * _KIB,
            GoogleUnavailable,
            id="a Google token",
        ),
        pytest.param(_probe, {"token": "canary"}, 64 * _KIB, RegistryUnavailable, id="a registry token"),
    ],
)
async def test_a_response_that_is_one_byte_too_long_is_refused(
    call: Call, answer: dict[str, Any], longest: int, failure: type[PullkeeperError], authority: Authority
) -> None:
    body = _pad(answer, longest)

    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", respond)
    server = Server(application, authority=authority)
    await server.start()
    try:
        await call(server.host, authority)
        body = _pad(answer, longest + 1)
        with pytest.raises(failure):
            await call(server.host, authority)
    finally:
        await server.stop()


async def test_an_open_connection_reserves_little_memory(authority: Authority) -> None:
    """Hundreds are open while clusters are silent, and asyncio reserves 256 KiB for each by default."""
    async with serve_canned(authority, {ANY_PATH: http(200, {"metadata": {"uid": "u"}})}) as server:
        tracemalloc.start()
        try:
            async with Api(_endpoint(server.host, authority), EntraToken("canary")) as api:
                await api.get("/api/v1/namespaces/a")
                seen = tracemalloc.take_snapshot().filter_traces(
                    [tracemalloc.Filter(inclusive=True, filename_pattern=sslproto.__file__)]
                )
        finally:
            tracemalloc.stop()
    both_ends = sum(statistic.size for statistic in seen.statistics("filename"))
    assert 0 < both_ends < 128 * _KIB


_DESCRIBED: Final = {
    "location": "westeurope",
    "properties": {"kubernetesVersion": "1.34.2", "powerState": {"code": "Running"}},
}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_of_azure_is_not_followed(authority: Authority, status: int) -> None:
    """The other server would have answered, and would have got the token."""
    async with serve_canned(authority, {ANY_PATH: http(200, _DESCRIBED)}) as elsewhere:
        away = http(status, b"", Location=f"https://{elsewhere.host}/elsewhere")
        async with serve_canned(authority, {ANY_PATH: away}) as server:
            with pytest.raises(PullkeeperError):
                await _describe(server)
            assert len(server.requests) == 1
            server.answers[ANY_PATH] = http(200, _DESCRIBED)
            await _describe(server)
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("kubeconfig", "error"),
    [
        ("users: [{canary: ]", "ParserError"),
        ("clusters: []\nusers: [canary]", "IndexError"),
        ("canary", "TypeError"),
        ("clusters: [{cluster: {}}]\nusers: [{canary: 1}]", "KeyError"),
        ("clusters: [{cluster: {server: 7}}]\nusers: [{user: canary}]", "AttributeError"),
        (
            "clusters: [{cluster: {server: canary, certificate-authority-data: /w==}}]\nusers: [{user: {}}]",
            "UnicodeDecodeError",
        ),
        ("!!python/object/apply:os.getcwd []", "ConstructorError"),
    ],
)
async def test_a_kubeconfig_in_an_unknown_form_is_not_quoted(authority: Authority, kubeconfig: str, error: str) -> None:
    """It contains a key. Nothing that it names is called."""
    path = f"/subscriptions/{_CLUSTER.subscription}/resourceGroups/rg/providers/Microsoft.ContainerService"
    credentials = f"{path}/managedClusters/aks-1/listClusterUserCredential"
    given = {"kubeconfigs": [{"name": "user", "value": base64.b64encode(kubeconfig.encode()).decode()}]}
    answers: Answers = {ANY_PATH: http(200, _DESCRIBED), credentials: http(200, given)}
    async with serve_canned(authority, answers) as server:
        arm = Arm(Entra(UncheckedCredential), f"https://{server.host}")
        with pytest.raises(
            InternalError, match=rf"the kubeconfig from Azure has an unknown form \({error}\)"
        ) as raised:
            await AzureClusters(arm, lambda: _NOW).locate(_CLUSTER)
        await arm.close()
    assert "canary" not in format_failure(raised.value)


async def test_a_failed_call_to_azure_is_left_to_its_caller(authority: Authority) -> None:
    """The SDK would sleep for as long as Azure asks."""
    busy = http(503, {"error": {"code": "Busy", "message": "busy"}}, Retry_After="1")
    async with serve_canned(authority, {ANY_PATH: busy}) as server:
        with pytest.raises(PullkeeperError):
            await _describe(server)
    assert len(server.requests) == 1


async def _describe(server: CannedServer) -> None:
    arm = Arm(Entra(UncheckedCredential), f"https://{server.host}")
    try:
        await AzureClusters(arm, lambda: _NOW).describe(_CLUSTER)
    finally:
        await arm.close()
