"""What the command line asks the app for, what it asks again, and how it shows the documents that it gets."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import StringIO
from typing import Any, Final

import pytest
from aiohttp import web
from rich.console import Console

from pullkeeper.cli.client import App, Response
from pullkeeper.cli.failures import CommandFailed, Unavailable
from pullkeeper.cli.get import Found, show
from pullkeeper.cli.terminal import Cell, Terminal
from pullkeeper.cli.views import Table
from tests.cli.conftest import FAILED, SUCCEEDED, WRONG_USAGE, Cli
from tests.core.canned import ANY_PATH, http, serve_canned
from tests.docs.test_examples import failure, respond

_CLUSTER: Final = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c"
_OPERATION: Final = {"id": "0" * 32, "status": "Succeeded"}


@pytest.mark.parametrize(
    ("arguments", "request_lines"),
    [
        (("offboard", _CLUSTER, "--yes"), "DELETE /api/clusters/s/g/c"),
        (("offboard", _CLUSTER, "--yes", "--keep-workload"), "DELETE /api/clusters/s/g/c?keepWorkload=true"),
        (("get", "operations", "x/../../status?a=b"), "GET /api/operations/x%2F..%2F..%2Fstatus%3Fa%3Db"),
        (("doctor", "--hub", "x/../../status?a=b"), "GET /api/hubs/x%2F..%2F..%2Fstatus%3Fa%3Db/diagnosis"),
        (("refresh", f"{_CLUSTER}?x#y"), "POST /api/clusters/s/g/c%3Fx%23y/refresh"),
        (("refresh", _CLUSTER, _CLUSTER), "POST /api/clusters/s/g/c/refresh, POST /api/clusters/s/g/c/refresh"),
        (("get", "clusters", _CLUSTER, "--state", "stale"), "GET /api/clusters/s/g/c?state=stale"),
        (("get", "operations", "--status", "Failed"), "GET /api/operations?status=Failed"),
    ],
)
async def test_a_name_leads_to_its_own_route(lonely: Cli, arguments: tuple[str, ...], request_lines: str) -> None:
    async with serve_canned(None, {ANY_PATH: http(202, _OPERATION)}) as server:
        await lonely.call(*arguments, PULLKEEPER_URL=f"http://{server.host}/")
    assert ", ".join(f"{request.method} {request.path}" for request in server.requests) == request_lines


@pytest.mark.parametrize(
    ("ids", "name", "expected"),
    [
        (("s/g", "s/h"), "c", "✗ 2 clusters are named c\n  name one: g/c, h/c\n"),
        (("s/g", "t/g"), "g/c", f"  name one: {_CLUSTER}, {_CLUSTER.replace('/s/', '/t/')}\n"),
        (("s/g",), _CLUSTER.replace("managedClusters", "virtualMachines"), "is not the resource id of an AKS cluster"),
    ],
)
async def test_a_name_of_several_clusters_or_of_none_changes_nothing(
    lonely: Cli, ids: tuple[str, ...], name: str, expected: str
) -> None:
    parts = [one.split("/") for one in ids]
    lines = [{"cluster": _CLUSTER.replace("/s/", f"/{s}/").replace("/g/", f"/{g}/")} for s, g in parts]
    async with serve_canned(None, {ANY_PATH: http(200, {"clusters": lines})}) as server:
        run = await lonely.call("offboard", name, "--yes", PULLKEEPER_URL=f"http://{server.host}")
    assert (run.code, run.out) == (FAILED, "")
    assert expected in run.err
    assert {request.method for request in server.requests} <= {"GET"}


async def test_a_list_is_read_to_its_last_page_and_operations_only_if_asked(lonely: Cli) -> None:
    def operation(number: int) -> dict[str, Any]:
        times = dict.fromkeys(("createdAt", "updatedAt"), "2026-01-01T00:00:00Z")
        return {
            **_OPERATION,
            **times,
            "id": str(number),
            "kind": "onboard",
            "dryRun": number == 100,
            "cluster": _CLUSTER,
        }

    def first() -> web.Response:
        return web.json_response({"operations": [*map(operation, range(100))], "continuation": "a b"})

    def second() -> web.Response:
        return web.json_response({"operations": [operation(100)], "continuation": None})

    async with respond(first, first, second) as (url, requests):
        newest = await lonely.call("get", "operations", PULLKEEPER_URL=url)
        every = await lonely.call("get", "operations", "--all", PULLKEEPER_URL=url)
    assert [len(run.out.splitlines()) for run in (newest, every)] == [101, 102]
    assert [line.split()[0] for line in every.out.splitlines() if " onboard (dry run) " in line] == ["100"]
    assert [request.path for request in requests] == [*["/api/operations"] * 2, "/api/operations?continuation=a+b"]


@pytest.mark.parametrize(
    ("status", "has_body", "expected"),
    [
        *((status, True, True) for status in (429, 502, 503, 504)),
        (500, False, True),
        *((status, True, False) for status in (400, 404, 500)),
    ],
)
def test_only_what_may_succeed_later_is_asked_again(status: int, *, has_body: bool, expected: bool) -> None:
    """A 500 with a body is the app's: it may have begun the work."""
    assert Response(status, {}, {}, has_body).may_retry == expected


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7), ("", 2), ("0", 2), ("Wed, 21 Oct 2026 07:28:00 GMT", 2), ("99999", 2)]
)
def test_a_retry_waits_as_long_as_the_app_asks_if_that_makes_sense(asked: str, seconds: int) -> None:
    assert Response(503, {"Retry-After": asked}, {}, has_body=False).retry_after == seconds


