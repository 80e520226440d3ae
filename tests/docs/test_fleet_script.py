"""docs/examples/fleet.sh, run as a pipeline runs it: against the hosted app, and against responses that are rare.

Mostly with a program in the place of az, which prints ids as az does; once with the real Azure CLI.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web

from local.azure.arm import READER
from local.azure.entra import IdentityEndpoint
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.serving import Server
from pullkeeper.errors import ClusterGone
from pullkeeper.model import ClusterId
from tests.apiserver import at_hand
from tests.docs import azure_cli
from tests.docs.pipelines import FLEET_SCRIPT, Run, run_program
from tests.http.conftest import App

SUCCEEDED, FAILED, WRONG_USAGE, AWAITING_FEDERATION, NO_RESULT = range(5)
on_the_app = pytest.mark.asyncio(loop_scope="module")
TAG: Final = "pullkeeper=yes"
ONE: Final = str(ClusterId(SUBSCRIPTION, GROUP, "aks-1"))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline's machine. Its az prints the ids of these clusters, and records its arguments."""

    folder: Path
    url: str
    key: str = "key"
    clusters: list[str] = field(default_factory=lambda: [ONE])

    async def run(self, *arguments: str, body: Mapping[str, Any] | None = None, **environment: str) -> Run:
        for program in ("curl", "jq"):
            at_hand.program(program)
        az = self.folder / "az"
        az.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >>az.log\ncat ids\n', encoding="utf-8")
        az.chmod(0o755)
        (self.folder / "ids").write_text("".join(f"{one}\n" for one in self.clusters), encoding="utf-8")
        (self.folder / "fleet.json").write_text(json.dumps(body or {"hub": "main"}), encoding="utf-8")
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "NO_PROXY": "127.0.0.1",
            "PULLKEEPER_URL": self.url,
            "PULLKEEPER_KEY": self.key,
            "PULLKEEPER_INTERVAL": "1",
            **environment,
        }
        return await run_program(["bash", str(FLEET_SCRIPT), *arguments], environment, self.folder)

    async def onboard(self, **options: Any) -> Run:
        return await self.run("onboard", TAG, "fleet.json", **options)

    async def offboard(self) -> Run:
        return await self.run("offboard", TAG)

    @property
    def az_calls(self) -> list[str]:
        return (self.folder / "az.log").read_text(encoding="utf-8").splitlines()


@pytest_asyncio.fixture(loop_scope="module")
async def clusters(app: App, tmp_path: Path) -> list[LocalCluster]:
    """Two that may be onboarded, and one that Azure no longer knows."""
    found = [await app.add_cluster(f"{tmp_path.name}-{name}") for name in ("west", "edge", "gone")]
    app.world.cloud.arm.clusters.remove(str(found[2].id))
    return found


@pytest.fixture
def pipeline(app: App, clusters: list[LocalCluster], tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path, app.host.url, app.host.keys.default, [str(one.id) for one in clusters])


def test_the_script_is_executable() -> None:
    assert os.access(FLEET_SCRIPT, os.X_OK)


@pytest.mark.servers
@on_the_app
async def test_a_fleet_is_onboarded_and_the_clusters_that_failed_are_named(
    app: App, pipeline: Pipeline, clusters: Sequence[LocalCluster]
) -> None:
    first = await pipeline.onboard()
    assert first.code == FAILED, first
    assert f"3 clusters with {TAG}: 0 are done already, 3 operations to follow" in first.out
    assert "2 Succeeded, 1 Failed, 0 AwaitingFederation, 0 under way" in first.out.splitlines()[-1]
    summary, name, failure, remedy = first.err.splitlines()
    assert summary == "1 of 3 clusters failed:"
    assert name == str(clusters[2].id)
    assert failure.startswith("  failed (cluster_gone): ")
    known = ClusterGone("", {"cluster": str(clusters[2].id)}).remedy
    assert remedy.startswith(f"  remedy: {known}. Then onboard again: ")
    for cluster in clusters[:2]:
        assert (await app.world.read_token(cluster)).startswith("ya29.")
    assert pipeline.key not in first.out + first.err

    again = await pipeline.onboard()
    assert again.code == FAILED, again
    assert "3 clusters with pullkeeper=yes: 2 are done already, 1 operations to follow" in again.out


