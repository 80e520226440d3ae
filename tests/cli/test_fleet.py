"""`pullkeeper get`, `refresh`, `check`, `handover` with a fleet: in terminals of any kind, and in a pipeline."""

import json
import re
from typing import Final

import pytest
import pytest_asyncio
import yaml

from local.hops import break_hop
from tests.cli.conftest import FAILED, INTERRUPTED, SUCCEEDED, WRONG_USAGE, Cli
from tests.end_to_end.conftest import until
from tests.http.conftest import App, cluster_path

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_COLUMNS: Final = ["NAME", "HUB", "STATE", "LEFT", "LAST-SUCCESS", "MESSAGE"]
_UNREACHABLE: Final = "cluster_unreachable: 127.0.0.1:"
_ESCAPE: Final = b"\x1b["


@pytest_asyncio.fixture(autouse=True, scope="module", loop_scope="module")
async def _refreshed(fleet: App) -> None:
    """The fleet has been refreshed since the third cluster stopped."""

    async def has_failed() -> bool:
        page = (await fleet.call("GET", "clusters?state=stale")).body
        return len(page["clusters"]) == 1

    await fleet.call("POST", "refresh")
    await until(has_failed)


def _cells(line: str) -> list[str]:
    return re.split(" {3,}", line)


async def test_the_fleet_is_a_table_in_a_terminal(cli: Cli) -> None:
    code, screen = await cli.show("get", "clusters")
    header, *rows = map(_cells, screen.lines)
    assert (code, header) == (SUCCEEDED, _COLUMNS)
    assert [row[:3] for row in sorted(rows)] == [
        ["bank-edge", "main", "stale"],
        ["shop-east", "main", "fresh"],
        ["shop-west", "main", "fresh"],
    ]
    assert all(re.fullmatch(r"(5\d|60)m", row[3]) and re.fullmatch(r"\d+[sm] ago", row[4]) for row in rows)
    [message] = [row[5] for row in rows if row[0] == "bank-edge"]
    assert message.startswith(_UNREACHABLE)
    assert message.endswith("…")
    assert b"\x1b[32mfresh" in screen.output


async def test_a_narrow_terminal_shows_each_message_below_its_row(cli: Cli) -> None:
    _, screen = await cli.show("get", "clusters", columns=58)
    assert _cells(screen.lines[0]) == _COLUMNS[:-1]
    below = screen.text[screen.text.index("bank-edge") :].split("\n", 1)[1].replace("\n", "")
    assert below.startswith(f"  {_UNREACHABLE}")
    assert "Connect call failed" in below


async def test_without_colours_a_terminal_gets_none(cli: Cli) -> None:
    _, screen = await cli.show("get", "clusters", NO_COLOR="1")
    assert "stale" in screen.text
    assert re.findall(rb"\x1b\[[0-9;]*3[0-9]m", screen.output) == []


