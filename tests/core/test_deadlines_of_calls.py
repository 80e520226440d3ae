"""Every call to another service ends with the invocation that makes it, whatever the service does."""

import asyncio
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.mgmt.containerservice.aio  # imported here, because an import takes longer than the deadlines
import azure.mgmt.msi.aio  # noqa: F401 - see above
import pytest
from azure.identity.aio import ManagedIdentityCredential

from local.serving import Authority
from pullkeeper.azure.arm import Arm
from pullkeeper.azure.clusters import AzureClusters, ClusterFacts, _resolves
from pullkeeper.azure.entra import Entra
from pullkeeper.azure.identities import OURS, AzureIdentities, FederatedCredential, ManagedIdentity
from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import Api
from pullkeeper.deadline import deadline
from pullkeeper.errors import (
    ArmUnavailable,
    ClusterThrottled,
    ClusterUnreachable,
    EntraUnavailable,
    GoogleUnavailable,
    PullkeeperError,
    RegistryUnavailable,
    StorageUnavailable,
)
from pullkeeper.fleet.storage import connect_storage, map_storage_errors
from pullkeeper.mints import MintRecord
from pullkeeper.model import ClusterId, Endpoint, Target
from pullkeeper.publisher import registry
from pullkeeper.publisher.chain import Chain
from pullkeeper.publisher.federation import Federation
from pullkeeper.publisher.hub import Hub
from pullkeeper.settings import Settings
from pullkeeper.tokens import EntraToken, Token
from tests.core.canned import ANY_PATH, Answers, CannedServer, http, serve_canned
from tests.core.credential import UncheckedCredential
from tests.core.publisher import SERVICE_ACCOUNT, credential_config, hub

_SHORT = timedelta(seconds=1)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CLUSTER = ClusterId.of("0b1f6471-1bf0-4dda-aec3-cb9272f09590", "rg", "aks-1")
_IDENTITY = ManagedIdentity(
    subscription=_CLUSTER.subscription,
    resource_group="rg",
    name="id-1",
    tenant_id="t",
    client_id="c",
    principal_id="p",
    location="westeurope",
    tags=OURS,
)
_SILENT: Answers = {ANY_PATH: (None,)}
_ENTRA_TOKEN = {"access_token": "canary", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
_IMAGE = "deepintshield-prod/acme/deepintshield"


def _clock() -> datetime:
    return _NOW


@asynccontextmanager
async def _open_arm(server: CannedServer) -> AsyncIterator[Arm]:
    arm = Arm(Entra(UncheckedCredential), f"https://{server.host}")
    try:
        yield arm
    finally:
        await arm.close()


def _hub(server: CannedServer) -> Hub:
    config = credential_config(
        token_url=f"https://{server.host}/v1/token",
        service_account_impersonation_url=f"https://{server.host}/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}"
        ":generateAccessToken",
    )
    document = hub(credentialConfig=config, registries=[server.host], probe=f"{server.host}/{_IMAGE}")
    return Hub.parse(document, trusted_hosts=frozenset({server.host}))


_FACTS = ClusterFacts(
    location="westeurope",
    version="1.34.2",
    power_state="Running",
    provisioning_state="Succeeded",
    provisioning_error=None,
    issuer=None,
    workload_identity=False,
    private_name=None,
    public_name=None,
    document={"properties": {}, "eTag": "1"},
)


async def _describe(server: CannedServer, _: Authority) -> None:
    async with _open_arm(server) as arm:
        await AzureClusters(arm, _clock).describe(_CLUSTER)


async def _locate(server: CannedServer, _: Authority) -> None:
    async with _open_arm(server) as arm:
        await AzureClusters(arm, _clock).locate(_CLUSTER)


async def _enable_workload_identity(server: CannedServer, _: Authority) -> None:
    async with _open_arm(server) as arm:
        await AzureClusters(arm, _clock).enable_workload_identity(_CLUSTER, _FACTS)


async def _find_identity(server: CannedServer, _: Authority) -> None:
    async with _open_arm(server) as arm:
        await AzureIdentities(arm).find(_CLUSTER.subscription, "rg", "id-1")


async def _add_credential(server: CannedServer, _: Authority) -> None:
    credential = FederatedCredential("n", "https://issuer.example/", "system:serviceaccount:a:b")
    async with _open_arm(server) as arm:
        await AzureIdentities(arm).add_credential(_IDENTITY, credential, "api://AzureADTokenExchange")


async def _replace_nothing(*_: object) -> int:
    raise AssertionError("no token was revoked")


async def _get_google_token(server: CannedServer, _: Authority) -> None:
    await Federation(Entra(UncheckedCredential), _clock, _replace_nothing, lambda *_: None).token(_hub(server))


async def _exchange(server: CannedServer, _: Authority) -> None:
    await Chain(Entra(UncheckedCredential), _clock).google_token(_hub(server), EntraToken("canary"))


async def _probe(server: CannedServer, _: Authority) -> None:
    await registry.probe(_hub(server), Token("canary", _NOW, _NOW + timedelta(hours=1)), "subject")


async def _apply(server: CannedServer, authority: Authority) -> None:
    endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at=_NOW)
    async with Api(endpoint, EntraToken("canary")) as api:
        await api.apply("/api/v1/namespaces/a", {"metadata": {}})