@pytest.mark.parametrize("command", [("onboard", "-f"), ("offboard", "--yes", _CLUSTER)], ids=lambda one: one[0])
async def test_no_request_is_sent_again_after_the_timeout(lonely: Cli, command: tuple[str, ...]) -> None:
    if command[0] == "onboard":
        (lonely.folder / "body.json").write_text("{}", encoding="utf-8")
        command = (*command, str(lonely.folder / "body.json"))
    async with respond(lambda: failure(503)) as (url, requests):
        run = await lonely.call(*command, "--timeout", "1", PULLKEEPER_URL=url)
        assert (run.code, len(requests)) == (FAILED, 1)


async def test_a_timeout_is_a_second_at_least(lonely: Cli) -> None:
    """0 is not forever."""
    run = await lonely.call("offboard", _CLUSTER, "--yes", "--timeout", "0", PULLKEEPER_URL="http://127.0.0.1:9")
    assert (run.code, run.out) == (WRONG_USAGE, "")


async def test_an_app_that_never_responds_is_not_waited_for() -> None:
    async with serve_canned(None, {ANY_PATH: (None,)}) as server:
        app = App(f"http://{server.host}", {}, lambda _: nullcontext(), timeout=(1, 0.1))
        with pytest.raises(Unavailable, match="does not respond") as silent:
            await asyncio.to_thread(app.get, "status")
    assert "az functionapp show" in str(silent.value.hints["check"])
    assert App("https://app.example", {}, app.wait).timeout == (10, 60), "seconds, where no one says otherwise"


async def test_what_the_app_refuses_is_not_looked_at_again() -> None:
    """Else the watch of an operation that does not exist would never end."""
    async with serve_canned(None, {ANY_PATH: http(404, {"category": "not_found"})}) as server:
        app = App(f"http://{server.host}", {}, lambda _: nullcontext())
        with pytest.raises(CommandFailed) as refused:
            await asyncio.to_thread(app.get, "operations/1")
    assert not isinstance(refused.value, Unavailable)


