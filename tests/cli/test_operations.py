"""`pullkeeper onboard` and `offboard` against the hosted app: what a person sees, what a pipeline gets, exit codes."""

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Fault
from pullkeeper.model import ClusterId
from tests.cli.conftest import (
    AWAITS_PUBLISHER,
    FAILED,
    INTERRUPTED,
    NO_RESULT,
    SUCCEEDED,
    WRONG_USAGE,
    Cli,
)
from tests.cli.screen import open_screen
from tests.docs.test_examples import failure, respond
from tests.http.conftest import App, onboarding_body

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]


def _write(cli: Cli, body: Any) -> str:
    (cli.folder / "body.json").write_text(json.dumps(body), encoding="utf-8")
    return str(cli.folder / "body.json")


@asynccontextmanager
async def _delayed(app: App, name: str) -> AsyncIterator[dict[str, Any]]:
    """A cluster whose onboarding does not end: Azure does not respond."""
    cluster = await app.add_cluster(name)
    app.world.cloud.arm_part.faults.add(Fault(path=f"/managedClusters/{name}", hang=True))
    try:
        yield onboarding_body(cluster)
    finally:
        app.world.cloud.arm_part.faults.clear()


async def test_a_dry_run_changes_nothing_and_an_onboarding_can_be_watched(cli: Cli, app: App) -> None:
    cluster = await app.add_cluster("aks-1")
    file = _write(cli, {**onboarding_body(cluster), "dryRun": False})
    code, screen = await cli.show("onboard", "-f", file, "--dry-run")
    assert code == SUCCEEDED
    assert "► register: would join the fleet" in screen.lines
    assert screen.lines[-1].endswith("s: nothing was changed")
    assert (await app.call("GET", "clusters")).body["clusters"] == []

    code, screen = await cli.show("onboard", "-f", file, "--wait")
    assert code == SUCCEEDED
    assert screen.lines[0].startswith("► operation ")
    assert [line[:1] for line in screen.lines if ": " in line and not line.startswith(" ")].count("✔") >= 9
    assert screen.lines[-1].startswith("✔ Succeeded after ")
    assert re.search(rb"waiting for the operation|: running", screen.output), "no spinner"
    assert "waiting" not in screen.text, "the spinner is gone at the end"
    assert (await app.world.read_token(cluster)).startswith("ya29.")


async def test_without_wait_the_operation_is_left_to_the_app(cli: Cli, app: App) -> None:
    cluster = await app.add_cluster("aks-2")
    yaml = f"cluster: {cluster.id}\nhub: main\nidentity: aks-2-identity\n"
    (cli.folder / "body.yaml").write_text(yaml, encoding="utf-8")
    run = await cli.run("onboard", "-f", "body.yaml")
    assert (run.code, run.err) == (SUCCEEDED, "")
    follow = run.out.splitlines()[-1].partition("pullkeeper ")[2].split()
    assert follow[:2] == ["get", "operations"]
    run = await cli.run(*follow)
    assert (run.code, run.err) == (SUCCEEDED, "")
    assert run.out.splitlines()[-1].startswith("✔ Succeeded after ")


async def test_a_failure_has_category_remedy_and_page(cli: Cli, app: App) -> None:
    unknown = ClusterId(SUBSCRIPTION, GROUP, "aks-0")
    run = await cli.call("onboard", "-f", _write(cli, {"cluster": str(unknown), "hub": "main"}), "--wait")
    assert run.code == FAILED
    assert run.out.splitlines()[-1].startswith("✗ Failed after ")
    failed, remedy, runbook = run.err.splitlines()
    assert failed.startswith("✗ failed at inspect cluster: ")
    assert failed.endswith(" (cluster_gone)")
    assert remedy.startswith("  remedy: ")
    assert runbook == f"  runbook: {app.world.services.documentation.page('cluster_gone')}"


