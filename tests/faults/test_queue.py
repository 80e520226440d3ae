"""Messages that are forged, late, repeated or unreadable, and those that fail."""

import base64
import json
from datetime import timedelta

import pytest
from azure.functions.decorators.queue import QueueTrigger
from azure.storage.queue.aio import QueueClient

from local.serving import Fault
from pullkeeper import telemetry
from pullkeeper.errors import InvalidRequest
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from tests.faults.gate import Gates
from tests.faults.triggers import REGISTERED
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


@pytest.mark.parametrize(
    "body",
    [
        "not JSON",
        "[" * 5000,
        "null",
        json.dumps({"version": 1, "shard": "40", "reason": "due"}),
        json.dumps({"version": 1, "shard": "0' or '1' eq '1", "reason": "due"}),
        json.dumps({"version": 1, "shard": "00", "reason": "because"}),
        json.dumps({"version": 1, "shard": "00", "reason": "due", "cluster": "/subscriptions/x/../y"}),
        json.dumps({"version": 1, "shard": "00", "reason": "due", "namespace": "kube-system"}),
        json.dumps({"version": 1, "shard": "00", "reason": "due", "token": "ya29.canary-of-the-queue"}),
        json.dumps({"version": 1, "shard": "00", "reason": "due", "ya29.canary-of-the-queue": 1}),
        json.dumps({"version": 1, "shard": "00", "reason": "due", "server": "https://evil.example"}),
    ],
    ids=["text", "deep", "null", "shard", "filter", "reason", "dots", "field", "token", "token-as-field", "server"],
)
async def test_a_forged_message_ends_as_poison_with_an_event(world: World, body: str) -> None:
    """Nothing is written, no service is called, and the event does not quote the message."""
    cluster = await world.join("aks-1")
    await world.tick()
    before = len(cluster.part.journal.requests), world.cloud.google.exchanges
    with pytest.raises(InvalidRequest) as refused:
        await world.services.refresher.receive(body.encode())
    await world.services.refresher.give_up(body.encode())
    cause = {"category": "invalid_request", "detail": refused.value.detail, "remedy": refused.value.remedy}
    assert world.events.named("message.poisoned") == [{"event": "message.poisoned", "queue": "refresh", **cause}]
    assert "canary" not in world.format_events()
    assert before == (len(cluster.part.journal.requests), world.cloud.google.exchanges)


async def test_a_message_for_a_cluster_that_left_does_nothing(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.services.scheduler.run()
    await world.services.fleet.remove(cluster.id)
    await world.process_queue()
    await world.services.refresher.refresh(
        RefreshMessage(shard=shard_of(cluster.id), cluster=cluster.id, reason="manual")
    )
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0
    assert world.events.named("message.poisoned") == []


def test_each_queue_and_its_poison_queue_has_a_function() -> None:
    triggers = [function.get_trigger() for function in REGISTERED]
    names = [trigger.queue_name for trigger in triggers if isinstance(trigger, QueueTrigger)]
    assert sorted(names) == ["onboarding", "onboarding-poison", "refresh", "refresh-poison"]


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"", b"\x00" * 10])
async def test_a_poisoned_message_of_bytes_is_reported(world: World, raw: bytes) -> None:
    await world.services.refresher.give_up(raw)
    assert [event["category"] for event in world.events.named("message.poisoned")] == ["invalid_request"]


async def test_a_message_that_the_queue_gives_up_loses_no_work(world: World) -> None:
    """It is reported with its shard, and that this will be sent again."""
    message = RefreshMessage(shard="0a", reason="due")
    await world.services.refresher.give_up(message.model_dump_json(by_alias=True, exclude_none=True).encode())
    [event] = world.events.named("message.poisoned")
    assert (event["shard"], event["category"]) == ("0a", "internal")
    assert event["detail"].endswith("The next tick sends the shard again")