@pytest.mark.parametrize("date", ["soon", "Thu, 01 Jan 2026 00:00:00", f"Thu, 01 Jan {'9' * 20} 00:00:00 GMT"])
async def test_a_date_of_another_form_leaves_the_time_as_it_was(date: str) -> None:
    async with serve_canned(None, {ANY_PATH: http(200, {"a": 1}, Date=date)}) as server:
        app = App(f"http://{server.host}", {}, lambda _: nullcontext())
        before = app.now
        assert await asyncio.to_thread(app.get, "status") == {"a": 1}
    assert app.now == before


async def test_a_dry_run_is_followed_also_if_the_file_asks_for_it(lonely: Cli) -> None:
    ended: dict[str, Any] = {**_OPERATION, "dryRun": True, "steps": [], "result": {"seconds": 9, "left": ["a", "b"]}}
    (lonely.folder / "body.yaml").write_text("dryRun: true\nlabels: {since: 2026-01-01}\n", encoding="utf-8")
    async with serve_canned(None, {ANY_PATH: http(202, ended)}) as server:
        file = str(lonely.folder / "body.yaml")
        run = await lonely.call("onboard", "-f", file, PULLKEEPER_URL=f"http://{server.host}")
    assert json.loads(server.requests[0].body)["labels"] == {"since": "2026-01-01"}, "what YAML takes for a date"
    assert run.out.splitlines()[-3:] == ["✔ Succeeded after 9 s: nothing was changed", "▲ left: a", "▲ left: b"]


async def test_an_operation_that_has_failed_without_a_reason_has_failed(lonely: Cli) -> None:
    """It is watched for as long as it takes."""
    ended: dict[str, Any] = {**_OPERATION, "status": "Failed", "dryRun": False, "steps": [], "result": None}
    running = {**ended, "status": "Running"}
    async with respond(lambda: web.json_response(running), lambda: web.json_response(ended)) as (url, _):
        run = await lonely.call("get", "operations", _OPERATION["id"], "--watch", PULLKEEPER_URL=url)
    assert (run.code, run.err) == (FAILED, "✗ the operation has failed, and no step says why\n")


async def test_an_operation_shows_how_each_step_stands_and_what_to_do_where_it_has_failed(lonely: Cli) -> None:
    others = {"detail": None, "category": None, "remedy": None, "runbook": None}
    told = {"detail": "no", "category": "arm_forbidden", "remedy": "az role", "runbook": "https://docs.example/x"}
    statuses = ("done", "planned", "skipped", "failed", "running", "pending")
    steps = [{"name": one, "status": one, **(told if one == "failed" else others)} for one in statuses]
    document = {"kind": "onboard", "cluster": "c", "status": "Running", "steps": steps}
    async with serve_canned(None, {ANY_PATH: http(200, document)}) as server:
        run = await lonely.call("get", "operations", "1", PULLKEEPER_URL=f"http://{server.host}")
    assert run.out.splitlines() == [
        "► onboard c: Running",
        "✔ done: done",
        "► planned: planned",
        "○ skipped: skipped",
        "✗ failed: no (arm_forbidden)",
        "  remedy: az role",
        "  runbook: https://docs.example/x",
        "► running: running",
        "○ pending: pending",
    ]


async def test_a_row_has_the_apps_time_and_why_namespaces_are_not_found(lonely: Cli) -> None:
    """The texts of services move no cursor."""
    foreign = "no\x1b[2J ##vso[task.complete]"
    worst = {"state": "fresh", "expiresAt": "2026-01-01T00:34:00Z", "lastSuccess": "2025-12-31T23:59:10Z"}
    search = {"category": "cluster_rbac_denied", "detail": foreign}
    line = {"cluster": _CLUSTER, "hub": foreign, "states": {}, "worst": worst, "search": search}
    failed = {**worst, "category": "cluster_gone", "detail": "it is gone"}
    lines = [line, {**line, "cluster": f"{_CLUSTER}2", "worst": failed}]
    page = http(200, {"clusters": lines}, Date="Thu, 01 Jan 2026 00:00:00 GMT")
    async with serve_canned(None, {ANY_PATH: page}) as server:
        run = await lonely.call("get", "clusters", PULLKEEPER_URL=f"http://{server.host}")
    cleaned = "no [2J # #vso[task.complete]"
    row = [cleaned, "fresh", "34m", "50s ago"]
    assert [re.split(" {3,}", one) for one in run.out.splitlines()[1:]] == [
        ["c", *row, f"cluster_rbac_denied: {cleaned}"],
        ["c2", *row, "cluster_gone: it is gone"],
    ]