async def _add_reference(server: CannedServer, authority: Authority) -> None:
    endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at=_NOW)
    async with Api(endpoint, EntraToken("canary")) as api:
        await pull_secret.add_reference(api, Target(), "sa")


Call = Callable[[CannedServer, Authority], Awaitable[None]]
_CALLS = [
    pytest.param(_describe, ArmUnavailable, id="describe a cluster"),
    pytest.param(_locate, ArmUnavailable, id="locate a cluster"),
    pytest.param(_enable_workload_identity, ArmUnavailable, id="switch on workload identity"),
    pytest.param(_find_identity, ArmUnavailable, id="find an identity"),
    pytest.param(_add_credential, ArmUnavailable, id="add a federated credential"),
    pytest.param(_get_google_token, GoogleUnavailable, id="mint a token"),
    pytest.param(_exchange, GoogleUnavailable, id="exchange a token, which no cancellation ends"),
    pytest.param(_probe, RegistryUnavailable, id="probe a token"),
    pytest.param(_apply, ClusterUnreachable, id="apply an object"),
    pytest.param(_add_reference, ClusterUnreachable, id="read an object"),
]


async def _fail(call: Awaitable[Any], limit: timedelta = _SHORT) -> tuple[type[PullkeeperError], float]:
    """The category with which a call ends under a deadline, and after how many seconds."""
    started = time.monotonic()
    with deadline(limit), pytest.raises(PullkeeperError) as raised:
        await call
    return type(raised.value), time.monotonic() - started


@pytest.mark.parametrize(("call", "category"), _CALLS)
async def test_a_silent_server_costs_no_more_than_the_deadline(
    call: Call, category: type[PullkeeperError], authority: Authority
) -> None:
    async with serve_canned(authority, _SILENT) as server:
        raised, seconds = await _fail(call(server, authority))
    assert raised is category
    assert len(server.requests) == 1
    assert 0.9 < seconds < 4


_SPEED = 20


class _QuickSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout and timeout / _SPEED)


class _QuickLoop(asyncio.SelectorEventLoop):
    """Its time passes fast, so that the time-outs that are deployed end within a test."""

    def __init__(self) -> None:
        super().__init__(_QuickSelector())

    def time(self) -> float:
        return super().time() * _SPEED


@asynccontextmanager
async def _open_entra(server: CannedServer) -> AsyncIterator[Entra]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDENTITY_ENDPOINT", f"https://{server.host}/msi/token")
        patch.setenv("IDENTITY_HEADER", "secret")
        entra = Entra(lambda: ManagedIdentityCredential(retry_total=0))
        try:
            yield entra
        finally:
            await entra.close()


async def _get_entra_token(server: CannedServer, _: Authority) -> None:
    async with _open_entra(server) as entra:
        await entra.token("r")