async def test_without_a_hub_the_publisher_has_to_act(cli: Cli, app: App) -> None:
    cluster = await app.add_cluster("aks-3")
    run = await cli.call("onboard", "-f", _write(cli, {"cluster": str(cluster.id)}), "--wait")
    assert (run.code, run.err) == (AWAITS_PUBLISHER, "")
    assert "\n▲ AwaitingFederation after " in run.out
    assert f"objectId:   {app.world.cloud.app.principal_id}\n" in run.out
    assert "\ngcloud iam workload-identity-pools providers create-oidc " in run.out


async def test_ctrl_c_leaves_the_operation_alone_and_says_where_it_is(cli: Cli, app: App) -> None:
    async with _delayed(app, "aks-4") as body, cli.open("onboard", "-f", _write(cli, body), "--wait") as screen:
        await screen.until("waiting for the operation|inspect cluster")
        screen.type("\x03")
        assert await screen.end() == INTERRUPTED
        [interrupted, look] = screen.lines[-2:]
        assert interrupted.endswith("✗ interrupted: the operation continues")
        assert look.startswith("  look again: pullkeeper get operations ")
        assert "Traceback" not in screen.text
        operation = look.split()[-2]
        assert (await app.call("GET", f"operations/{operation}")).body["status"] in {"Queued", "Running"}


async def test_no_result_in_time_has_an_exit_code_of_its_own(cli: Cli, app: App) -> None:
    async with _delayed(app, "aks-5") as body:
        run = await cli.call("onboard", "-f", _write(cli, body), "--wait", PULLKEEPER_PATIENCE="3")
    assert run.code == NO_RESULT
    assert run.err.startswith("✗ no result within 3 s: it continues\n  look again: pullkeeper get operations ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1", "neither JSON nor YAML"),
        ("- 1", "no object"),
        ("", "no object"),
        ("{", "neither"),
        ("!!python/name:os.system", "neither"),
    ],
)
async def test_a_file_that_is_no_body_is_wrong_usage(cli: Cli, text: str, reason: str) -> None:
    (cli.folder / "body.json").write_text(text, encoding="utf-8")
    path = str(cli.folder / "body.json")
    run = await cli.call("onboard", "-f", path)
    assert (run.code, run.out) == (WRONG_USAGE, "")
    assert run.err.startswith(f"✗ {path} ")
    assert reason in run.err


async def test_what_the_app_refuses_is_shown_with_its_remedy(cli: Cli) -> None:
    run = await cli.call("onboard", "-f", _write(cli, {"cluster": "mine", "token": "t"}))
    assert (run.code, run.out) == (FAILED, "")
    assert run.err.startswith("✗ refused (HTTP 400, invalid_request): cluster: must be /subscriptions/GUID/")
    assert "\n  remedy: " in run.err
    assert "/docs/runbook/invalid_request.md\n" in run.err


async def test_offboarding_asks_first(cli: Cli, app: App) -> None:
    cluster = await app.add_cluster("aks-6")
    assert (await app.onboard(cluster))["status"] == "Succeeded"
    run = await cli.run("offboard", "aks-6")
    assert (run.code, run.err) == (WRONG_USAGE, "✗ there is no terminal to ask: add --yes\n")
    from_a_list = ["bash", "-c", f"yes | {sys.executable} -m pullkeeper.cli offboard aks-6"]
    async with open_screen(from_a_list, cli.environment(), cli.folder, columns=110, rows=40) as screen:
        assert await screen.end() == WRONG_USAGE, screen.text
    for answer in ("n\n", "\x03"):
        async with cli.open("offboard", "aks-6") as screen:
            await screen.until("Remove Pullkeeper and its secrets from platform/aks-6")
            screen.type(answer)
            assert await screen.end() == INTERRUPTED
    run = await cli.call("offboard", "aks-6", "--dry-run")
    assert (run.code, run.err) == (SUCCEEDED, "")
    assert "nothing was changed" in run.out
    assert (await app.world.read_token(cluster)).startswith("ya29.")
    async with cli.open("offboard", "aks-6", "--wait") as screen:
        await screen.until("Remove Pullkeeper")
        screen.type("y\n")
        assert await screen.end() == SUCCEEDED
        assert screen.lines[-1].startswith("▲ left: Namespace deepintshield: kept")
    run = await cli.call("offboard", "aks-6", "--yes")
    assert run.code == FAILED