async def test_wide_rows_say_when_a_refresh_is_due_and_which_operations_were_dry(lonely: Cli) -> None:
    times = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:10:00Z"}
    found = {"kind": "onboard", "status": "Succeeded", "cluster": _CLUSTER, **times}
    operations = [{**found, "id": str(dry_run), "dryRun": dry_run} for dry_run in (True, False)]
    worst = {"state": "fresh", "target": "a/b", "expiresAt": "2026-01-01T01:00:00Z"}
    line = {"cluster": _CLUSTER, "hub": "main", "refresher": "central", "states": {"fresh": 1}, "search": None}
    clusters = [{**line, "worst": worst, "nextDue": "2026-01-01T00:35:00Z"}]
    page = http(200, {"operations": operations, "clusters": clusters}, Date="Thu, 01 Jan 2026 00:30:00 GMT")
    async with serve_canned(None, {ANY_PATH: page}) as server:
        shown = [
            re.split(" {3,}", row)
            for what in ("operations", "clusters")
            for row in (
                await lonely.call("get", what, "-o", "wide", PULLKEEPER_URL=f"http://{server.host}")
            ).out.splitlines()
        ]
    assert [row[3:6] for row in shown[:3]] == [
        ["DRY-RUN", "STARTED", "UPDATED"],
        ["yes", "30m ago", "20m ago"],
        ["no", "30m ago", "20m ago"],
    ]
    assert [dict(zip(*shown[3:], strict=True))[name] for name in ("LEFT", "NEXT-DUE")] == ["30m", "5m"]


async def test_every_cluster_that_is_named_is_shown(lonely: Cli) -> None:
    view: dict[str, Any] = {
        "cluster": _CLUSTER,
        "hub": "main",
        "states": {},
        "worst": None,
        "search": None,
        "targets": [],
    }
    async with serve_canned(None, {ANY_PATH: http(200, view)}) as server:
        names = (_CLUSTER, f"{_CLUSTER}2")
        run = await lonely.call("get", "clusters", *names, "-o", "json", PULLKEEPER_URL=f"http://{server.host}")
    assert len(json.loads(run.out)["clusters"]) == 2


async def test_a_name_is_looked_up_on_every_page_and_a_cluster_has_the_targets_of_all(lonely: Cli) -> None:
    """A name of two clusters is refused wherever they are listed."""

    def page(**entries: Any) -> Callable[[], web.Response]:
        return lambda: web.json_response(entries)

    other = _CLUSTER.replace("/resourceGroups/g/", "/resourceGroups/h/")
    first, last = ({"clusters": [{"cluster": one}]} for one in (_CLUSTER, other))
    async with respond(page(**first, continuation="a"), page(**last)) as (url, _):
        run = await lonely.call("refresh", "c", PULLKEEPER_URL=url)
    assert (run.code, run.err) == (FAILED, "✗ 2 clusters are named c\n  name one: g/c, h/c\n")
    view: dict[str, Any] = {"cluster": _CLUSTER, "hub": "main", "states": {}, "worst": None, "search": None}
    pages = ({**view, "targets": [1], "continuation": "a"}, {**view, "targets": [2]}, {**view, "continuation": "a"})
    async with respond(*(page(**one) for one in pages)) as (url, _):
        run = await lonely.call("get", "clusters", _CLUSTER, "-o", "json", PULLKEEPER_URL=url)
    assert json.loads(run.out)["clusters"] == [{**view, "targets": [1, 2], "continuation": None}]