async def test_a_pipeline_gets_plain_and_whole_lines(cli: Cli) -> None:
    run = await cli.run("get", "clusters")
    assert (run.code, run.err) == (SUCCEEDED, "")
    assert "\x1b" not in run.out
    assert _cells(run.out.splitlines()[0]) == _COLUMNS
    [failed] = [line for line in run.out.splitlines() if line.startswith("bank-edge")]
    assert "Connect call failed" in failed
    assert [line for line in run.out.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize("where", ["terminal", "pipeline"])
async def test_without_utf_8_everything_is_ascii(cli: Cli, where: str) -> None:
    commands = (("get", "clusters"), ("check",), ("doctor", "--help"))
    for arguments in commands:
        if where == "terminal":
            shown = (await cli.show(*arguments, LANG="C", columns=100))[1].output
        else:
            shown = (await cli.run(*arguments, LANG="C")).out.encode()
        assert shown.isascii()
        assert b"?" not in shown


async def test_wide_has_more_columns_and_whole_messages(cli: Cli) -> None:
    _, screen = await cli.show("get", "clusters", "bank-edge", "-o", "wide", columns=250)
    assert re.search("platform +main +central +stale +0/1 +deepintshield/ar-pull-secret +(5|60m)", screen.text)
    text = screen.text.replace("\n", "")
    assert "/docs/runbook/cluster_unreachable.md" in text
    assert "Connect call failed" in text


@pytest.mark.parametrize(("output", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
async def test_documents_are_what_the_app_responds(cli: Cli, fleet: App, output: str, parse: object) -> None:
    assert callable(parse)
    found = parse((await cli.call("get", "clusters", "-o", output)).out)
    assert found["clusters"] == (await fleet.call("GET", "clusters")).body["clusters"]
    [view] = parse((await cli.call("get", "clusters", "bank-edge", "-o", output)).out)["clusters"]
    assert view == (await fleet.call("GET", cluster_path(fleet.world.cloud.clusters["bank-edge"]))).body
    hubs = parse((await cli.call("get", "hubs", "-o", output)).out)["hubs"]
    assert hubs == (await fleet.call("GET", "status")).body["hubs"]
    operations = parse((await cli.call("get", "operations", "-o", output)).out)["operations"]
    assert operations == (await fleet.call("GET", "operations")).body["operations"]
    one = parse((await cli.call("get", "operations", operations[0]["id"], "-o", output)).out)
    assert one == (await fleet.call("GET", f"operations/{one['id']}")).body


@pytest.mark.parametrize("what", [("clusters",), ("operations", "0" * 32)], ids=lambda what: what[0])
async def test_a_document_cannot_be_watched(cli: Cli, what: tuple[str, ...]) -> None:
    run = await cli.call("get", *what, "-o", "json", "--watch")
    assert (run.code, run.err) == (WRONG_USAGE, "✗ --watch shows tables: leave out -o, or give -o wide\n")


async def test_filters_leave_out_the_others(cli: Cli) -> None:
    async def names(*arguments: str) -> list[str]:
        return [line.split()[0] for line in (await cli.call("get", *arguments)).out.splitlines()[1:]]

    assert await names("clusters", "--state", "stale") == ["bank-edge"]
    assert await names("clusters", "--hub", "other") == []
    assert sorted(await names("clusters", "--hub", "main")) == ["bank-edge", "shop-east", "shop-west"]
    assert await names("hubs") == await names("hubs", "--state", "ok") == ["main"]
    run = await cli.call("get", "hubs", "--state", "failed")
    assert (run.code, run.out, run.err) == (SUCCEEDED, "", "nothing found\n")
    operations = (await cli.call("get", "operations", "--cluster", "shop-west", "--status", "Succeeded")).out
    assert [_cells(line)[1:3] + _cells(line)[4:] for line in operations.splitlines()[1:]] == [
        ["onboard", "Succeeded", "shop-west"]
    ]


async def test_a_cluster_has_three_names(cli: Cli, fleet: App) -> None:
    resource_id = str(fleet.world.cloud.clusters["shop-west"].id)
    for name in ("shop-west", "platform/shop-west", "Platform/SHOP-WEST", resource_id):
        run = await cli.call("get", "clusters", name)
        assert [line.split()[0] for line in run.out.splitlines()[1:]] == ["shop-west"], name
    run = await cli.call("get", "clusters", "nowhere")
    assert (run.code, run.out) == (FAILED, "")
    assert run.err.startswith("✗ no cluster of the fleet is named nowhere\n  check: pullkeeper get clusters ")
    run = await cli.call("get", "clusters", "/subscriptions/1")
    assert (run.code, run.err) == (FAILED, "✗ /subscriptions/1 is not the resource id of an AKS cluster\n")


async def test_an_operation_is_shown_with_its_steps(cli: Cli, fleet: App) -> None:
    [operation, *_] = (await fleet.call("GET", "operations")).body["operations"]
    run = await cli.call("get", "operations", operation["id"])
    assert run.out.startswith(f"► onboard {operation['cluster']}: Succeeded\n✔ inspect cluster: Kubernetes ")


async def test_watch_shows_a_refresh_in_place_until_ctrl_c(cli: Cli) -> None:
    async with cli.open("get", "clusters", "--watch", rows=10) as screen:
        await screen.until(r"shop-west +main +fresh +(5\d|60)m +(\d\d+s|\dm) ago")
        queued = (await cli.call("refresh", "shop-west")).out.splitlines()
        assert queued == ["✔ platform/shop-west is queued", "  watch: pullkeeper get clusters shop-west --watch"]
        await screen.until(r"shop-west +main +fresh +(5\d|60)m +\ds ago")
        assert screen.text.count("shop-west") == 1
        screen.type("\x03")
        assert await screen.end() == INTERRUPTED
    assert "Traceback" not in screen.text


@pytest.mark.parametrize("where", ["pipeline", "dumb terminal"])
async def test_where_lines_cannot_be_replaced_watch_prints_the_rows_that_change(cli: Cli, where: str) -> None:
    watch = ("get", "clusters", "shop-east", "--watch")
    async with cli.open(*watch, into="cat") if where == "pipeline" else cli.open(*watch, TERM="dumb") as screen:
        await screen.until("shop-east")
        await cli.call("refresh", "shop-east")
        await screen.until("shop-east[^$]+shop-east")
        screen.type("\x03")
        await screen.end()
    assert screen.text.count("NAME") == 1
    assert _ESCAPE not in screen.output


async def test_the_whole_fleet_is_refreshed(cli: Cli) -> None:
    run = await cli.call("refresh", "--all")
    assert re.fullmatch(r"✔ the whole fleet: [1-3] messages are queued\n  watch: .*\n", run.out)
    for arguments in (("refresh",), ("refresh", "shop-west", "--all")):
        run = await cli.call(*arguments)
        assert (run.code, run.err) == (WRONG_USAGE, "✗ name clusters, or give --all\n")


async def test_a_check_finds_what_is_wrong(cli: Cli) -> None:
    code, screen = await cli.show("check")
    assert code == SUCCEEDED
    assert [line for line in screen.lines if line[0] in "✗▲"] == [
        "▲ the timer last ran: never",
        "▲ secrets in 3 clusters: 2 fresh, 1 stale",
    ]
    assert "✔ main: ok" in screen.lines


async def test_the_doctor_and_the_table_agree_on_the_broken_hop(cli: Cli) -> None:
    code, screen = await cli.show("doctor", "bank-edge")
    assert code == FAILED
    [failed] = [line for line in screen.lines if line.startswith("✗")]
    assert failed.startswith("✗ api-server: ")
    assert "/docs/runbook/cluster_unreachable.md" in screen.text.replace("\n", "")
    assert "(because of api-server)" in screen.text
    assert "cluster_unreachable" in (await cli.call("get", "clusters", "bank-edge")).out
    assert (await cli.call("doctor", "--hub", "main")).code == SUCCEEDED


async def test_the_doctor_finds_what_no_refresh_meets_until_it_is_repaired(cli: Cli, fleet: App) -> None:
    cloud = fleet.world.cloud
    assert (await cli.call("doctor", "shop-west")).code == SUCCEEDED
    async with break_hop(cloud, cloud.clusters["shop-west"], "federated-credential"):
        run = await cli.call("doctor", "shop-west")
        assert (run.code, run.err) == (FAILED, "")
        assert re.findall(r"^✗ (\S+)", run.out, re.MULTILINE) == ["federated-credential"]
        assert re.search(r"^  remedy: .+az identity federated-credential list ", run.out, re.MULTILINE)
        assert "fresh" in (await cli.call("get", "clusters", "shop-west")).out
    assert (await cli.call("doctor", "shop-west")).code == SUCCEEDED


async def test_the_handover_has_commands_to_copy(cli: Cli, fleet: App) -> None:
    text = (await cli.call("handover")).out
    found = json.loads((await cli.call("handover", "-o", "json")).out)
    assert found == (await fleet.call("GET", "handover")).body
    assert f"objectId:   {found['objectId']}\n" in text
    assert text.split("\n\n")[1].splitlines() == found["commands"]
    run = await cli.call("handover", "--hub", "unknown")
    assert run.code == FAILED
    assert run.err.startswith("✗ refused (HTTP 400, invalid_request): ")
    assert re.search(r"^  runbook: https://\S+/docs/runbook/invalid_request.md$", run.err, re.MULTILINE)