@pytest.mark.servers
@on_the_app
async def test_a_second_run_finds_nothing_to_do_and_offboarding_works_likewise(
    app: App, pipeline: Pipeline, clusters: Sequence[LocalCluster]
) -> None:
    pipeline.clusters.pop()
    for start in (pipeline.onboard, pipeline.offboard):
        first = await start()
        assert (first.code, first.err) == (SUCCEEDED, ""), first
        assert "0 are done already, 2 operations to follow" in first.out
        second = await start()
        assert (second.code, second.err) == (SUCCEEDED, ""), second
        assert "2 are done already, 0 operations" in second.out
    with pytest.raises(AssertionError, match="404"):
        await app.world.read_token(clusters[0])
    back = await pipeline.onboard()
    assert "0 are done already, 2 operations to follow" in back.out


@pytest.mark.servers
@on_the_app
async def test_a_fleet_without_a_hub_awaits_the_publisher(pipeline: Pipeline) -> None:
    del pipeline.clusters[1:]
    run = await pipeline.onboard(body={"hub": None})
    assert (run.code, run.err) == (AWAITING_FEDERATION, ""), run
    assert "1 AwaitingFederation, 0 under way" in run.out


@pytest.mark.servers
@on_the_app
async def test_a_refused_cluster_does_not_keep_the_others_back(pipeline: Pipeline) -> None:
    foreign = str(ClusterId("0" * 8 + "-0000-0000-0000-" + "0" * 12, GROUP, "aks-1"))
    pipeline.clusters[:] = [foreign, pipeline.clusters[0]]
    run = await pipeline.onboard()
    assert run.code == FAILED, run
    assert "1 Succeeded, 1 Failed" in run.out
    assert f"{foreign}\n  failed (invalid_request): HTTP 403, " in run.err


class Canned:
    """An app with one cluster and one operation.

    known: whether they are there before the first POST. ends: the operation's status after one look at those that run.
    """

    def __init__(self, status: str, *, known: bool = False, ends: str | None = None, **operation: Any) -> None:
        self.operation = {"id": "0" * 32, "kind": "onboard", "cluster": ONE, "steps": [], "result": None, **operation}
        self.status, self.known, self.ends = status, known, ends
        self.sent: list[Any] = []

    async def handle(self, request: web.Request) -> web.Response:
        operation = {**self.operation, "status": self.status}
        if request.method in {"POST", "DELETE"}:
            self.sent.append(await request.json() if request.can_read_body else request.path)
            return web.json_response(operation, status=202)
        if request.path.endswith("0"):
            return web.json_response(operation)
        wanted = request.query.get("status")
        shown = [operation] if self.known and wanted in {None, self.status} else []
        if wanted == "Running":
            self.known, self.status = True, self.ends or self.status
        in_fleet = self.known and operation["kind"] == "onboard"
        return web.json_response({"clusters": [{"cluster": ONE}] if in_fleet else [], "operations": shown})


async def run_canned(canned: Canned, folder: Path, *arguments: str, **environment: Any) -> tuple[Run, Pipeline]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", canned.handle)
    server = Server(application, authority=None)
    await server.start()
    try:
        pipeline = Pipeline(folder, server.url)
        return await pipeline.run(*(arguments or ("onboard", TAG, "fleet.json")), **environment), pipeline
    finally:
        await server.stop()


async def test_a_run_follows_what_is_under_way(tmp_path: Path) -> None:
    canned = Canned("Running", known=True, ends="Succeeded")
    run, _ = await run_canned(canned, tmp_path)
    assert (run.code, run.err, canned.sent) == (SUCCEEDED, "", []), run
    lines = run.out.splitlines()
    assert lines[0].endswith("0 are done already, 1 operations to follow")
    assert [line.partition(",")[0] for line in lines[1:]] == ["0 Succeeded", "1 Succeeded"]


async def test_a_changed_body_is_sent_again_on_demand(tmp_path: Path) -> None:
    canned = Canned("Succeeded", known=True)
    run, _ = await run_canned(canned, tmp_path)
    assert (run.code, canned.sent) == (SUCCEEDED, []), run
    run, _ = await run_canned(canned, tmp_path, PULLKEEPER_AGAIN="yes")
    assert (run.code, canned.sent) == (SUCCEEDED, [{"hub": "main", "cluster": ONE}]), run


async def test_a_dry_run_counts_as_nothing_done(tmp_path: Path) -> None:
    canned = Canned("Succeeded", known=True, dryRun=True)
    run, _ = await run_canned(canned, tmp_path)
    assert (run.code, canned.sent) == (SUCCEEDED, [{"hub": "main", "cluster": ONE}]), run


@pytest.mark.parametrize("kept", [False, True])
async def test_an_offboarding_that_kept_the_workload_is_not_done(tmp_path: Path, *, kept: bool) -> None:
    canned = Canned("Succeeded", known=True, kind="offboard", keepWorkload=kept)
    run, _ = await run_canned(canned, tmp_path, "offboard", TAG)
    assert (run.code, len(canned.sent)) == (SUCCEEDED, int(kept)), run


