"""GET /api/status shows how the last mint of each hub went, in whichever process it was."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

import azure.functions as func
import pytest
from azure.data.tables.aio import TableClient

from functions import status
from local.serving import Fault
from pullkeeper.deadline import deadline
from pullkeeper.errors import GoogleUnavailable, UnknownFormat
from pullkeeper.fleet import mint_table
from pullkeeper.mints import MintRecord
from pullkeeper.publisher.hub import Hub
from tests.faults.gate import Gates
from tests.faults.triggers import FUNCTIONS
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_NEVER: Final = {
    "lastMint": None,
    "expiresAt": None,
    "mintSeconds": None,
    "warning": None,
    "failure": None,
    "state": "unknown",
}
_DOCUMENTATION: Final = "https://docs.example/pullkeeper"
_STS: Final = "/v1/token$"


@pytest.fixture(autouse=True)
def settings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route uses the world's services and settings."""
    world.settings["DOCUMENTATION_URL"] = f"{_DOCUMENTATION}/"
    monkeypatch.setattr(status, "services", lambda: world.services)
    monkeypatch.setattr(status, "current_settings", lambda: world.services.settings)


@pytest.fixture
async def rows(world: World) -> AsyncIterator[TableClient]:
    """The table `shards`, past the app."""
    assert world.services
    await world.services.storage_objects.create()
    async with TableClient.from_connection_string(world.storage, "shards") as table:
        yield table


async def _report(world: World) -> dict[str, Any]:
    await world.services.mints.finish()
    response = await FUNCTIONS["status"](req=func.HttpRequest("GET", "http://localhost/api/status", body=b""))
    report: dict[str, Any] = json.loads(response.get_body())
    return report


async def _hub(world: World, name: str = "main") -> dict[str, Any]:
    """Return a hub's part of the response, without what the setting says."""
    [hub] = [hub for hub in (await _report(world))["hubs"] if hub["name"] == name]
    return {key: value for key, value in hub.items() if key not in {"name", "registries", "fault"}}


async def _row(world: World, rows: TableClient) -> Any:
    await world.services.mints.finish()
    return await rows.get_entity("hub", _parse(world).identity)


def _parse(world: World, name: str = "main") -> Hub:
    trusted = world.services.settings.trusted_hosts
    return Hub.parse(json.dumps(world.cloud.hubs[name].document), trusted_hosts=trusted)


async def test_a_mint_is_reported_with_its_times(world: World) -> None:
    cluster = await world.join("aks-1")
    assert await _hub(world) == _NEVER
    began = world.clock()
    await world.refresh(cluster)
    hub = await _hub(world)
    minted = datetime.fromisoformat(hub["lastMint"])
    assert began < minted < world.clock()
    assert hub["expiresAt"] == (await world.target(cluster)).model_dump(mode="json")["expires_at"]
    assert 0 < hub["mintSeconds"] <= (minted - began).total_seconds() + 0.001
    assert (hub["state"], hub["warning"], hub["failure"]) == ("ok", None, None)
    world.clock.advance(60 * MINUTE)
    assert await _hub(world) == {**hub, "state": "unknown"}


async def test_a_deleted_probe_image_is_a_warning_until_a_mint_finds_it_again(world: World) -> None:
    cluster, image = await world.join("aks-1"), world.cloud.hubs["main"].image
    world.cloud.registries[0].remove_image(image)
    await world.refresh(cluster)
    hub = await _hub(world)
    assert (hub["state"], hub["warning"]["category"], hub["failure"]) == ("warning", "probe_image_missing", None)
    assert f"gcloud artifacts docker tags list {_parse(world).probe_image.host}/{image}" in hub["warning"]["remedy"]
    assert hub["warning"]["runbook"] == f"{_DOCUMENTATION}/docs/runbook/probe_image_missing.md"
    assert hub["warning"]["at"] == hub["lastMint"]

    world.cloud.registries[0].add_image(image, "latest")
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    after = await _hub(world)
    assert after["warning"] is None
    assert after["lastMint"] > hub["lastMint"]


async def test_a_registry_that_does_not_respond_is_a_warning(world: World) -> None:
    world.cloud.registry_parts[0].faults.add(Fault(drop=True))
    await world.refresh(await world.join("aks-1"))
    hub = await _hub(world)
    assert (hub["state"], hub["warning"]["category"]) == ("warning", "registry_unavailable")
    world.clock.advance(60 * MINUTE)
    assert await _hub(world) == {**hub, "state": "unknown"}, "its token has expired"


async def test_a_failing_exchange_is_a_failure_until_the_next_mint(world: World) -> None:
    """The last mint stays, and so does its warning."""
    cluster = await world.join("aks-1")
    world.cloud.registries[0].remove_image(world.cloud.hubs["main"].image)
    await world.refresh(cluster)
    before = await _hub(world)
    world.cloud.google_part.faults.add(Fault(path=_STS))
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    hub = await _hub(world)
    failure = hub.pop("failure")
    assert hub == {**{key: value for key, value in before.items() if key != "failure"}, "state": "failed"}
    assert failure["category"] == "google_unavailable"
    assert failure["runbook"] == f"{_DOCUMENTATION}/docs/runbook/google_unavailable.md"
    assert failure["detail"]
    assert failure["remedy"]
    assert failure["at"] > hub["lastMint"]

    world.cloud.google_part.faults.clear()
    world.clock.advance(MINUTE)
    await world.refresh(cluster)
    assert (await _hub(world))["failure"] is None


