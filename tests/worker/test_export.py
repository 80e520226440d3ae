"""What Microsoft's worker exports of the app to Application Insights."""

import gzip
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pullkeeper.fleet.shards import shard_of
from tests.worker.conftest import SUCCESS, Worker
from tests.world import World

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(
        sys.version_info < (3, 13), reason="Microsoft publishes the worker's library for Python 3.13 and later only"
    ),
]
_KEY: Final = "00000000-0000-0000-0000-000000000001"
_ROOT: Final = Path(__file__).parents[2]


class Ingestion:
    """An ingestion endpoint. items: the telemetry that it has received."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        text = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
        if request.path.endswith("/track"):
            found = [json.loads(line) for line in text.splitlines() if line]
            for batch in found:
                self.items += batch if isinstance(batch, list) else [batch]
        return web.json_response({"itemsReceived": 1, "itemsAccepted": 1, "errors": []})

    def counts(self) -> Counter[str]:
        """Items by type, and by name where they are events."""
        data = [item["data"] for item in self.items]
        return Counter(one["baseData"].get("name") or one["baseType"] for one in data)


@pytest.fixture
async def ingestion() -> AsyncIterator[Ingestion]:
    ingestion = Ingestion()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", ingestion.receive)
    async with TestServer(app) as server:
        ingestion.url = str(server.make_url("/"))
        yield ingestion


@pytest.mark.parametrize("enabled", ["true", ""])
async def test_a_refresh_exports_its_events_and_metrics_alone(
    worker: Callable[..., Awaitable[Worker]], world: World, ingestion: Ingestion, enabled: str
) -> None:
    """With the settings of docs/reference.md. Without the one that enables it, nothing is exported."""
    cluster = await world.join("aks-1")
    connection = f"InstrumentationKey={_KEY};IngestionEndpoint={ingestion.url};LiveEndpoint={ingestion.url}"
    settings = {
        "REFRESH_SCHEDULE": "0 */5 * * * *",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": connection,
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",  # would be sent to Microsoft
        "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": enabled,
        "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME": "pullkeeper",
        "OTEL_TRACES_EXPORTER": "none",
    }
    running = await worker(_ROOT, {**world.cloud.environment(world.storage), **settings})
    body = json.dumps({"shard": shard_of(cluster.id), "cluster": str(cluster.id), "reason": "manual"})
    refreshed = await running.invoke("refresh", queue={"body": body, "metadata": {"Id": "1"}})
    await running.end()

    assert refreshed["result"]["status"] == SUCCESS, refreshed
    counts = ingestion.counts()
    metrics = counts.pop("MetricData", 0)
    events = dict.fromkeys(("token.minted", "secret.refreshed", "shard.completed", "fleet.status"), 1)
    assert (counts, metrics > 0) == ((events, True) if enabled else ({}, False))