async def test_a_run_stops_waiting_and_prints_where_to_look(tmp_path: Path) -> None:
    run, _ = await run_canned(Canned("Running"), tmp_path, PULLKEEPER_PATIENCE="3")
    assert run.code == NO_RESULT, run
    assert "/api/operations?status=Running" in run.err


async def test_the_body_is_sent_for_each_cluster_of_each_subscription(tmp_path: Path) -> None:
    canned = Canned("Succeeded")
    run, pipeline = await run_canned(canned, tmp_path, "onboard", "team one=it", "fleet.json", "first", "second")
    assert run.code == SUCCEEDED, run
    assert canned.sent == [{"hub": "main", "cluster": ONE}] * 2
    query = "--query [?tags.\"team one\" == 'it'].id --output tsv"
    assert pipeline.az_calls == [f"aks list --subscription {name} {query}" for name in ("first", "second")]


async def test_the_text_of_a_service_is_no_command_to_the_agent(tmp_path: Path) -> None:
    text = "no\n::error::mine\x1b[2J ##vso[task.setvariable variable=PATH]x"
    step = {"name": "identity", "status": "failed", "detail": text, "category": "internal", "remedy": text}
    run, _ = await run_canned(Canned("Failed", steps=[step]), tmp_path)
    assert run.code == FAILED
    assert "  failed (internal): no ::error::mine" in run.err
    printed = run.out + run.err
    assert "##" not in printed
    assert [line for line in printed.splitlines() if line.startswith("::") or not line.isprintable()] == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("onboard", TAG),
        ("onboard", TAG, "missing.json"),
        ("onboard", "a", "fleet.json"),
        ("onboard", "a='] || [?'", "fleet.json"),
        ("offboard",),
        ("delete", TAG),
    ],
)
async def test_wrong_usage_calls_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run = await Pipeline(tmp_path, "http://127.0.0.1:9").run(*arguments)
    assert run.code == WRONG_USAGE, run
    assert not (tmp_path / "az.log").exists()


async def test_a_tag_of_no_cluster_is_wrong_usage(tmp_path: Path) -> None:
    run = await Pipeline(tmp_path, "http://127.0.0.1:9", clusters=[]).run("offboard", TAG)
    assert (run.code, run.err) == (WRONG_USAGE, f"no cluster has the tag {TAG}\n")


@pytest.mark.servers
@on_the_app
async def test_the_real_az_lists_the_clusters_with_the_tag(
    app: App, clusters: Sequence[LocalCluster], tmp_path: Path
) -> None:
    az = azure_cli.program("az")
    world, host = app.world, app.host
    cloud = world.cloud
    for cluster, tags in zip(clusters, ({"pullkeeper": "yes"}, {"pullkeeper": "no"}), strict=False):
        cloud.arm.clusters.get(str(cluster.id)).rest = {"tags": tags}
    identity = cloud.entra.add_identity("onboarding-pipeline")
    cloud.arm.assign(identity.principal_id, f"/subscriptions/{SUBSCRIPTION}", READER)
    settings = cloud.environment(world.storage)
    (tmp_path / ".azure").mkdir()
    configuration = f"[AzureCloud]\nendpoint_resource_manager = {settings['ARM_ENDPOINT']}\n"
    (tmp_path / ".azure" / "clouds.config").write_text(configuration, encoding="utf-8")
    (tmp_path / "fleet.json").write_text('{"hub": "main"}', encoding="utf-8")
    endpoint = IdentityEndpoint(cloud.entra, world.clock, [], identity)
    application = web.Application()
    application.add_routes(endpoint.routes())
    server = Server(application, authority=None)
    await server.start()
    environment = {
        **azure_cli.environment(tmp_path),
        **dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), settings["SSL_CERT_FILE"]),
        **endpoint.environment(server.url),
        "PULLKEEPER_URL": host.url,
        "PULLKEEPER_KEY": host.keys.default,
        "PULLKEEPER_INTERVAL": "1",
    }
    login = await run_program([str(az), "login", "--identity", "--output", "none"], environment, tmp_path)
    assert (login.code, login.err) == (0, "")
    run = await run_program(["bash", str(FLEET_SCRIPT), "onboard", TAG, "fleet.json"], environment, tmp_path)
    await server.stop()
    assert (run.code, run.err) == (SUCCEEDED, ""), run
    assert f"1 clusters with {TAG}: 0 are done already, 1 operations to follow" in run.out
    assert (await app.world.read_token(clusters[0])).startswith("ya29.")
