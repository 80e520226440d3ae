"""Promise 7: no token ever reaches a log, an exception, a span, a metric, a table, a queue or an HTTP response.

Each service that the app calls echoes, in turn, every existing credential in the shapes of its own errors. Then
everything that the app logged, stored and responded is searched for pieces of them.
"""

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import azure.functions as func
import pytest
import stamina
from aiohttp import web
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueClient, QueueServiceClient
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from functions import fleet
from local.cloud import LocalCluster
from local.serving import Fault, Faults
from pullkeeper.fleet.table import Member
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_PIECE: Final = 24
"""So many equal characters in a row are no coincidence."""
_GONE: Final = "https://does-not-resolve.invalid:443"


@dataclass(slots=True)
class Witness:
    """Every text that the app produced, with the place where it was found."""

    records: list[tuple[str, str]] = field(default_factory=list)

    def record(self, where: str, text: object) -> None:
        self.records.append((where, str(text)))

    def record_error(self, error: BaseException) -> None:
        """Record an exception as it is printed, and everything that is attached to it."""
        self.record("traceback", "".join(traceback.format_exception(error)))
        seen: dict[int, BaseException] = {}
        links: list[BaseException | None] = [error]
        while links:
            link = links.pop()
            if link is None or id(link) in seen:
                continue
            seen[id(link)] = link
            self.record("exception", f"{link!s} {link!r} {link.args!r} {vars(link)!r}")
            links += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]

    def leaks(self, credentials: list[str]) -> list[str]:
        """Return the places that hold pieces of credentials, each with the beginning of its text."""
        pieces = {piece for credential in credentials for piece in _pieces(credential)}
        return sorted({f"{where}: {text[:300]}" for where, text in self.records if _holds(text, pieces)})


def _holds(text: str, pieces: set[str]) -> bool:
    return not pieces.isdisjoint([text[start : start + _PIECE] for start in range(len(text) - _PIECE + 1)])


def _pieces(credential: str) -> Iterator[str]:
    """Yield pieces of one length: of the text, and of its base64 at each of the three possible offsets."""
    encoded = (base64.b64encode(credential[start:].encode()).decode()[:-4] for start in range(3))
    for form in (credential, *encoded):
        for start in range(0, len(form) - _PIECE, _PIECE // 2):
            yield form[start : start + _PIECE]


class _Handler(logging.Handler):
    """Records every log record of every level, with all its attributes."""

    def __init__(self, witness: Witness) -> None:
        super().__init__(logging.DEBUG)
        self._witness = witness

    def emit(self, record: logging.LogRecord) -> None:
        self._witness.record(f"log of {record.name}", f"{self.format(record)} {vars(record)!r}")


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    witness = Witness()
    handler = _Handler(witness)
    root, ours = logging.getLogger(), logging.getLogger("pullkeeper")
    levels = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)

    async def return_at_once(*_: object) -> None:
        pass

    monkeypatch.setattr("azure.core.pipeline.transport.AsyncHttpTransport.sleep", return_at_once)
    try:
        with stamina.set_testing(True, attempts=2, cap=True):
            yield witness
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


@pytest.fixture(scope="module")
def exported() -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    """Spans and metrics, as the Functions worker would export them. A process sets its providers once."""
    spans, figures = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([figures], shutdown_on_exit=False))
    instrumentors = RequestsInstrumentor(), URLLib3Instrumentor()
    for instrumentor in instrumentors:
        instrumentor.instrument()
    yield spans, figures
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


class Echo(Fault):
    """Responds with every existing credential, in a given shape."""

    def __init__(self, world: World, shape: Callable[[str], str], **more: Any) -> None:
        super().__init__(**more)
        self._world, self._shape = world, shape

    def matches(self, request: web.Request) -> bool:
        fits = super().matches(request)
        if fits:
            self.body = self._shape(" ".join(_credentials(self._world)))
        return fits


def _credentials(world: World) -> list[str]:
    """All credentials that are valid somewhere, the newest first."""
    cloud = world.cloud
    google = list(cloud.google._issued)
    entra = [token for token, _ in cloud.identity._cache.values()]
    keys = [cluster.server.admin_key_pem for cluster in cloud.clusters.values()]
    registry = [token for registry in cloud.registries for token in registry._tokens]
    return [*google[::-1], *entra[::-1], *registry[::-1], *keys]


def _json(**fields: Any) -> Callable[[str], str]:
    """A JSON body; `$` stands for the credentials."""
    return lambda text: json.dumps(fields).replace("$", json.dumps(text)[1:-1])


_CAUSES: Final = [{"reason": "FieldManagerConflict", "message": 'conflict with "$" using v1', "field": ".data.x"}]
_SHAPES: Final[dict[str, tuple[int, Callable[[str], str]]]] = {
    "text-500": (500, lambda text: text),
    "text-400": (400, lambda text: f"Authorization: Bearer {text}"),
    "text-200": (200, lambda text: f"<html>{text}"),
    "token-url": (404, lambda text: f"https://x.example/?access_token={text}&b={text}"),
    "grant": (400, _json(error="invalid_grant", error_description="The audience in ID Token [$] does not match")),
    "iam": (403, _json(error={"code": 403, "message": "$", "status": "PERMISSION_DENIED"})),
    "status-403": (403, _json(kind="Status", message='User "$" cannot patch resource', reason="Forbidden")),
    "status-422": (422, _json(kind="Status", message="immutable: $", reason="Invalid")),
    "conflict": (409, _json(kind="Status", message="conflict: $", reason="Conflict", details={"causes": _CAUSES})),
    "success": (200, _json(metadata={"uid": "$", "managedFields": [{"manager": "$"}]})),
    "as-key": (400, _json(**{"$": "x", "error": {"$": 1}})),
    "basic": (401, lambda text: base64.b64encode(f"oauth2accesstoken:{text}".encode()).decode()),
    "identity": (400, _json(statusCode=400, message="$")),
}


