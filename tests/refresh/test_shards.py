"""A shard is read with two calls and written with one; a row hurts none but itself."""

import asyncio
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Any

import pytest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from local.cloud import LocalCluster
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper import telemetry
from pullkeeper.deadline import deadline, remaining
from pullkeeper.errors import ClusterUnreachable, NotInFleet, StorageUnavailable, UnknownFormat
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shard_table import Shards, ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Found, Search, Status, TargetStatus
from pullkeeper.fleet.storage import CALL
from pullkeeper.fleet.table import Fleet, Member, Row, entity_keys
from pullkeeper.model import ClusterId, Target
from pullkeeper.publisher.federation import Federation
from pullkeeper.publisher.hub import Hub
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.capacity import Capacity
from pullkeeper.refresh.outcomes import Attempt, Gone
from pullkeeper.refresh.pending import Pending
from pullkeeper.tokens import Token
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


def _in_one_shard(shard: str, size: int) -> list[ClusterId]:
    ids = (ClusterId("00000000-0000-0000-0000-000000005eed", "fleet", f"aks-{n}") for n in count())
    return list(islice((one for one in ids if shard_of(one) == shard), size))


async def _edit(world: World, cluster: LocalCluster, columns: dict[str, Any]) -> None:
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        row = {**entity_keys(cluster.id), **columns}
        await tables.get_table_client("fleet").update_entity(row, mode=UpdateMode.MERGE)


async def _read(world: World, cluster: LocalCluster) -> dict[str, Any]:
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        keys = entity_keys(cluster.id)
        return dict(await tables.get_table_client("fleet").get_entity(keys["PartitionKey"], keys["RowKey"]))


async def _refresh_shard(world: World, cluster: LocalCluster) -> None:
    await world.services.refresher.refresh(RefreshMessage(shard=shard_of(cluster.id), reason="due"))


def _failure() -> dict[str, str]:
    """With texts, each of which no compression makes shorter than a row."""
    texts = {name: uuid.uuid4().hex + uuid.uuid4().hex for name in ("detail", "remedy", "note")}
    return {"category": "cluster_rbac_denied", **texts}


def _found(number: int, now: datetime) -> dict[str, Any]:
    return {"found": Found(namespace=uuid.uuid4().hex[:8], added_at=now.replace(microsecond=0) + number * 5 * MINUTE)}


@pytest.mark.parametrize("case", ["each with a failure of its own", "each found by a tick of its own"])
async def test_25_000_targets_fit_into_the_row_of_a_shard(world: World, case: str) -> None:
    """The service's limits: 64 KiB a property, 1 MiB a row. Texts of failures are left out before times are."""
    ordinary = TargetStatus(issued_at=world.clock(), expires_at=world.clock())
    statuses = {}
    for number, cluster in enumerate(_in_one_shard("0f", 50)):
        targets = {
            f"team-{target}/ar-pull-secret": ordinary.model_copy(
                update={
                    "uid": str(uuid.UUID(int=number * 500 + target, version=4)),
                    **(_failure() if "failure" in case else _found(target, world.clock())),
                }
            )
            for target in range(500)
        }
        statuses[cluster] = Status(targets=targets, search=Search(listed_at=world.clock()))
    shards = world.services.shards
    assert await shards.save(ShardState("0f", statuses=statuses))
    found = (await shards.read("0f")).statuses
    assert statuses.keys() == found.keys()
    for cluster, status in statuses.items():
        for name, target in status.targets.items():
            read = found[cluster].of(name)
            assert (target.uid, target.category, target.found) == (read.uid, read.category, read.found)


async def test_two_writers_of_a_shard_at_once_lose_nothing(world: World) -> None:
    """Forced: both have read the row before either writes."""
    cluster = await world.join("aks-1")
    shards = world.services.shards
    first, second = await shards.read(shard_of(cluster.id)), await shards.read(shard_of(cluster.id))
    assert await shards.save(replace(first, clusters=1))
    assert await shards.save(replace(second, clusters=2)) is None
    assert (await shards.read(shard_of(cluster.id))).clusters == 1