async def test_a_table_says_why_a_hub_has_failed_and_what_is_noted_of_a_secret(lonely: Cli) -> None:
    unknown = dict.fromkeys(("fault", "failure", "warning", "expiresAt", "lastMint"))
    rest: dict[str, Any] = {**unknown, "mintSeconds": 1.5, "registries": ["one", "two"]}
    problem = {"category": "federation_audience", "detail": "the audience differs"}
    hubs = [{**rest, "name": name, "state": name, name: problem} for name in ("failure", "warning")]
    worst = {"state": "fresh", "note": "there is no account app"}
    line = {"cluster": _CLUSTER, "hub": "main", "states": {}, "worst": worst, "search": None}
    async with serve_canned(None, {ANY_PATH: http(200, {"hubs": hubs, "clusters": [line]})}) as server:
        shown = [
            re.split(" {3,}", row)
            for what in (("hubs", "-o", "wide"), ("clusters",))
            for row in (await lonely.call("get", *what, PULLKEEPER_URL=f"http://{server.host}")).out.splitlines()[1:]
        ]
    message = "federation_audience: the audience differs"
    assert shown[:-1] == [[name, name, "-", "never", "1.5", "one,two", "-", message] for name in ("failure", "warning")]
    assert shown[-1][-1] == "there is no account app"


@pytest.mark.parametrize("output", ["json", "yaml"])
async def test_a_document_moves_no_cursor(lonely: Cli, output: str) -> None:
    async with serve_canned(None, {ANY_PATH: http(200, {"a": "\x9b2J\u202e"})}) as server:
        run = await lonely.call("handover", "-o", output, PULLKEEPER_URL=f"http://{server.host}")
    assert (run.code, "2J" in run.out) == (SUCCEEDED, True)
    assert all(letter == "\n" or " " <= letter <= "~" for letter in run.out), run.out


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_watch_goes_on_when_the_app_is_away_for_a_while(*, is_terminal: bool) -> None:
    """In a pipe it prints only what has changed."""

    def found(state: str) -> Found:
        rows = {name: (Cell(name), Cell(state if name == "one" else "fresh")) for name in ("one", "two")}
        documents = {name: {"state": row[1].text} for name, row in rows.items()}
        return Found(Table(("NAME", "STATE"), rows, documents), {})

    looks: Iterator[Callable[[], Found]] = iter((lambda: found("stale"), _fail, lambda: found("expired"), _stop))

    def read() -> Found:
        return next(looks)()

    out, err, pauses = StringIO(), StringIO(), list[float]()
    console, other = (Console(file=stream, force_terminal=is_terminal, _environ={}) for stream in (out, err))
    with pytest.raises(KeyboardInterrupt):
        show(Terminal(console, other, unicode=True), read, "table", watch=True, pause=pauses.append)
    assert pauses == [2.0] * 3, "seconds before each look but the first"
    assert "away" in out.getvalue() + err.getvalue()
    assert "away" not in out.getvalue().rpartition("expired")[2]
    assert "expired" in out.getvalue()
    assert is_terminal or out.getvalue().count("two") == 1


def test_a_watch_shows_what_fits_on_the_screen() -> None:
    """More lines than that could not be replaced."""
    rows = {str(n): (Cell(f"row {n}"),) for n in range(30)}
    out, seen = StringIO(), list[str]()
    console = Console(file=out, height=10, force_terminal=True, _environ={})

    def pause(_: float) -> None:
        seen.append(out.getvalue())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show(
            Terminal(console, console, unicode=True),
            lambda: Found(Table(("NAME",), rows, {}), {}),
            "table",
            watch=True,
            pause=pause,
        )
    assert ["row 5" in seen[0], "row 15" in seen[0]] == [True, False]


def _fail() -> Found:
    raise Unavailable("away")


def _stop() -> Found:
    raise KeyboardInterrupt
