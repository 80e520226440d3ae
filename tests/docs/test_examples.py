"""The script that the examples for pipelines run, run for real."""

import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aiohttp import web

from local.cloud import GROUP, LocalCluster
from local.host import HostProcess
from local.serving import Server
from pullkeeper.errors import ClusterGone
from pullkeeper.model import ClusterId
from tests.apiserver import at_hand
from tests.docs.azure_cli import JUDGES
from tests.docs.pages import ROOT
from tests.docs.pipelines import SCRIPT, Run, run_to_the_end
from tests.world import World

SUCCEEDED, FAILED, CALLED_WRONGLY, AWAITING, NO_END = range(5)
OPERATION: Final = f"/api/operations/{'0' * 32}"


async def onboard(folder: Path, url: str, body: Mapping[str, Any], **environment: str) -> Run:
    """The script as a pipeline runs it: in a folder of its own, with nothing in its environment but what it names."""
    for program in ("curl", "jq"):
        at_hand.program(program)
    (folder / "body.json").write_text(json.dumps(body), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "PULLKEEPER_URL": url, **environment}
    return await run_to_the_end(["bash", str(SCRIPT), "body.json"], environment, folder)


def test_the_script_parses() -> None:
    done = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.parametrize(
    "script", [SCRIPT, ROOT / ".ci" / "run", ROOT / ".ci" / "python", JUDGES / "recorder"], ids=lambda path: path.name
)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    arguments = [at_hand.program("shellcheck"), script]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == ""


@dataclass(frozen=True, slots=True)
class Hosted:
    """The app at its address, and a cluster that is still to be onboarded."""

    world: World
    host: HostProcess
    cluster: LocalCluster
    folder: Path

    async def onboard(self, **wanted: Any) -> Run:
        body = {"cluster": str(self.cluster.id), **wanted}
        return await onboard(self.folder, self.host.url, body, PULLKEEPER_KEY=self.host.keys.default)


@pytest.fixture
async def hosted(world: World, host: HostProcess, tmp_path: Path) -> Hosted:
    return Hosted(world, host, await world.cloud.add_cluster("aks-1", "main", ready=False), tmp_path)


@pytest.mark.servers
async def test_the_script_onboards_a_cluster(hosted: Hosted) -> None:
    run = await hosted.onboard(hub="main")
    assert (run.code, run.err) == (SUCCEEDED, ""), run
    ended = [line.split("  ")[1].split(":")[0] for line in run.out.splitlines() if line.startswith("done  ")]
    assert ended[0] == "inspect cluster"
    assert "pull secret" in ended
    assert len(ended) == len(set(ended))
    assert re.search(r"^Succeeded after [\d.]+ s$", run.out, re.MULTILINE)
    assert (await hosted.world.read_token(hosted.cluster)).startswith("ya29.")
    assert hosted.host.keys.default not in run.out


@pytest.mark.servers
async def test_the_script_fails_with_category_and_remedy(hosted: Hosted) -> None:
    hosted.world.cloud.arm.clusters.remove(str(hosted.cluster.id))
    run = await hosted.onboard(hub="main")
    assert run.code == FAILED, run
    assert "failed  inspect cluster: " in run.out
    told, remedy = run.err.splitlines()[-2:]
    assert told.startswith("failed (cluster_gone): ")
    assert remedy == f"remedy: {ClusterGone('', {'cluster': str(hosted.cluster.id)}).remedy}"


@pytest.mark.servers
async def test_the_script_hands_over_what_the_publisher_must_trust(hosted: Hosted) -> None:
    run = await hosted.onboard()
    assert (run.code, run.err) == (AWAITING, ""), run
    assert f"  objectId: {hosted.world.cloud.app.principal_id}" in run.out
    assert "  gcloud iam workload-identity-pools providers create-oidc " in run.out


@pytest.mark.servers
async def test_the_script_tells_what_the_app_refuses(hosted: Hosted) -> None:
    run = await hosted.onboard(cluster=str(ClusterId("0" * 8 + "-0000-0000-0000-" + "0" * 12, GROUP, "aks-1")))
    assert (run.code, run.out) == (FAILED, ""), run
    assert run.err.startswith("refused (HTTP 403, invalid_request): ")
    assert "\nremedy: " in run.err
    stranger = await onboard(hosted.folder, hosted.host.url, {"cluster": str(hosted.cluster.id)}, PULLKEEPER_KEY="mine")
    assert (stranger.code, stranger.out) == (FAILED, ""), stranger
    assert stranger.err.startswith("refused (HTTP 401)")


Answering = Callable[[web.Request], web.Response]