def _faults(world: World, cluster: LocalCluster) -> dict[str, tuple[Faults, str]]:
    cloud = world.cloud
    return {
        "sts": (cloud.google_part.faults, "/v1/token$"),
        "iam": (cloud.google_part.faults, ":generateAccessToken$"),
        "registry": (cloud.registry_parts[0].faults, "/v2/"),
        "cluster": (cluster.part.faults, "/(secrets|serviceaccounts)/"),
        "arm": (cloud.arm_part.faults, ""),
        "identity": (cloud.identity_part.faults, ""),
    }


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("hop", ["sts", "iam", "registry", "cluster", "arm", "identity"])
async def test_a_credential_that_a_service_echoes_leaks_nowhere(
    world: World, witness: Witness, monkeypatch: pytest.MonkeyPatch, hop: str
) -> None:
    monkeypatch.setattr(fleet, "services", lambda: world.services)
    cluster = await world.join("aks-1", local_accounts=hop == "arm")
    await world.join("aks-2", local_accounts=True)
    await world.tick()
    faults, path = _faults(world, cluster)[hop]
    leaks = {}
    for shape, (status, body) in _SHAPES.items():
        world.clock.advance(25 * MINUTE)
        if hop in {"identity", "arm"}:
            await world.services.close()
            world._services = world.build_services()
        if hop == "arm":
            moved = cluster.member.endpoint.model_copy(update={"server": _GONE, "read_at": world.clock()})
            await world.services.fleet.register(Member(cluster.member.cluster, moved))
        echo = Echo(world, body, path=path, status=status)
        faults.add(echo)
        await _exercise(world, witness, cluster)
        faults.clear()
        assert echo.body, f"{shape} was never called"
        if found := witness.leaks(_credentials(world)):
            leaks[shape] = found
        witness.records.clear()
        world.events.seen.clear()
    assert leaks == {}


async def _exercise(world: World, witness: Witness, cluster: LocalCluster) -> None:
    """Run a refresh directly, one through the queue, and the routes, and record everything."""
    try:
        await world.refresh(cluster, "manual")
    except Exception as e:  # noqa: BLE001 - any exception is searched
        witness.record_error(e)
    await world.services.scheduler.run()
    await _record_messages(world, witness)
    await world.process_queue()
    witness.record("diagnosis", (await world.services.diagnostics.examine_cluster(cluster.id)).model_dump_json())
    for route in ("refresh_all", "refresh_cluster"):
        witness.record("HTTP response", await _call_route(route, cluster))
    await _record_tables(world, witness)
    await _record_messages(world, witness)
    async with QueueClient.from_connection_string(world.storage, "refresh") as queue:
        await queue.clear_messages()  # what the routes sent, which is no other refresh than those above


async def test_a_successful_run_leaks_no_token(
    world: World, witness: Witness, exported: tuple[InMemorySpanExporter, InMemoryMetricReader]
) -> None:
    """Includes the spans and metrics of earlier tests. The token in the secret is found, which proves the search."""
    cluster = await world.join("aks-1")
    await world.join("aks-2", local_accounts=True)
    for _ in range(3):
        await world.services.scheduler.run()
        await _record_messages(world, witness)
        await world.process_queue()
        world.clock.advance(25 * MINUTE)
    await cluster.admin.delete_secret("deepintshield", "ar-pull-secret")
    await world.tick()
    await _record_tables(world, witness)
    _record_exported(exported, witness)
    assert witness.leaks(_credentials(world)) == []
    assert {"secret.refreshed", "token.minted", "drift.repaired"} <= {event["event"] for event in world.events.seen}
    secret = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    witness.record("the secret", json.dumps(secret))
    assert [leak[:10] for leak in witness.leaks(_credentials(world))] == ["the secret"]


async def _record_tables(world: World, witness: Witness) -> None:
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        async for table in tables.list_tables():
            async for entity in tables.get_table_client(table.name).list_entities():
                witness.record(f"table {table.name}", json.dumps(dict(entity), default=str))


async def _record_messages(world: World, witness: Witness) -> None:
    async with QueueServiceClient.from_connection_string(world.storage) as queues:
        async for queue in queues.list_queues():
            async with queues.get_queue_client(queue.name) as client:
                for message in await client.peek_messages(32):
                    text = base64.b64decode(message.content).decode(errors="replace")
                    witness.record(f"queue {queue.name}", text)


def _record_exported(exported: tuple[InMemorySpanExporter, InMemoryMetricReader], witness: Witness) -> None:
    spans, figures = exported
    for span in spans.get_finished_spans():
        witness.record("span", span.to_json())
    found = figures.get_metrics_data()
    witness.record("metrics", found.to_json() if found else "")
    spans.clear()


async def _call_route(route: str, cluster: LocalCluster) -> str:
    parts = {
        "subscription": cluster.id.subscription,
        "resourceGroup": cluster.id.resource_group,
        "name": cluster.id.name,
    }
    request = func.HttpRequest("POST", "https://app.example/api/refresh", route_params=parts, body=b"")
    response = await getattr(fleet, route)._function.get_user_function()(request)
    return f"{response.status_code} {response.headers} {response.get_body().decode()}"