async def _mint(server: CannedServer, _: Authority) -> None:
    async with _open_entra(server) as entra:
        await Federation(entra, _clock, _replace_nothing, lambda *_: None).token(_hub(server))


async def _call_storage(server: CannedServer, service: str) -> None:
    account = "AccountName=a;AccountKey=YWNjb3VudA==;DefaultEndpointsProtocol=https"
    endpoints = ";".join(f"{name}Endpoint=https://{server.host}/a" for name in ("Table", "Queue"))
    settings = Settings.read({"AzureWebJobsStorage": f"{account};{endpoints}"})
    tables, queues = connect_storage(settings, UncheckedCredential())
    async with tables, queues, map_storage_errors(service):
        if service == "tables":
            await tables.get_table_client("fleet").get_entity("a", "b")
        else:
            await queues.get_queue_client("refresh").get_queue_properties()


async def _read_table(server: CannedServer, _: Authority) -> None:
    await _call_storage(server, "tables")


async def _read_queue(server: CannedServer, _: Authority) -> None:
    await _call_storage(server, "queues")


@pytest.mark.parametrize(
    ("call", "category", "seconds"),
    [
        pytest.param(_describe, ArmUnavailable, 30, id="Azure"),
        pytest.param(_get_entra_token, EntraUnavailable, 30, id="the identity endpoint"),
        pytest.param(_mint, GoogleUnavailable, 60, id="a mint"),
        pytest.param(_probe, RegistryUnavailable, 10, id="the registry"),
        pytest.param(_apply, ClusterUnreachable, 40, id="an API server"),
        pytest.param(_read_table, StorageUnavailable, 30, id="a table"),
        pytest.param(_read_queue, StorageUnavailable, 30, id="a queue"),
    ],
)
def test_a_silent_server_costs_its_time_out(
    call: Call, category: type[PullkeeperError], seconds: float, authority: Authority
) -> None:
    """Outside of an invocation, which may leave less."""

    async def measure() -> float:
        async with serve_canned(authority, _SILENT) as server:
            began = asyncio.get_running_loop().time()
            with pytest.raises(category):
                await call(server, authority)
            is_tried_again = category in {StorageUnavailable, GoogleUnavailable}
            assert (len(server.requests) > 1) is is_tried_again, "a silent connection leaves time for another"
            return asyncio.get_running_loop().time() - began

    with asyncio.Runner(loop_factory=_QuickLoop) as runner:
        assert seconds <= runner.run(measure()) < seconds + 15


@pytest.mark.parametrize(
    ("call", "category"), [(_describe, ArmUnavailable), (_apply, ClusterUnreachable)], ids=["Azure", "an API server"]
)
def test_a_server_that_accepts_no_connection_costs_five_seconds(
    call: Call, category: type[PullkeeperError], authority: Authority
) -> None:
    """As behind a firewall that drops packets: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as opened:
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(full.getsockname())

        async def measure() -> float:
            server = CannedServer({}, host=f"127.0.0.1:{full.getsockname()[1]}")
            began = asyncio.get_running_loop().time()
            with pytest.raises(category):
                await call(server, authority)
            return asyncio.get_running_loop().time() - began

        with asyncio.Runner(loop_factory=_QuickLoop) as runner:
            assert 5 <= runner.run(measure()) < 20


def test_a_name_that_takes_more_than_five_seconds_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it holds no thread that other work waits for."""
    released, threads = threading.Event(), list[str]()

    def hang(*_: object, **__: object) -> Any:
        threads.append(threading.current_thread().name)
        released.wait(10)
        return []

    async def measure() -> float:
        began = asyncio.get_running_loop().time()
        assert not await _resolves("api.privatelink.example")
        return asyncio.get_running_loop().time() - began

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with asyncio.Runner(loop_factory=_QuickLoop) as runner:
        assert 5 <= runner.run(measure()) < 20
        released.set()
    assert [name.partition("_")[0] for name in threads] == ["names"]


