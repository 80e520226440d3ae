"""The queue carries what nobody expects, and what does not succeed."""

import json
from typing import Final

import pytest
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from local.serving import Fault
from pullkeeper.model import RefreshMessage
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_ELSEWHERE: Final = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g"
    "/providers/Microsoft.ContainerService/managedClusters/unknown"
)


async def _sent(world: World, body: str) -> None:
    await world.services.scheduler.run()
    async with QueueClient.from_connection_string(
        world.storage, "refresh", message_encode_policy=TextBase64EncodePolicy()
    ) as queue:
        await queue.send_message(body)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"cluster": _ELSEWHERE, "reason": "due"}),
        "not JSON",
        "[" * 5000,
        "null",
        json.dumps({"cluster": "/subscriptions/x/../y", "reason": "due"}),
        json.dumps({"cluster": "{id}", "reason": "because"}),
        json.dumps({"cluster": "{id}", "reason": "due", "namespace": "kube-system"}),
        json.dumps({"cluster": "{id}", "reason": "due", "token": "ya29.canary-of-the-queue"}),
        json.dumps({"cluster": "{id}", "reason": "due", "ya29.canary-of-the-queue": 1}),
        json.dumps({"cluster": "{id}", "reason": "due", "server": "https://evil.example"}),
    ],
    ids=["unknown", "text", "deep", "null", "dots", "reason", "field", "token", "token-as-field", "server"],
)
async def test_a_forged_message_ends_as_poison_with_an_event(world: World, body: str) -> None:
    """Nothing is written, nobody is called, and the event does not repeat what it carried."""
    cluster = await world.join("aks-1")
    await world.tick()
    before = len(cluster.part.journal.requests), world.cloud.google.exchanges
    await _sent(world, body.replace("{id}", str(cluster.id)))
    await world.process_queue()
    [told] = world.events.named("message.poisoned")
    assert told["category"] == "invalid_request"
    assert told["remedy"]
    assert "canary" not in world.format_events()
    assert before == (len(cluster.part.journal.requests), world.cloud.google.exchanges)


async def test_a_message_of_a_cluster_that_left_is_poison(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.services.scheduler.run()
    await world.services.fleet.remove(cluster.id)
    await world.process_queue()
    assert [event["category"] for event in world.events.named("message.poisoned")] == ["invalid_request"]
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"", b"\x00" * 10])
async def test_bytes_that_are_no_text_are_told(world: World, raw: bytes) -> None:
    await world.services.refresher.give_up(raw)
    assert [event["category"] for event in world.events.named("message.poisoned")] == ["invalid_request"]


async def test_what_the_queue_gave_up_is_due_at_the_next_tick(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.tick()
    await cluster.server.stop()
    world.clock.advance(25 * MINUTE)
    await world.tick()
    [told] = world.events.named("message.poisoned")
    assert told["category"] == "cluster_unreachable"
    assert told["failures"] == 1
    assert (await world.status(cluster)).next_due <= world.clock()


async def test_a_failure_that_only_a_person_can_mend_is_no_poison(world: World) -> None:
    """One try, told at once; the next one in a quarter of a token's life, however often it fails."""
    cluster = await world.join("aks-1", access=False)
    for _ in range(3):
        await world.tick()
        left = (await world.status(cluster)).next_due - world.clock()
        assert 14 * MINUTE < left <= 15 * MINUTE
        world.clock.advance(15 * MINUTE)
    assert world.events.named("message.poisoned") == []
    assert [event["category"] for event in world.events.named("secret.refresh_failed")] == ["cluster_rbac_denied"] * 3


async def test_messages_in_the_wrong_order_write_nothing_older(world: World) -> None:
    """A message that lay on the queue for long writes a token as good as any other."""
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


async def test_a_crash_between_message_and_lease_costs_a_message_only(world: World) -> None:
    cluster = await world.join("aks-1")
    scheduler = world.services.scheduler
    await scheduler._queue.put(RefreshMessage(cluster=cluster.id, reason="due"))
    assert await world.tick() == 2
    assert world.cloud.google.exchanges == 1
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


async def test_a_cluster_healed_by_another_try_is_no_failure_any_more(world: World) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH", status=503, times=7))
    await world.tick()
    status = await world.status(cluster)
    assert status.failures == 0
    assert status.targets[str(cluster.target)].state(world.clock()) == "fresh"
