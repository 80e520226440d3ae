"""docs/examples/onboard.sh, run as a pipeline runs it: against the hosted app, and against responses that are rare."""

import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from local.cloud import GROUP, LocalCluster
from local.serving import Server
from pullkeeper.errors import ClusterGone
from pullkeeper.model import ClusterId
from tests.apiserver import at_hand
from tests.docs.pipelines import SCRIPT, Run, run_program
from tests.http.conftest import App

SUCCEEDED, FAILED, WRONG_USAGE, AWAITING_FEDERATION, NO_RESULT = range(5)
OPERATION: Final = f"/api/operations/{'0' * 32}"
on_the_app = pytest.mark.asyncio(loop_scope="module")
FOREIGN_CLUSTER: Final = ClusterId("0" * 8 + "-0000-0000-0000-" + "0" * 12, GROUP, "aks-1")


async def onboard(folder: Path, url: str, body: Mapping[str, Any] | None = None, **environment: str) -> Run:
    """Run the script in a folder of its own, with nothing in its environment but what a pipeline sets."""
    for program in ("curl", "jq"):
        at_hand.program(program)
    (folder / "body.json").write_text(json.dumps(body or {}), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "PULLKEEPER_URL": url, **environment}
    return await run_program(["bash", str(SCRIPT), "body.json"], environment, folder)


def test_the_script_is_executable() -> None:
    assert os.access(SCRIPT, os.X_OK)


@dataclass(frozen=True, slots=True)
class Hosted:
    """The hosted app, and a cluster that is not onboarded yet."""

    app: App
    cluster: LocalCluster
    folder: Path

    async def onboard(self, *, key: str | None = None, **fields: Any) -> Run:
        body = {"cluster": str(self.cluster.id), **fields}
        return await onboard(self.folder, self.app.host.url, body, PULLKEEPER_KEY=key or self.app.host.keys.default)


@pytest_asyncio.fixture(loop_scope="module")
async def hosted(app: App, tmp_path: Path) -> Hosted:
    return Hosted(app, await app.add_cluster(tmp_path.name), tmp_path)


@pytest.mark.servers
@on_the_app
async def test_the_script_onboards_a_cluster(hosted: Hosted) -> None:
    run = await hosted.onboard(hub="main")
    assert (run.code, run.err) == (SUCCEEDED, ""), run
    steps = re.findall(r"^done  (.+?):", run.out, re.MULTILINE)
    assert steps[0] == "inspect cluster"
    assert "pull secret" in steps
    assert len(steps) == len(set(steps))
    assert re.search(r"^Succeeded after [\d.]+ s$", run.out, re.MULTILINE)
    assert (await hosted.app.world.read_token(hosted.cluster)).startswith("ya29.")
    assert hosted.app.host.keys.default not in run.out


@pytest.mark.servers
@on_the_app
async def test_the_script_fails_with_category_and_remedy(hosted: Hosted) -> None:
    hosted.app.world.cloud.arm.clusters.remove(str(hosted.cluster.id))
    run = await hosted.onboard(hub="main")
    assert run.code == FAILED, run
    assert "failed  inspect cluster: " in run.out
    failure, remedy = run.err.splitlines()[-2:]
    assert failure.startswith("failed (cluster_gone): ")
    known = ClusterGone("", {"cluster": str(hosted.cluster.id)}).remedy
    assert remedy.startswith(f"remedy: {known}. Then onboard again: ")


@pytest.mark.servers
@on_the_app
async def test_the_script_prints_what_the_publisher_must_trust(hosted: Hosted) -> None:
    run = await hosted.onboard()
    assert (run.code, run.err) == (AWAITING_FEDERATION, ""), run
    assert f"  objectId: {hosted.app.world.cloud.app.principal_id}" in run.out
    assert "  gcloud iam workload-identity-pools providers create-oidc " in run.out


@pytest.mark.servers
@on_the_app
async def test_the_script_prints_why_the_app_refuses(hosted: Hosted) -> None:
    run = await hosted.onboard(cluster=str(FOREIGN_CLUSTER))
    assert (run.code, run.out) == (FAILED, ""), run
    assert run.err.startswith("refused (HTTP 403, invalid_request): ")
    assert "\nremedy: " in run.err
    run = await hosted.onboard(key="wrong")
    assert (run.code, run.out) == (FAILED, ""), run
    assert run.err.startswith("refused (HTTP 401)")


def accepted(retry_after: int = 0, location: str = OPERATION) -> web.Response:
    return web.json_response({}, status=202, headers={"Retry-After": str(retry_after), "Location": location})


def operation(status: str, *steps: Mapping[str, str], result: Mapping[str, Any] | None = None) -> web.Response:
    return web.json_response({"status": status, "steps": list(steps), "result": result})


def failure(status: int, category: str | None = None, retry_after: int = 0) -> web.Response:
    """A problem document, or the platform's response without a body."""
    document = {"status": status, "category": category, "detail": "it failed", "remedy": "fix it"}
    headers = {"Retry-After": str(retry_after)}
    return web.json_response(document, status=status, headers=headers) if category else web.Response(status=status)


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    headers: Mapping[str, str]
    path: str
    body: bytes
    at: float