async def test_a_row_of_another_version_is_left_alone_and_reported(world: World) -> None:
    newer, other = await world.join("aks-1"), await world.join("aks-2")
    await world.tick()
    await _edit(world, newer, {"Format": 2})
    before = await _read(world, newer)
    writes = newer.part.journal.count("PATCH", "/secrets/")
    world.clock.advance(25 * MINUTE)
    await world.tick()
    assert before == await _read(world, newer)
    assert writes == newer.part.journal.count("PATCH", "/secrets/")
    reported = [event for event in world.events.named("fleet.status") if event["cluster"] == str(newer.id)]
    assert reported[-1]["category"] == "unknown_format"
    with pytest.raises(UnknownFormat, match="the row has format 2"):
        await world.services.fleet.member(newer.id)
    [line], _ = await world.services.overview.page("unknown", None)
    assert line.worst
    assert (line.worst.category, line.worst.detail) == ("unknown_format", "the row has format 2")
    assert (await world.target(other)).state(world.clock()) == "fresh"


async def test_a_shard_of_another_version_is_left_alone_and_reported(world: World) -> None:
    cluster = await world.join("aks-1")
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        shards = tables.get_table_client("shards")
        row = {"PartitionKey": "shard", "RowKey": shard_of(cluster.id), "Format": 2}
        await shards.update_entity(row, mode=UpdateMode.MERGE)
        await world.tick()
        await _refresh_shard(world, cluster)
        assert (await shards.get_entity("shard", shard_of(cluster.id)))["Format"] == 2
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0
    [run] = world.events.named("run.completed")
    assert (run["other_version"], run["overdue"], run["queued"]) == (1, 0, 0)
    assert run["remedy"] == telemetry.documentation.figures
    assert world.events.named("shard.completed")[-1]["category"] == "unknown_format"