async def test_a_token_that_the_registry_refuses_is_a_failure(world: World) -> None:
    world.cloud.registry_parts[0].faults.add(Fault(path="/v2/token", status=403))
    await world.refresh(await world.join("aks-1"))
    assert {**_NEVER, "state": "failed", "failure": (await _hub(world))["failure"]} == await _hub(world)
    assert (await _hub(world))["failure"]["category"] == "registry_denied"


async def test_a_mint_of_another_process_is_reported(world: World) -> None:
    other = world.build_services()
    await world.join("aks-1")
    world.cloud.registries[0].remove_image(world.cloud.hubs["main"].image)
    await other.federation.token(_parse(world))
    await other.close()
    assert (await _hub(world))["warning"]["category"] == "probe_image_missing"


async def test_of_two_processes_that_write_at_once_none_overwrites_the_other(world: World) -> None:
    """Neither where the row is new nor where it is changed."""
    await world.services.storage_objects.create()
    processes, identity = (world.build_services(), world.build_services()), _parse(world).identity
    for seconds in (1.0, 2.0):
        now = world.clock()
        processes[0].mints.record(identity, MintRecord.of_mint(now, now + 60 * MINUTE, seconds, None))
        processes[1].mints.record(identity, MintRecord.of_failure(now + MINUTE, GoogleUnavailable(f"down {seconds}")))
        await asyncio.gather(*(process.mints.finish() for process in processes))
        hub = await _hub(world)
        assert (hub["mintSeconds"], hub["failure"]["detail"]) == (seconds, f"down {seconds}")
        world.clock.advance(10 * MINUTE)
    for process in processes:
        await process.close()


async def test_a_record_that_hangs_does_not_keep_a_process_from_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mint_table, "_PATIENCE", mint_table._PATIENCE / 50)
    mints, now, ended = world.services.mints, world.clock(), asyncio.Event()

    async def hang(_hub: str, _outcome: MintRecord) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(mints, "_merge", hang)
    mints.record(_parse(world).identity, MintRecord.of_mint(now, now + 60 * MINUTE, 1, None))
    async with asyncio.timeout(10):
        await mints.finish()
    assert ended.is_set(), "the clients that it uses are closed next"