@asynccontextmanager
async def answering(answer: Answering) -> AsyncIterator[str]:
    """The address of a server that answers everything so."""

    async def answered(request: web.Request) -> web.StreamResponse:
        return answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answered)
    server = Server(application, authority=None)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


def _operation(status: str, *steps: Mapping[str, str]) -> web.Response:
    return web.json_response({"status": status, "steps": list(steps), "result": None})


async def test_the_script_waits_as_long_as_it_is_asked_to(tmp_path: Path) -> None:
    asked: list[tuple[str, float]] = []

    def answer(request: web.Request) -> web.Response:
        asked.append((request.method, time.monotonic()))
        match len(asked):
            case 1:
                return web.json_response({}, status=503, headers={"Retry-After": "1"})
            case 2:
                return web.json_response({}, status=202, headers={"Retry-After": "1", "Location": OPERATION})
            case 3:
                return web.json_response({}, status=429, headers={"Retry-After": "3"})
            case _:
                return _operation("Succeeded")

    async with answering(answer) as url:
        run = await onboard(tmp_path, url, {}, PULLKEEPER_KEY="key")
    assert run.code == SUCCEEDED, run
    assert [method for method, _ in asked] == ["POST", "POST", "GET", "GET"]
    pauses = [after - before for (_, before), (_, after) in pairwise(asked)]
    assert [pause >= wanted for pause, wanted in zip(pauses, (1, 1, 3), strict=True)] == [True] * 3, pauses


async def test_the_script_puts_down_what_the_app_could_not_apply(tmp_path: Path) -> None:
    result = {"seconds": 3.2, "left": ["a CronJob: suspended"], "manifests": "kind: Role\n---\nkind: CronJob\n"}

    def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            return web.json_response({}, status=202, headers={"Retry-After": "0", "Location": OPERATION})
        return web.json_response({"status": "Succeeded", "steps": [], "result": result})

    async with answering(answer) as url:
        run = await onboard(tmp_path, url, {}, PULLKEEPER_KEY="key", PULLKEEPER_MANIFESTS="one.yaml")
    assert run.code == SUCCEEDED, run
    assert run.out.splitlines()[1:3] == ["Succeeded after 3.2 s", "left: a CronJob: suspended"]
    kinds = [one["kind"] for one in yaml.safe_load_all((tmp_path / "one.yaml").read_text(encoding="utf-8"))]
    assert kinds == ["Role", "CronJob"]


async def test_the_script_gives_up_waiting_and_says_where_to_look(tmp_path: Path) -> None:
    def answer(request: web.Request) -> web.Response:
        started = web.json_response({}, status=202, headers={"Retry-After": "1", "Location": OPERATION})
        return started if request.method == "POST" else _operation("Running")

    async with answering(answer) as url:
        run = await onboard(tmp_path, url, {}, PULLKEEPER_KEY="key", PULLKEEPER_PATIENCE="4")
    assert run.code == NO_END, run
    assert OPERATION in run.err


async def test_the_script_takes_its_key_and_token_to_the_app_alone(tmp_path: Path) -> None:
    seen: list[tuple[str | None, str | None]] = []

    def answer(request: web.Request) -> web.Response:
        seen.append((request.headers.get("x-functions-key"), request.headers.get("Authorization")))
        return web.json_response({}, status=202, headers={"Location": "https://elsewhere.example/api/operations/1"})

    async with answering(answer) as url:
        run = await onboard(tmp_path, url, {}, PULLKEEPER_KEY="key", PULLKEEPER_TOKEN="token")
    assert run.code == FAILED, run
    assert "elsewhere" not in run.out + run.err
    assert seen == [("key", "Bearer token")]
    plain = await onboard(tmp_path, "http://pullkeeper.example", {}, PULLKEEPER_KEY="key")
    assert plain.code == CALLED_WRONGLY
    without = await onboard(tmp_path, "https://pullkeeper.example", {})
    assert without.code == CALLED_WRONGLY


async def test_what_services_said_cannot_speak_to_the_agent(tmp_path: Path) -> None:
    detail = "no\n::error::mine\x1b[2J ##vso[task.setvariable variable=PATH]x"

    def answer(request: web.Request) -> web.Response:
        started = web.json_response({}, status=202, headers={"Retry-After": "0", "Location": OPERATION})
        step = {"name": "identity", "status": "failed", "detail": detail, "category": "internal", "remedy": detail}
        return started if request.method == "POST" else _operation("Failed", step)

    async with answering(answer) as url:
        run = await onboard(tmp_path, url, {}, PULLKEEPER_KEY="key")
    assert run.code == FAILED
    said = run.out + run.err
    assert "identity: no ::error::mine" in said
    assert "##" not in said
    assert [line for line in said.splitlines() if line.startswith("::") or not line.isprintable()] == []