async def test_no_writer_overwrites_a_shard_of_another_version(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.tick()
    keys = {"PartitionKey": "shard", "RowKey": shard_of(cluster.id)}
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        table = tables.get_table_client("shards")
        await table.update_entity({**keys, "Format": 2}, mode=UpdateMode.MERGE)
        before = dict(await table.get_entity(*keys.values()))
        with pytest.raises(UnknownFormat):
            await world.services.shards.forget(cluster.id)
        assert dict(await table.get_entity(*keys.values())) == before


async def test_a_message_of_another_version_goes_back_to_the_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For five minutes."""
    queue, delays = world.services.refresher._queue, list[timedelta]()
    put = queue.put

    async def note(message: str, delay: timedelta) -> None:
        delays.append(delay)
        await put(message, delay)

    monkeypatch.setattr(queue, "put", note)
    await world.services.refresher.receive(b'{"version": 2, "shard": "00", "wave": 7}')
    failure = UnknownFormat("a message of the queue refresh")
    cause = {"category": failure.category, "detail": failure.detail, "remedy": failure.remedy}
    assert world.events.named("message.deferred") == [{"event": "message.deferred", "queue": "refresh", **cause}]
    assert await world.services.queues["refresh"].depth() == 1
    assert await world.process_queue() == 0  # it is hidden
    assert delays == [5 * MINUTE]


async def test_a_row_that_was_deleted_since_it_was_read_is_read_again(world: World) -> None:
    cluster = await world.join("aks-1")
    shards, shard = world.services.shards, shard_of(cluster.id)
    before = await shards.read(shard)
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        await tables.get_table_client("shards").delete_entity("shard", shard)
    assert await shards.save(before) is None
    assert await shards.update(shard, lambda state: state)


async def test_a_writer_that_others_overtake_each_time_gives_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, tries = await world.join("aks-1"), list[ShardState]()

    async def be_overtaken(_: Shards, state: ShardState) -> None:
        tries.append(state)
        await asyncio.sleep(0)

    monkeypatch.setattr(Shards, "save", be_overtaken)
    async with asyncio.timeout(20):
        with pytest.raises(StorageUnavailable, match="changed by others 5 times in a row"):
            await world.services.shards.update(shard_of(cluster.id), lambda state: state)
        await _refresh_shard(world, cluster)
    assert len(tries) == 5 + 5
    assert world.events.named("shard.completed")[-1]["category"] == "storage_unavailable"


async def test_a_cluster_that_joins_during_a_run_is_due_at_the_next_tick(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one shard. The run that began before the second one joined does not overwrite that it is due."""
    first, second = _in_one_shard("0a", 2)
    old = await world.cloud.add_cluster(first.name, "main")
    member = replace(old.member, cluster=old.member.cluster.model_copy(update={"cluster": first}))
    await world.services.fleet.register(member)
    write = Writer.write

    async def join_meanwhile(*args: Any, **named: Any) -> Attempt:
        monkeypatch.setattr(Writer, "write", write)
        joined = member.cluster.model_copy(update={"cluster": second})
        await world.services.fleet.register(replace(member, cluster=joined))
        return await write(*args, **named)

    monkeypatch.setattr(Writer, "write", join_meanwhile)
    await world.services.refresher.refresh(RefreshMessage(shard="0a", reason="due"))
    state = await world.services.shards.read("0a")
    assert state.status(first).targets
    assert state.next_due <= world.clock()
    await world.tick()
    assert (await world.services.shards.read("0a")).status(second).targets


async def test_two_runs_at_once_leave_one_truth(world: World) -> None:
    """Each knows the row as it was before; the second to record reads it again."""
    cluster = await world.join("aks-1")
    await asyncio.gather(*(_refresh_shard(world, cluster) for _ in range(4)))
    target = await world.target(cluster)
    assert target.state(world.clock()) == "fresh"
    assert target.failures == 0
    assert world.events.named("drift.repaired") == []
    assert [event for event in world.events.named("shard.completed") if "category" in event] == []


async def test_what_another_run_has_refreshed_is_not_written_again(world: World) -> None:
    """The message of a process that was killed returns after ten minutes and finds nothing to do."""
    cluster = await world.join("aks-1")
    await world.tick()
    writes = cluster.part.journal.count("PATCH", "/secrets/")
    world.clock.advance(10 * MINUTE)
    due = await world.next_due(cluster)
    if due > world.clock():
        await _refresh_shard(world, cluster)
        assert writes == cluster.part.journal.count("PATCH", "/secrets/")
    assert world.cloud.google.exchanges == 1


async def test_what_another_run_writes_meanwhile_is_not_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, mint, overtaken = await world.join("aks-1"), Federation.token, asyncio.Event()

    async def be_overtaken(self: Federation, hub: Hub, **named: Any) -> Token:
        if not overtaken.is_set():
            overtaken.set()
            await _refresh_shard(world, cluster)
            world.clock.advance(timedelta(seconds=6))
        return await mint(self, hub, **named)

    monkeypatch.setattr(Federation, "token", be_overtaken)
    await _refresh_shard(world, cluster)
    assert overtaken.is_set()
    assert cluster.part.journal.count("PATCH", "/secrets/") == 1


async def test_a_shard_is_read_again_once_for_all_of_its_clusters(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: the mint takes longer than the rows are good for."""
    ids = _in_one_shard("0b", 5)
    old = await world.cloud.add_cluster(ids[0].name, "main")
    for one in ids:
        member = old.member.cluster.model_copy(update={"cluster": one})
        await world.services.fleet.register(replace(old.member, cluster=member))
    mint, read, times, reads = Federation.token, Fleet.shard, [timedelta(seconds=6)], list[str]()

    async def mint_slowly(self: Federation, hub: Hub, **named: Any) -> Token:
        if times:
            world.clock.advance(times.pop())
        return await mint(self, hub, **named)

    async def note(self: Fleet, shard: str) -> list[Row]:
        reads.append(shard)
        return await read(self, shard)

    monkeypatch.setattr(Federation, "token", mint_slowly)
    monkeypatch.setattr(Fleet, "shard", note)
    await world.services.refresher.refresh(RefreshMessage(shard="0b", reason="due"))
    assert world.events.named("shard.completed")[-1]["ok"] == 5
    assert len(reads) == 2


async def test_a_cluster_that_left_has_no_row_and_no_status(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.tick()
    await world.services.fleet.remove(cluster.id)
    assert (await world.services.shards.read(shard_of(cluster.id))).statuses == {}
    with pytest.raises(NotInFleet):
        await world.services.fleet.member(cluster.id)
    await world.services.fleet.remove(cluster.id)


async def test_a_cluster_that_leaves_while_its_run_is_recorded_has_no_status(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, save, gone = await world.join("aks-1"), Shards.save, list[ClusterId]()

    async def leave_first(self: Shards, state: ShardState) -> ShardState | None:
        if not gone:
            gone.append(cluster.id)
            await world.services.fleet.remove(cluster.id)
        return await save(self, state)

    monkeypatch.setattr(Shards, "save", leave_first)
    await world.refresh(cluster)
    assert (await world.services.shards.read(shard_of(cluster.id))).statuses == {}


@pytest.mark.parametrize("refresher", ["central", "in-cluster"])
async def test_a_cluster_that_leaves_while_it_waits_for_a_place_is_no_failure(world: World, refresher: str) -> None:
    cluster = await world.join("aks-1")
    own = cluster.member.cluster.model_copy(update={"refresher": refresher})
    await world.services.fleet.register(replace(cluster.member, cluster=own))
    world.services.refresher._capacity = capacity = Capacity(prompt=0)
    refresh = asyncio.create_task(world.refresh(cluster))
    async with asyncio.timeout(20):
        while not capacity._prompt._waiters:  # noqa: ASYNC110 - it tells no one
            await asyncio.sleep(0.01)
    await world.services.fleet.remove(cluster.id)
    world.clock.advance(timedelta(seconds=6))
    capacity._prompt.release()
    await refresh
    assert world.events.named("secret.refresh_failed") == []
    assert world.events.named("shard.completed")[-1]["failed"] == 0


async def test_a_manual_refresh_that_continues_leaves_what_has_failed_and_waits(world: World) -> None:
    """Until it is due."""
    cluster = await world.join("aks-1")
    cluster.part.faults.add(recordings.fault("forbidden", method="PATCH", path="/secrets/"))
    await world.refresh(cluster)
    calls = cluster.part.journal.count("PATCH", "/secrets/")
    since = world.clock() - MINUTE
    message = RefreshMessage(shard=shard_of(cluster.id), cluster=cluster.id, reason="manual", since=since)
    await world.services.refresher.refresh(message)
    assert calls == cluster.part.journal.count("PATCH", "/secrets/")
    world.clock.advance(15 * MINUTE)
    await world.services.refresher.refresh(message)
    assert calls < cluster.part.journal.count("PATCH", "/secrets/")


def test_the_first_outcome_of_a_target_counts() -> None:
    cluster, target, pending = ClusterId("s", "g", "n"), Target(), Pending()
    pending.add(cluster, Attempt({target: Gone(deleted=True)}))
    pending.remove(dict(pending.attempts))
    pending.add(cluster, Attempt({target: ClusterUnreachable("closed later")}))
    assert pending.attempts == {}


def test_an_outcome_that_comes_while_others_are_recorded_waits_for_the_next_record() -> None:
    cluster, later, pending = ClusterId("s", "g", "n"), Target(namespace="later"), Pending()
    pending.add(cluster, Attempt({Target(): Gone(deleted=True)}, search=ClusterUnreachable("counts once")))
    recorded = dict(pending.attempts)
    pending.add(cluster, Attempt({later: Gone(deleted=True)}))
    pending.remove(recorded)
    assert pending.attempts[cluster].outcomes.keys() == {later}
    assert pending.attempts[cluster].search is None


@pytest.mark.parametrize(("lifetime", "seconds"), [(3600, 30), (900, 7.5)])
async def test_a_failure_is_tried_again_after_30_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch, lifetime: int, seconds: float
) -> None:
    """Of a token that lives for an hour."""
    world.cloud.add_hub("other", lifetime=lifetime)
    cluster = await world.join("aks-1", "other")
    await world.tick()
    await cluster.server.stop()
    world.clock.advance(25 * MINUTE)
    sent = list[tuple[str, timedelta]]()

    async def send(message: RefreshMessage, delay: timedelta) -> None:
        sent.append((message.reason, delay))

    monkeypatch.setattr(world.services.refresher._queue, "put", send)
    await _refresh_shard(world, cluster)
    target = await world.target(cluster)
    assert target.failures == 1
    pause = timedelta(seconds=seconds)
    assert pause - timedelta(seconds=1) < target.next_due - world.clock() <= pause
    [(reason, delay)] = sent
    assert (reason, round(delay / pause, 2)) == ("retry", 1)


@pytest.mark.parametrize("reason", ["due", "manual"])
async def test_a_shard_that_takes_too_long_continues_in_a_further_message(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """One cluster at a time, and a minute for each: a run begins no cluster after a minute.

    By hand, those that were refreshed before are written again; otherwise only what is due, to the end.
    """
    first, *others = _in_one_shard("0c", 4)
    old = await world.cloud.add_cluster(first.name, "main")
    for cluster in (first, *others):
        member = old.member.cluster.model_copy(update={"cluster": cluster})
        await world.services.fleet.register(replace(old.member, cluster=member))
    asked = RefreshMessage(shard="0c", cluster=None if reason == "manual" else first, reason="manual")
    await world.services.refresher.refresh(asked)
    world.services.refresher._capacity = Capacity(prompt=1)
    began, write = world.clock(), Writer.write

    async def take_a_minute(*args: Any, **named: Any) -> Attempt:
        world.clock.advance(1.1 * MINUTE)
        return await write(*args, **named)

    monkeypatch.setattr(Writer, "write", take_a_minute)
    if reason == "due":
        await world.services.scheduler.run()
    else:
        await world.services.scheduler.refresh_all_now()
    expected = {first, *others} if reason == "manual" else {*others}
    assert await world.process_queue() == len(expected)
    statuses = (await world.services.shards.read("0c")).statuses
    written = {cluster: status.of(old.target).last_success for cluster, status in statuses.items()}
    assert {cluster for cluster, at in written.items() if at and at > began} == expected


async def test_a_run_leaves_the_time_of_two_calls_for_its_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the row again, where another run was quicker."""
    cluster, token, left = await world.join("aks-1"), Writer.token, list[float]()

    async def note(*args: Any) -> Any:
        left.append(remaining(10_000))
        return await token(*args)

    monkeypatch.setattr(Writer, "token", note)
    with deadline(3 * CALL):
        await _refresh_shard(world, cluster)
    assert left[0] <= CALL.total_seconds()


async def test_storage_that_fails_during_a_run_is_reported_as_such(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not as a failure of the clusters whose rows could not be read again."""
    cluster = await world.join("aks-1")
    token = Writer.token

    async def take_long(*args: Any) -> Any:
        world.clock.advance(timedelta(seconds=6))
        monkeypatch.setattr(Fleet, "shard", fail)
        return await token(*args)

    async def fail(*_: Any) -> Any:
        raise StorageUnavailable("no response")

    monkeypatch.setattr(Writer, "token", take_long)
    await _refresh_shard(world, cluster)
    [event] = world.events.named("shard.completed")
    assert event["category"] == "storage_unavailable"
    assert [record.levelname for record in caplog.records if "shard.completed" in record.message] == ["ERROR"]
    assert world.events.named("secret.refresh_failed") == []


async def test_a_bug_at_one_cluster_does_not_end_the_run_of_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two in one shard. Its text is not repeated: it may quote anything."""
    first, second = _in_one_shard("0d", 2)
    old = await world.cloud.add_cluster(first.name, "main")
    for cluster in (first, second):
        member = old.member.cluster.model_copy(update={"cluster": cluster})
        await world.services.fleet.register(replace(old.member, cluster=member))
    write = Writer.write

    async def fail_once(self: Writer, member: Member, *args: Any, **named: Any) -> Attempt:
        if member.cluster.cluster == first:
            raise KeyError("ya29.canary")
        return await write(self, member, *args, **named)

    monkeypatch.setattr(Writer, "write", fail_once)
    await world.services.refresher.refresh(RefreshMessage(shard="0d", reason="due"))
    statuses = (await world.services.shards.read("0d")).statuses
    categories = {cluster: [one.category for one in status.targets.values()] for cluster, status in statuses.items()}
    assert categories == {first: ["internal"], second: [None]}
    assert "canary" not in world.format_events()


async def test_what_ends_while_the_row_is_written_is_recorded_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: both in one shard, the second responds while the first is being recorded."""
    first, second = _in_one_shard("0a", 2)
    clusters = [await world.join(one.name) for one in (first, second)]
    for id_, cluster in zip((first, second), clusters, strict=True):
        await world.services.fleet.remove(cluster.id)
        joined = cluster.member.cluster.model_copy(update={"cluster": id_})
        await world.services.fleet.register(replace(cluster.member, cluster=joined))
    clusters[1].part.faults.add(Fault(path="/secrets/", delay=timedelta(seconds=0.6), slow_only=True))
    save = Shards.save

    async def save_slowly(shards: Shards, state: ShardState) -> ShardState | None:
        await asyncio.sleep(1)
        return await save(shards, state)

    monkeypatch.setattr(Shards, "save", save_slowly)
    await world.services.refresher.refresh(RefreshMessage(shard="0a", reason="due"))
    state = await world.services.shards.read("0a")
    assert state.status(first).targets
    assert state.status(second).targets