async def test_a_bug_in_a_record_is_reported_without_its_text(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The text of a task that fails would be logged by asyncio."""
    mints, raised = world.services.mints, asyncio.Event()

    async def fail(_hub: str, _outcome: MintRecord) -> None:
        raised.set()
        raise KeyError("ya29" + "-quoted")

    monkeypatch.setattr(mints, "_merge", fail)
    mints.record(_parse(world).identity, MintRecord(last_mint=world.clock()))
    await mints.finish()
    await raised.wait()
    gc.collect()
    assert "the record of a mint failed: KeyError" in caplog.text
    assert "ya29-quoted" not in caplog.text


@pytest.mark.parametrize(("is_written", "expected"), [(False, 3), (True, 1)])
async def test_a_record_that_others_overtake_each_time_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_written: bool, expected: int
) -> None:
    """What they have written is just as new. One that is written is done."""
    mints, tries = world.services.mints, list[str]()

    async def be_overtaken(hub: str, _: MintRecord) -> bool:
        tries.append(hub)
        await asyncio.sleep(0)
        return is_written

    monkeypatch.setattr(mints, "_merge_once", be_overtaken)
    mints.record(_parse(world).identity, MintRecord(last_mint=world.clock()))
    await mints.finish()
    assert len(tries) == expected


async def test_hubs_with_the_same_content_have_the_same_last_mint(world: World) -> None:
    world.cloud.hubs["alias"] = world.cloud.hubs["main"]
    await world.refresh(await world.join("aks-1", "alias"))
    assert _NEVER != await _hub(world, "main") == await _hub(world, "alias")


async def test_a_hub_without_a_name_is_not_recorded(world: World, rows: TableClient) -> None:
    """It came with a request. The settings were read before this hub was added."""
    world.cloud.add_hub("other")
    await world.services.federation.token(_parse(world, "other"))
    await world.services.mints.finish()
    assert [row async for row in rows.query_entities("PartitionKey eq 'hub'")] == []


async def test_a_row_holds_no_token(world: World, rows: TableClient) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    row = await _row(world, rows)
    assert {*row} == {"PartitionKey", "RowKey", "Format", "Record"}
    assert {*json.loads(row["Record"])} == {"lastMint", "expiresAt", "mintSeconds"}
    assert (await world.read_token(cluster))[:12] not in row["Record"]


async def test_a_row_holds_the_category_and_no_address(world: World, rows: TableClient) -> None:
    """The setting may change."""
    world.cloud.google_part.faults.add(Fault(path=_STS))
    await world.refresh(await world.join("aks-1"))
    failure = json.loads((await _row(world, rows))["Record"])["failure"]
    assert {*failure} == {"category", "detail", "remedy", "at"}


async def test_a_hub_that_fails_for_a_fleet_is_written_every_five_minutes(world: World, rows: TableClient) -> None:
    """And at once if it fails in another way. A refusal is remembered for a minute, then the chain is tried again."""
    clusters = [await world.join(f"aks-{n}") for n in range(3)]
    faults = world.cloud.google_part.faults
    faults.add(Fault(path=_STS))
    etags = []
    for minutes in (0, 2, 2, 2):
        world.clock.advance(minutes * MINUTE)
        await asyncio.gather(*(world.refresh(cluster) for cluster in clusters))
        etags.append((await _row(world, rows)).metadata["etag"])
    faults.clear()
    world.cloud.google.disabled.add("sts.googleapis.com")
    world.clock.advance(2 * MINUTE)
    await world.refresh(clusters[0])
    etags.append((await _row(world, rows)).metadata["etag"])
    assert [etags.index(etag) for etag in etags] == [0, 0, 0, 3, 4]
    assert world.cloud.google_part.journal.count("POST", _STS) == 4 * 3 + 1


async def test_a_failure_after_a_mint_is_written_at_once(world: World) -> None:
    await world.services.storage_objects.create()
    mints, identity = world.services.mints, _parse(world).identity
    for succeeds in (False, True, False):
        world.clock.advance(MINUTE)
        now, failure = world.clock(), GoogleUnavailable("down")
        minted = MintRecord.of_mint(now, now + 60 * MINUTE, 1, None)
        mints.record(identity, minted if succeeds else MintRecord.of_failure(now, failure))
        await mints.finish()
    assert (await _hub(world))["state"] == "failed"
    assert not mints._writes, "a process keeps none of its writes"


@pytest.mark.parametrize("mode", ["shut", "silent", "503"])
async def test_a_mint_does_not_wait_for_storage(
    world: World, gates: Gates, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    await world.join("aks-1")
    monkeypatch.setattr("pullkeeper.fleet.storage.CALL", timedelta(seconds=2))
    gates.set(mode)
    assert await world.services.federation.token(_parse(world))
    assert world.events.named("mint.unrecorded") == []
    await world.services.mints.finish()
    [event] = world.events.named("mint.unrecorded")
    assert (event["hub"], event["category"]) == ("main", "storage_unavailable")
    gates.set("open")
    assert await _hub(world) == _NEVER


async def test_a_row_that_was_read_and_cannot_be_written_is_reported(
    world: World, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.services.storage_objects.create()
    merge = MintRecord.merge

    def break_off(known: MintRecord, outcome: MintRecord) -> MintRecord:
        gates.set("shut")
        return merge(known, outcome)

    monkeypatch.setattr(MintRecord, "merge", break_off)
    world.services.mints.record(_parse(world).identity, MintRecord(last_mint=world.clock()))
    await world.services.mints.finish()
    [event] = world.events.named("mint.unrecorded")
    assert event["category"] == "storage_unavailable"


async def test_a_record_outlasts_the_deadline_of_its_invocation(world: World) -> None:
    await world.services.storage_objects.create()
    with deadline(timedelta()):
        world.services.mints.record(_parse(world).identity, MintRecord(last_mint=world.clock()))
    assert (await _hub(world))["lastMint"]


async def test_a_missing_table_is_reported(world: World) -> None:
    assert await world.services.federation.token(_parse(world))
    await world.services.mints.finish()
    [event] = world.events.named("mint.unrecorded")
    assert event["category"] == "storage_unavailable"


async def test_a_row_of_another_format_is_reported_and_left_alone(world: World, rows: TableClient) -> None:
    cluster = await world.join("aks-1")
    await rows.create_entity({"PartitionKey": "hub", "RowKey": _parse(world).identity, "Format": 2, "Record": "new"})
    before = (await _row(world, rows)).metadata["etag"]
    await world.refresh(cluster)
    assert before == (await _row(world, rows)).metadata["etag"]
    failure = UnknownFormat("the row of hub main in the table shards")
    event = {"hub": "main", "category": "unknown_format", "detail": failure.detail, "remedy": failure.remedy}
    assert world.events.named("mint.unrecorded") == [{"event": "mint.unrecorded", **event}]
    problem = (await _report(world))["problems"][-1]
    assert (problem["detail"], problem["severity"]) == (str(failure), "warning")
    assert problem["remedy"].startswith("During an upgrade: ")
    assert "deploy the newer version" in problem["remedy"]
    assert await _hub(world) == _NEVER


@pytest.mark.parametrize("record", ["{", "[]", '{"lastMint": "soon"}', 7, None])
async def test_a_row_that_cannot_be_read_is_written_again(world: World, rows: TableClient, record: Any) -> None:
    cluster = await world.join("aks-1")
    await rows.create_entity({"PartitionKey": "hub", "RowKey": _parse(world).identity, "Format": 1, "Record": record})
    assert await _hub(world) == _NEVER
    await world.refresh(cluster)
    assert (await _hub(world))["lastMint"]
