"""Every error response of Azure Resource Manager has its category."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from local.serving import Authority
from pullkeeper.azure.arm import Arm
from pullkeeper.azure.clusters import AzureClusters, _parse_facts
from pullkeeper.azure.entra import Entra
from pullkeeper.azure.identities import OURS, AzureIdentities, FederatedCredential, ManagedIdentity
from pullkeeper.errors import (
    ArmDenied,
    ArmUnavailable,
    ClusterGone,
    FederatedCredentialBusy,
    FederatedCredentialConflict,
    InternalError,
    OnboardingRoleMissing,
    PullkeeperError,
    ScopeLocked,
)
from pullkeeper.model import ClusterId
from tests.core import azure_answers
from tests.core.answers import Answer
from tests.core.canned import ANY_PATH, CannedServer, http, serve_canned
from tests.core.credential import UncheckedCredential

_CLUSTER = ClusterId.of("0b1f6471-1bf0-4dda-aec3-cb9272f09590", "rg", "aks-1")
_IDENTITY = ManagedIdentity(_CLUSTER.subscription, "rg", "id-1", "t", "c", "p", "westeurope", OURS)
_NOT_AUTHORIZED = (
    "The client '5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b' with object id '5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b' does not "
    "have authorization to perform action 'Microsoft.ContainerService/managedClusters/read' over scope "
    f"'{_CLUSTER}' or the scope is invalid. If access was recently granted, please refresh your credentials."
)


@asynccontextmanager
async def _open_arm(server: CannedServer, denied: type[ArmDenied] = ArmDenied) -> AsyncIterator[Arm]:
    arm = Arm(Entra(UncheckedCredential), f"https://{server.host}", denied=denied)
    try:
        yield arm
    finally:
        await arm.close()


def _error(status: int, code: str, message: str, **headers: str) -> bytes:
    return http(status, {"error": {"code": code, "message": message}}, Content_Type="application/json", **headers)


async def _describe(server: CannedServer, denied: type[ArmDenied] = ArmDenied) -> PullkeeperError:
    async with _open_arm(server, denied) as arm:
        with pytest.raises(PullkeeperError) as raised:
            await AzureClusters(arm, lambda: datetime(2026, 1, 1, tzinfo=UTC)).describe(_CLUSTER)
    return raised.value


async def test_each_subscription_is_called_under_its_own_id(authority: Authority) -> None:
    others = [_CLUSTER, _CLUSTER._replace(subscription="00000000-0000-0000-0000-000000005eed")]
    async with serve_canned(authority, {ANY_PATH: _error(404, "ResourceNotFound", "was not found.")}) as server:
        async with _open_arm(server) as arm:
            for cluster in others:
                with pytest.raises(ClusterGone):
                    await AzureClusters(arm, lambda: datetime(2026, 1, 1, tzinfo=UTC)).describe(cluster)
        assert [request.path.split("/")[2] for request in server.requests] == [one.subscription for one in others]


@pytest.mark.parametrize(
    ("variable", "without", "calls"),
    [
        ("HTTPS_PROXY", "azure.example", ["CONNECT"]),
        ("HTTPS_PROXY", "127.0.0.1", []),
        ("HTTPS_PROXY", "{host}", []),
        ("HTTP_PROXY", "", []),
    ],
)
async def test_azure_is_called_by_the_proxy_for_https_unless_no_proxy_names_its_host(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str, without: str, calls: list[str]
) -> None:
    failed = {ANY_PATH: http(503)}
    async with serve_canned(None, {**failed}) as proxy, serve_canned(authority, {**failed}) as server:
        monkeypatch.setenv(variable, f"http://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", without.format(host=server.host))
        assert type(await _describe(server)) is ArmUnavailable
    assert [request.method for request in proxy.requests] == calls
    assert len(server.requests) == 1 - len(calls)


@pytest.mark.usefixtures("netrc")
async def test_a_password_in_netrc_does_not_stop_calls_to_azure(authority: Authority) -> None:
    """The client would refuse to combine it with the token."""
    found = http(200, {"location": "x", "properties": {"kubernetesVersion": "1.34.2"}})
    async with serve_canned(authority, {ANY_PATH: found}) as server, _open_arm(server) as arm:
        await AzureClusters(arm, lambda: datetime(2026, 1, 1, tzinfo=UTC)).describe(_CLUSTER)
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer canary"]


async def test_a_cluster_that_is_deleted_after_it_was_read_is_gone(authority: Authority) -> None:
    facts = _parse_facts({"location": "x", "properties": {"kubernetesVersion": "1.34.2"}})
    gone = _error(404, "ResourceNotFound", "was not found.")
    async with serve_canned(authority, {ANY_PATH: gone}) as server, _open_arm(server) as arm:
        clusters = AzureClusters(arm, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        for call in (clusters.locate, clusters.enable_workload_identity):
            with pytest.raises(ClusterGone) as raised:
                await call(_CLUSTER, facts)
            assert f"--subscription {_CLUSTER.subscription} --resource-group rg --name aks-1" in raised.value.remedy
    assert len(server.requests) == 2


async def test_without_an_endpoint_each_call_has_a_failure_of_its_own() -> None:
    """A traceback grows each time that it is raised."""
    wrong = InternalError("ARM_ENDPOINT is no URL")
    clusters, raised = AzureClusters(Arm(Entra(UncheckedCredential), wrong), lambda: datetime.now(UTC)), []
    for _ in range(2):
        with pytest.raises(InternalError, match="ARM_ENDPOINT") as failure:
            await clusters.describe(_CLUSTER)
        raised.append(failure.value)
    assert raised[0] is not raised[1]


@pytest.mark.parametrize("spelling", ["eTag", "etag"])
async def test_a_cluster_is_put_back_whole_under_its_etag(authority: Authority, spelling: str) -> None:
    properties = {"kubernetesVersion": "1.34.2", "oidcIssuerProfile": {"enabled": False, "later": 1}}
    facts = _parse_facts({"location": "x", "properties": properties, spelling: "7"})
    async with serve_canned(authority, {ANY_PATH: http(200, {})}) as server, _open_arm(server) as arm:
        await AzureClusters(arm, lambda: datetime(2026, 1, 1, tzinfo=UTC)).enable_workload_identity(_CLUSTER, facts)
    [update] = server.requests
    assert update.headers["if-match"] == '"7"'
    assert json.loads(update.body)["properties"]["oidcIssuerProfile"] == {"enabled": True, "later": 1}


@pytest.mark.parametrize("found", [{}, {"properties": {}}, {"properties": 7}, []])
def test_what_is_no_cluster_is_not_quoted(found: object) -> None:
    with pytest.raises(InternalError, match=r"Azure described a cluster in an unknown form \(\w+\)"):
        _parse_facts(found)


async def _add_credential(server: CannedServer) -> PullkeeperError:
    credential = FederatedCredential("n", "https://issuer.example/", "system:serviceaccount:a:b")
    async with _open_arm(server) as arm:
        with pytest.raises(PullkeeperError) as raised:
            await AzureIdentities(arm).add_credential(_IDENTITY, credential, "api://AzureADTokenExchange")
    return raised.value


@pytest.mark.parametrize(
    ("response", "category"),
    [
        pytest.param(_error(401, "InvalidAuthenticationToken", "The access token is invalid."), ArmDenied, id="401"),
        pytest.param(_error(403, "AuthorizationFailed", _NOT_AUTHORIZED), ArmDenied, id="403"),
        pytest.param(_error(404, "ResourceNotFound", "was not found."), ClusterGone, id="404"),
        pytest.param(_error(408, "RequestTimeout", "No response."), ArmUnavailable, id="408"),
        pytest.param(_error(500, "InternalServerError", "Try again later."), ArmUnavailable, id="500"),
        pytest.param(http(502, b"<html>", Content_Type="text/html"), ArmUnavailable, id="a gateway's page"),
        pytest.param(http(200, b"<html>", Content_Type="application/json"), ArmUnavailable, id="200 without JSON"),
        pytest.param(http(200, b"", Content_Type="application/json"), ArmUnavailable, id="nothing"),
        pytest.param(http(200, b"[" * 60_000, Content_Type="application/json"), ArmUnavailable, id="deeply nested"),
        pytest.param(http(200, b"{}" + b" " * 1000)[:-500], ArmUnavailable, id="broken off"),
        pytest.param(_error(400, "InvalidApiVersionParameter", "The api-version is invalid."), InternalError, id="400"),
        pytest.param(http(302, b"", Location="https://127.0.0.1:9/"), InternalError, id="a redirect"),
    ],
)
async def test_every_response_has_its_category(
    response: bytes, category: type[PullkeeperError], authority: Authority
) -> None:
    async with serve_canned(authority, {ANY_PATH: response}) as server:
        failure = await _describe(server)
    assert type(failure) is category
    assert failure.context["cluster"] == str(_CLUSTER)


@pytest.mark.parametrize(
    ("answer", "command"), azure_answers.ANSWERS.items(), ids=lambda value: getattr(value, "case", "")
)
async def test_a_refusal_is_known_by_its_code_and_its_remedy_has_the_names(
    answer: Answer, command: str, authority: Authority
) -> None:
    """No wait helps, whatever the status."""
    body = http(answer.status, answer.body.encode(), Content_Type="application/json")
    async with serve_canned(authority, {ANY_PATH: body}) as server:
        failure = await _describe(server)
    assert type(failure) is answer.kind
    assert not failure.retryable
    assert command in failure.remedy


@pytest.mark.parametrize("answer", azure_answers.TEMPORARY, ids=lambda answer: answer.case)
async def test_what_passes_is_retried_or_waited_for(answer: Answer, authority: Authority) -> None:
    body = http(answer.status, answer.body.encode(), Content_Type="application/json")
    async with serve_canned(authority, {ANY_PATH: body}) as server:
        failure = await _describe(server)
    assert type(failure) is answer.kind
    assert failure.retryable


async def test_a_missing_right_of_the_identity_that_onboards_has_its_own_remedy(authority: Authority) -> None:
    async with serve_canned(authority, {ANY_PATH: _error(403, "AuthorizationFailed", _NOT_AUTHORIZED)}) as server:
        assert type(await _describe(server, OnboardingRoleMissing)) is OnboardingRoleMissing


async def test_retry_after_is_passed_on(authority: Authority) -> None:
    async with serve_canned(authority, {ANY_PATH: _error(429, "TooManyRequests", "Later.", Retry_After="7")}) as server:
        assert (await _describe(server)).retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Issuer and subject combination already exists for this Managed Identity."),
        (400, "Too many Federated Identity Credentials for the managed identity 'id-1'."),
        (409, "The resource is busy."),
    ],
)
async def test_a_credential_that_azure_does_not_take_is_a_conflict(
    status: int, message: str, authority: Authority
) -> None:
    async with serve_canned(authority, {ANY_PATH: _error(status, "Refused", message)}) as server:
        failure = await _add_credential(server)
    assert type(failure) is FederatedCredentialConflict
    assert f"--subscription {_CLUSTER.subscription} --resource-group rg --identity-name id-1" in failure.remedy


async def test_an_identity_without_tags_is_neither_ours_nor_shared(authority: Authority) -> None:
    found = {"name": "id-1", "location": "x", "properties": {"tenantId": "t", "clientId": "c", "principalId": "p"}}
    async with serve_canned(authority, {ANY_PATH: http(200, found)}) as server, _open_arm(server) as arm:
        identity = await AzureIdentities(arm).find(_CLUSTER.subscription, "rg", "id-1")
    assert identity
    assert (identity.ours, identity.shared) == (False, False)


async def test_an_identity_that_is_gone_is_a_conflict(authority: Authority) -> None:
    """It was there when the operation looked for it, which it does again after a conflict."""
    async with serve_canned(authority, {ANY_PATH: _error(404, "ResourceNotFound", "was not found.")}) as server:
        assert type(await _add_credential(server)) is FederatedCredentialConflict
        async with _open_arm(server) as arm:
            with pytest.raises(FederatedCredentialConflict):
                await AzureIdentities(arm).list_credentials(_IDENTITY)


async def test_an_identity_that_is_locked_is_not_deleted(authority: Authority) -> None:
    locked = _error(409, "ScopeLocked", "The scope cannot perform delete operation.")
    async with serve_canned(authority, {ANY_PATH: locked}) as server, _open_arm(server) as arm:
        with pytest.raises(ScopeLocked):
            await AzureIdentities(arm).delete(_IDENTITY)


async def test_a_write_beside_another_one_is_waited_for(authority: Authority) -> None:
    code = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
    async with serve_canned(authority, {ANY_PATH: _error(409, code, "Too many are written concurrently.")}) as server:
        failure = await _add_credential(server)
    assert type(failure) is FederatedCredentialBusy
    assert failure.is_wait
    assert len(server.requests) == 1