async def test_another_operation_is_named(cli: Cli, app: App) -> None:
    async with _delayed(app, "aks-7") as body:
        file = _write(cli, body)
        first = (await cli.call("onboard", "-f", file)).out.split()[2]
        run = await cli.call("onboard", "-f", file)
    assert run.code == FAILED
    assert f"\n  look at: /api/operations/{first}\n" in run.err


async def test_a_request_is_sent_again_as_late_as_the_app_asks(lonely: Cli) -> None:
    accepted = {"id": "0" * 32}
    responses = (lambda: failure(503, "storage_unavailable", 1), lambda: failure(500), lambda: _json(accepted))
    async with respond(*responses) as (url, requests):
        run = await lonely.call("onboard", "-f", _write(lonely, {}), PULLKEEPER_URL=url)
    assert (run.code, len(requests)) == (SUCCEEDED, 3), run
    assert requests[1].at - requests[0].at >= 1
    assert requests[2].at - requests[1].at >= 2
    assert {request.headers["x-functions-key"] for request in requests} == {"key"}
    assert {(request.headers["Content-Type"], request.body) for request in requests} == {("application/json", b"{}")}


async def test_an_operation_is_followed_although_the_app_is_away_for_a_while(lonely: Cli) -> None:
    step = {"name": "identity", "status": "done", "detail": "found", "category": None}
    under_way = {**step, "name": "secret", "status": "running", "detail": "a\x1b[5Jb"}
    running = {"id": "0" * 32, "status": "Running", "dryRun": False, "steps": [step, under_way], "result": None}
    ended = {**running, "steps": [step], "status": "Succeeded", "result": {"seconds": 9}}
    responses = (
        lambda: _json(running),
        lambda: failure(503, "storage_unavailable", 1),
        lambda: failure(503, "storage_unavailable", 30),
        lambda: _json(running),
        lambda: _json(ended),
    )
    async with respond(*responses) as (url, requests):
        file = _write(lonely, {})
        code, screen = await lonely.show("onboard", "-f", file, "--wait", PULLKEEPER_URL=url)
    assert (code, len(requests)) == (SUCCEEDED, 5), screen.text
    assert requests[4].at - requests[3].at >= 2, "seconds between two looks"
    assert screen.lines == [f"► operation {'0' * 32}", "✔ identity: found", "✔ Succeeded after 9 s"]
    assert b"the app responded with 503: trying again in 1 s" in screen.output
    assert (b"secret: a [5Jb" in screen.output, b"\x1b[5J" in screen.output) == (True, False)


async def test_manifests_that_the_app_could_not_apply_are_saved(lonely: Cli) -> None:
    result = {"seconds": 3.2, "left": [], "manifests": "kind: Role # \u00e9\n", "handover": None}
    ended = {"id": "0" * 32, "status": "Succeeded", "dryRun": False, "steps": [], "result": result}
    async with respond(lambda: _json(ended)) as (url, _):
        run = await lonely.run(
            *("onboard", "-f", _write(lonely, {}), "--wait"),
            PULLKEEPER_URL=url,
            PULLKEEPER_MANIFESTS="one.yaml",
            PYTHONWARNDEFAULTENCODING="1",  # an error, as all warnings are: on Windows it would not be UTF-8
        )
    assert run.code == SUCCEEDED, run
    assert (lonely.folder / "one.yaml").read_text(encoding="utf-8") == result["manifests"]
    assert "  run: kubectl apply --server-side --field-manager=pullkeeper -f one.yaml\n" in run.out
    async with respond(lambda: _json(ended)) as (url, _):
        run = await lonely.run("get", "operations", "0" * 32, "--watch", PULLKEEPER_URL=url)
    assert "-f pullkeeper-manifests.yaml\n" in run.out, "who watches it later gets them too"
    assert (lonely.folder / "pullkeeper-manifests.yaml").is_file()


def _json(document: Any) -> web.Response:
    return web.json_response(document, status=202)