@pytest.mark.parametrize(("call", "category"), _CALLS)
async def test_after_the_deadline_a_call_ends_at_once(
    call: Call, category: type[PullkeeperError], authority: Authority
) -> None:
    async with serve_canned(authority, _SILENT) as server:
        raised, seconds = await _fail(call(server, authority), timedelta())
    # The call and the request for its token end in the same millisecond: either may be the one that is named.
    assert raised in {category, EntraUnavailable}
    assert seconds < 2


@pytest.mark.parametrize(
    ("call", "status", "category"),
    [
        pytest.param(_get_google_token, 503, GoogleUnavailable, id="mint"),
        pytest.param(_apply, 429, ClusterThrottled, id="apply"),
    ],
)
async def test_no_retry_begins_that_the_deadline_could_cut_off(
    call: Call, status: int, category: type[PullkeeperError], authority: Authority
) -> None:
    async with serve_canned(
        authority, {ANY_PATH: http(status, {"error": {"code": "Busy", "message": "busy"}})}
    ) as server:
        raised, _ = await _fail(call(server, authority), timedelta(seconds=2))
    assert issubclass(raised, category)
    assert len(server.requests) == 1


@pytest.mark.parametrize("service", ["tables", "queues"])
@pytest.mark.parametrize(
    ("variable", "without", "calls"),
    [("HTTPS_PROXY", "storage.example", {"CONNECT"}), ("HTTPS_PROXY", "127.0.0.1", set()), ("HTTP_PROXY", "", set())],
)
async def test_storage_is_reached_through_the_proxy_for_https_unless_no_proxy_names_its_host(
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    *,
    service: str,
    variable: str,
    without: str,
    calls: set[str],
) -> None:
    async with (
        serve_canned(None, {ANY_PATH: http(502)}) as proxy,
        serve_canned(authority, {ANY_PATH: http(404)}) as server,
    ):
        monkeypatch.setenv(variable, f"http://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", without)
        call = asyncio.create_task(_call_storage(server, service))
        while not (proxy.requests or call.done()):  # noqa: ASYNC110 - the server tells no one
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait({call})
    assert {request.method for request in proxy.requests} == calls
    assert bool(server.requests) is not bool(calls)


@asynccontextmanager
async def _identity_endpoint(answers: Answers, monkeypatch: pytest.MonkeyPatch, pause: float) -> AsyncIterator[Entra]:
    async with serve_canned(None, answers, pause) as endpoint:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{endpoint.host}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "secret")
        entra = Entra(lambda: ManagedIdentityCredential(retry_total=0))
        yield entra
        await entra.close()


async def test_a_silent_identity_endpoint_costs_no_more_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _identity_endpoint(_SILENT, monkeypatch, 0) as entra:
        raised, seconds = await _fail(entra.token("r"))
    assert raised is EntraUnavailable
    assert seconds < 3


async def test_one_callers_deadline_does_not_take_the_token_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: Answers = {"/msi/token": (b"", http(200, _ENTRA_TOKEN))}
    async with _identity_endpoint(slow, monkeypatch, 2 * _SHORT.total_seconds()) as entra:
        hurried = asyncio.create_task(_fail(entra.token("r")))
        await asyncio.sleep(0)
        assert (await entra.token("r")).reveal() == "canary"
        assert (await hurried)[0] is EntraUnavailable


async def test_a_mint_that_the_deadline_cut_off_is_no_refusal_for_the_next_caller(authority: Authority) -> None:
    async with serve_canned(authority, dict(_SILENT)) as server:
        records: list[MintRecord] = []
        federation = Federation(
            Entra(UncheckedCredential), _clock, _replace_nothing, lambda _, record: records.append(record)
        )
        assert (await _fail(federation.token(_hub(server))))[0] is GoogleUnavailable
        server.answers.clear()
        server.answers |= {
            "/v1/token": http(200, {"access_token": "ya29.d.canary", "token_type": "Bearer", "expires_in": 3599}),
            ANY_PATH: http(200, {"accessToken": "ya29.c.canary", "expireTime": "2026-01-01T01:00:00Z"}),
            "/v2/token": http(200, {"token": "canary"}),
        }
        assert (await federation.token(_hub(server))).reveal() == "ya29.c.canary"