async def test_a_failure_that_no_retry_can_help_is_not_poisoned(world: World) -> None:
    """One try, reported at once; the next one in a quarter of a token's life, however often it fails."""
    cluster = await world.join("aks-1", access=False)
    for _ in range(3):
        await world.tick()
        left = await world.next_due(cluster) - world.clock()
        assert 14 * MINUTE < left <= 15 * MINUTE
        world.clock.advance(15 * MINUTE)
    assert world.events.named("message.poisoned") == []
    assert [event["category"] for event in world.events.named("secret.refresh_failed")] == ["cluster_rbac_denied"] * 3


async def test_messages_in_the_wrong_order_write_nothing_older(world: World) -> None:
    """A message that was on the queue for long writes a token as good as any other."""
    cluster = await world.join("aks-1")
    await world.services.scheduler.run()
    world.clock.advance(40 * MINUTE)
    await world.services.scheduler.run()
    await world.refresh(cluster)
    first = await world.target(cluster)
    await world.process_queue()
    last = await world.target(cluster)
    assert first.issued_at is not None
    assert last.issued_at is not None
    assert first.issued_at <= last.issued_at
    assert last.expires_at is not None
    assert last.expires_at - world.clock() > 49 * MINUTE


async def test_a_message_that_comes_twice_costs_one_write(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.services.queues["refresh"].put(RefreshMessage(shard=shard_of(cluster.id), reason="due"))
    assert await world.tick() == 2
    assert world.cloud.google.exchanges == 1
    assert cluster.part.journal.count("PATCH", "/secrets/") == 1
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


async def test_a_try_that_succeeds_after_failed_ones_leaves_no_failure(world: World) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=503, times=7))
    for _ in range(3):
        await world.tick()
        world.clock.advance(timedelta(seconds=30))
    target = await world.target(cluster)
    assert (target.failures, target.state(world.clock())) == (0, "fresh")


async def test_a_message_has_its_version(world: World) -> None:
    """By which code of another version knows that it must not read it."""
    cluster = await world.join("aks-1")
    await world.services.scheduler.run()
    async with QueueClient.from_connection_string(world.storage, "refresh") as client:
        [message] = await client.peek_messages()
    assert json.loads(base64.b64decode(message.content)) == {
        "version": 1,
        "shard": shard_of(cluster.id),
        "reason": "due",
    }


async def test_a_delay_is_rounded_up_to_whole_seconds(world: World, gates: Gates) -> None:
    await world.services.queues["refresh"].put("later", timedelta(milliseconds=400))
    *_, (_, _, path) = gates["Queue"].requests
    assert "visibilitytimeout=1" in path


async def test_the_depth_of_each_queue_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: dict[str, float] = {}

    def record(depth: float, attributes: dict[str, str]) -> None:
        measured[attributes["queue"]] = depth

    monkeypatch.setattr(telemetry.queue_depth, "set", record)
    await world.join("aks-1")
    await world.services.scheduler.run()
    assert measured == {"refresh": 1, "refresh-poison": 0, "onboarding": 0, "onboarding-poison": 0}
    [event] = world.events.named("run.completed")
    depths = {name: value for name, value in event.items() if name.endswith("_depth")}
    assert depths == {
        "refresh_depth": 1,
        "refresh_poison_depth": 0,
        "onboarding_depth": 0,
        "onboarding_poison_depth": 0,
    }


@pytest.mark.parametrize("queue", ["refresh-poison", "onboarding-poison"])
async def test_messages_that_no_function_sees_are_reported_with_the_command_that_removes_them(
    world: World, queue: str
) -> None:
    """Not base64, and base64 of bytes that are not UTF-8: the host calls no function with them."""
    await world.services.scheduler.run()
    async with QueueClient.from_connection_string(world.storage, queue) as client:
        await client.send_message("not base64")
        await world.services.scheduler.run()
        await client.send_message(base64.b64encode(b"\xff\xfe").decode())
    await world.services.scheduler.run()
    first, event = world.events.named("message.poisoned")
    assert (event["queue"], event["category"]) == (queue, "invalid_request")
    assert [one["detail"].partition(" ")[0] for one in (first, event)] == ["1", "2"]
    for command in ("peek", "clear"):
        assert f"az storage message {command} --queue-name {queue}" in event["remedy"]
