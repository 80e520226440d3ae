"""`pullkeeper doctor` and `check`: each hop, each problem, and the exit code."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from pullkeeper.diagnosis.report import Diagnosis, Hop
from pullkeeper.fleet.overview import ClusterLine, FleetPage
from pullkeeper.mints import MintProblem
from pullkeeper.model import ClusterId
from pullkeeper.setting_problems import Problem
from pullkeeper.status import AppStatus, HubStatus, Totals
from pullkeeper.version import VERSION
from tests.cli.conftest import FAILED, SUCCEEDED, WRONG_USAGE, Cli
from tests.core.canned import Answers, http, serve_canned
from tests.docs.pipelines import Run

_CLUSTER = ClusterId("00000000-0000-0000-0000-000000005eed", "shop", "shop-west")
_PATH = f"/api/clusters/{_CLUSTER.subscription}/shop/shop-west"
_PAGE = "https://docs.example/docs/runbook/federation_audience.md"
_NOW = datetime.now(UTC)
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
_HOPS = (
    Hop(name="managed-identity", state="ok", detail="found", evidence={"clientId": "c1"}),
    Hop(
        name="token-exchange",
        state="failed",
        detail="the audience differs",
        evidence={"audience": "api://one"},
        category="federation_audience",
        remedy="gcloud iam ...",
        runbook=_PAGE,
    ),
    Hop(name="impersonation", state="skipped", detail="there is no token", because="token-exchange"),
    Hop(
        name="registry-permission",
        subject="eu.gcr.io",
        state="warning",
        detail="slow",
        category="registry_unavailable",
        evidence={"seconds": "9"},
    ),
)


def _diagnosis(*hops: Hop, **fields: Any) -> bytes:
    worst = next((state for state in ("failed", "warning", "ok") if state in {hop.state for hop in hops}), "skipped")
    document = Diagnosis(version=VERSION, at=_NOW, seconds=1.25, state=worst, hops=hops, **fields)
    return http(200, document.model_dump_json(by_alias=True).encode())


async def _run(lonely: Cli, answers: Answers, *arguments: str) -> Run:
    async with serve_canned(None, answers) as server:
        return await lonely.call(*arguments, PULLKEEPER_URL=f"http://{server.host}")


async def test_each_hop_is_a_line_and_the_broken_ones_say_what_to_do(lonely: Cli) -> None:
    fleet = FleetPage(version=VERSION, clusters=(ClusterLine(cluster=_CLUSTER),))
    answers: Answers = {
        "/api/clusters": http(200, fleet.model_dump_json(by_alias=True).encode()),
        f"{_PATH}/diagnosis": _diagnosis(*_HOPS, cluster=_CLUSTER),
    }
    run = await _run(lonely, answers, "doctor", "shop-west")
    assert run.code == FAILED
    assert run.out.splitlines() == [
        f"► {_CLUSTER}, in 1.2 s",
        "✔ managed-identity: found",
        "✗ token-exchange: the audience differs (federation_audience)",
        "  audience: api://one",
        "  remedy: gcloud iam ...",
        f"  runbook: {_PAGE}",
        "○ impersonation: there is no token (because of token-exchange)",
        "▲ registry-permission eu.gcr.io: slow (registry_unavailable)",
        "  seconds: 9",
    ]
    run = await _run(lonely, answers, "doctor", "shop-west", "--evidence")
    assert "  clientId: c1\n" in run.out
    run = await _run(lonely, answers, "doctor", "shop-west", "-o", "json")
    assert (run.code, json.loads(run.out)["state"]) == (FAILED, "failed")


async def test_a_hub_that_is_well_succeeds(lonely: Cli) -> None:
    answers: Answers = {"/api/hubs/main/diagnosis": _diagnosis(_HOPS[0], _HOPS[3], hub="main")}
    run = await _run(lonely, answers, "doctor", "--hub", "main")
    assert (run.code, run.out.splitlines()[0]) == (SUCCEEDED, "► main, in 1.2 s")


@pytest.mark.parametrize("arguments", [(), ("shop-west", "--hub", "main")])
async def test_a_doctor_looks_at_a_cluster_or_a_hub(lonely: Cli, arguments: tuple[str, ...]) -> None:
    run = await _run(lonely, {}, "doctor", *arguments)
    assert (run.code, run.err) == (WRONG_USAGE, "✗ name a cluster, or give --hub\n")


def _status(**fields: Any) -> bytes:
    totals = Totals(clusters=1, targets={"fresh": 1}, overdue=0)
    well: Mapping[str, Any] = {
        "version": VERSION,
        "documentation": "https://docs.example",
        "problems": (),
        "hubs": (HubStatus(name="main", state="ok"),),
        "totals": totals,
        "last_run": _NOW,
        "queues": {"refresh": 3, "refresh-poison": 0},
    }
    return http(200, AppStatus(**{**well, **fields}).model_dump_json(by_alias=True).encode(), Date=_DATE)


_PROBLEM = MintProblem(category="federation_audience", detail="no", remedy="gcloud", runbook=_PAGE, at=_NOW)


@pytest.mark.parametrize(
    ("fields", "code", "expected"),
    [
        ({}, SUCCEEDED, "✔ secrets in 1 clusters: 1 fresh"),
        ({}, SUCCEEDED, f"✔ version {VERSION}\n"),
        ({"last_run": datetime(2025, 12, 31, 23, 57, tzinfo=UTC)}, SUCCEEDED, "✔ the timer last ran: 3m ago\n"),
        (
            {"version": "9.9.9"},
            SUCCEEDED,
            f"▲ the app has version 9.9.9, this command line {VERSION}\n  remedy: install the command line",
        ),
        (
            {"problems": (Problem(setting="HUBS", severity="error", detail="no", remedy="az", runbook=_PAGE),)},
            FAILED,
            f"✗ no\n  remedy: az\n  runbook: {_PAGE}\n",
        ),
        ({"problems": (Problem(severity="warning", detail="HUB", remedy="az"),)}, SUCCEEDED, "▲ HUB\n  remedy: az\n"),
        (
            {"hubs": (HubStatus(name="main", state="ok"), HubStatus(name="two", state="failed", failure=_PROBLEM))},
            FAILED,
            f"✗ two: federation_audience: no\n  remedy: gcloud\n  runbook: {_PAGE}\n",
        ),
        (
            {"hubs": (HubStatus(name="main", state="failed", fault="HUBS.main: wrong"),)},
            FAILED,
            "✗ main: HUBS.main: wrong",
        ),
        (
            {"hubs": (HubStatus(name="main", state="warning", warning=_PROBLEM),)},
            SUCCEEDED,
            "▲ main: federation_audience: no\n  remedy: gcloud\n",
        ),
        ({"hubs": (HubStatus(name="main"),)}, SUCCEEDED, "○ main: unknown"),
        (
            {"totals": Totals(clusters=1, targets={"fresh": 1, "removed": 2}, overdue=0)},
            SUCCEEDED,
            "✔ secrets in 1 clusters: 1 fresh, 2 removed",
        ),
        ({"hubs": ()}, SUCCEEDED, "▲ the setting HUBS has no hub"),
        (
            {"totals": Totals(clusters=1, targets={"expired": 1}, overdue=0)},
            FAILED,
            "✗ secrets in 1 clusters: 1 expired\n  look: pullkeeper get clusters --state expired\n",
        ),
        (
            {"totals": Totals(clusters=1, targets={}, overdue=2)},
            FAILED,
            "✗ 2 shards are overdue: no run refreshes them\n  runbook: https://docs.example/docs/runbook/refresh_stopped.md",
        ),
        ({"queues": {"refresh-poison": 1}}, SUCCEEDED, "▲ 1 messages are in refresh-poison\n  runbook: https://docs."),
        ({"totals": None, "queues": None, "last_run": None}, SUCCEEDED, "✔ settings and storage"),
    ],
)
async def test_a_check_fails_for_what_is_wrong(lonely: Cli, fields: Any, code: int, expected: str) -> None:
    answers: Answers = {"/api/health": http(200, {"status": "ok"}), "/api/status": _status(**fields)}
    run = await _run(lonely, answers, "check")
    assert (run.code, run.err) == (code, "")
    assert f"\n{expected}" in run.out
    assert len(re.findall("^[✗▲]", run.out, re.MULTILINE)) == (expected[0] in "✗▲")
    parts = re.findall("^► (.+)", run.out, re.MULTILINE)
    assert [part.partition(" http:")[0] for part in parts] == ["reaching", "looking at the app", "looking at the hubs"]


async def test_an_app_that_is_unwell_fails_the_check(lonely: Cli) -> None:
    problems = [Problem(severity="warning", detail=name, remedy="az") for name in ("ONE", "TWO")]
    answers: Answers = {"/api/health": http(503, {"status": "error"}), "/api/status": _status(problems=problems)}
    run = await _run(lonely, answers, "check")
    assert run.code == FAILED
    assert "✗ health: error\n" in run.out
    assert re.findall("^▲ (.+)", run.out, re.MULTILINE) == ["ONE", "TWO"]