@asynccontextmanager
async def respond(*responses: Callable[[], web.Response]) -> AsyncIterator[tuple[str, list[Request]]]:
    """A server that gives these responses in order, the last one again and again: its address and its requests."""
    requests: list[Request] = []
    following: Iterator[Callable[[], web.Response]] = chain(responses, repeat(responses[-1]))

    async def handle(request: web.Request) -> web.Response:
        requests.append(
            Request(request.method, request.headers, request.path_qs, await request.read(), time.monotonic())
        )
        return next(following)()

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    server = Server(application, authority=None)
    await server.start()
    try:
        yield server.url, requests
    finally:
        await server.stop()


async def test_the_script_retries_as_late_as_a_response_asks(tmp_path: Path) -> None:
    responses = (
        lambda: failure(503, "storage_unavailable", 1),
        lambda: accepted(1),
        lambda: failure(429, "arm_throttled", 3),
        lambda: operation("Succeeded"),
    )
    async with respond(*responses) as (url, requests):
        run = await onboard(tmp_path, url, PULLKEEPER_KEY="key")
    assert run.code == SUCCEEDED, run
    assert [request.method for request in requests] == ["POST", "POST", "GET", "GET"]
    pauses = [after.at - before.at for before, after in pairwise(requests)]
    assert all(pause >= asked for pause, asked in zip(pauses, (1, 1, 3), strict=True)), pauses


async def test_the_script_retries_after_a_500_without_a_body(tmp_path: Path) -> None:
    """That is what callers get when the platform has killed the app's process."""
    responses = (lambda: failure(500), accepted, lambda: failure(500), lambda: operation("Succeeded"))
    async with respond(*responses) as (url, requests):
        run = await onboard(tmp_path, url, PULLKEEPER_KEY="key")
    assert run.code == SUCCEEDED, run
    assert [request.method for request in requests] == ["POST", "POST", "GET", "GET"]


async def test_the_script_does_not_retry_a_wrong_setting(tmp_path: Path) -> None:
    async with respond(lambda: failure(503, "invalid_request")) as (url, requests):
        run = await onboard(tmp_path, url, PULLKEEPER_KEY="key")
    assert (run.code, len(requests)) == (FAILED, 1), run
    assert run.err == "refused (HTTP 503, invalid_request): it failed\nremedy: fix it\n"


async def test_the_script_sends_a_content_length(tmp_path: Path) -> None:
    """The platform passes on an empty body without one."""
    async with respond(accepted, lambda: operation("Succeeded")) as (url, requests):
        await onboard(tmp_path, url, {"a": "b" * 100_000}, PULLKEEPER_KEY="key")
    assert int(requests[0].headers["Content-Length"]) == len(requests[0].body) > 100_000


async def test_the_script_saves_manifests_that_the_app_could_not_apply(tmp_path: Path) -> None:
    result = {"seconds": 3.2, "left": ["a CronJob: suspended"], "manifests": "kind: Role\n---\nkind: CronJob\n"}
    async with respond(accepted, lambda: operation("Succeeded", result=result)) as (url, _):
        run = await onboard(tmp_path, url, PULLKEEPER_KEY="key", PULLKEEPER_MANIFESTS="one.yaml")
    assert run.code == SUCCEEDED, run
    assert run.out.splitlines()[1:3] == ["Succeeded after 3.2 s", "left: a CronJob: suspended"]
    kinds = [one["kind"] for one in yaml.safe_load_all((tmp_path / "one.yaml").read_text(encoding="utf-8"))]
    assert kinds == ["Role", "CronJob"]


async def test_the_script_stops_waiting_and_prints_where_to_look(tmp_path: Path) -> None:
    async with respond(lambda: accepted(1), lambda: operation("Running")) as (url, _):
        run = await onboard(tmp_path, url, PULLKEEPER_KEY="key", PULLKEEPER_PATIENCE="4")
    assert run.code == NO_RESULT, run
    assert OPERATION in run.err


async def test_the_script_sends_its_key_and_token_only_to_the_app(tmp_path: Path) -> None:
    async with respond(lambda: accepted(location="https://elsewhere.example/api/operations/1")) as (url, requests):
        run = await onboard(tmp_path, url, PULLKEEPER_KEY="key", PULLKEEPER_TOKEN="token")
    assert run.code == FAILED, run
    assert "elsewhere" not in run.out + run.err
    sent = [(request.headers["x-functions-key"], request.headers["Authorization"]) for request in requests]
    assert sent == [("key", "Bearer token")]
    assert (await onboard(tmp_path, "http://pullkeeper.example", PULLKEEPER_KEY="key")).code == WRONG_USAGE
    assert (await onboard(tmp_path, "https://pullkeeper.example")).code == WRONG_USAGE


async def test_the_text_of_a_service_is_no_command_to_the_agent(tmp_path: Path) -> None:
    text = "no\n::error::mine\x1b[2J ##vso[task.setvariable variable=PATH]x"
    step = {"name": "identity", "status": "failed", "detail": text, "category": "internal", "remedy": text}
    async with respond(accepted, lambda: operation("Failed", step)) as (url, _):
        run = await onboard(tmp_path, url, PULLKEEPER_KEY="key")
    assert run.code == FAILED
    printed = run.out + run.err
    assert "identity: no ::error::mine" in printed
    assert "##" not in printed
    assert [line for line in printed.splitlines() if line.startswith("::") or not line.isprintable()] == []
