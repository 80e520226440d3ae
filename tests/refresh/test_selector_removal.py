"""A namespace that loses the labels of a selector: reported, not refreshed, and cleaned only where that is safe."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from local.cloud import LocalCluster
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper import telemetry
from pullkeeper.fleet.status import Found, Search, Status, TargetStatus
from pullkeeper.model import Target, Wish
from pullkeeper.refresh.removal import _may_prune
from pullkeeper.service_accounts import ServiceAccount
from tests.refresh.test_selector import TEAMS, create, end, join, label, named, tick, writes
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_ACCOUNTS: Final = (ServiceAccount(name="absent"), *TEAMS.service_accounts)
PRUNED: Final = TEAMS.model_copy(update={"prune": True, "service_accounts": _ACCOUNTS})
NAME: Final = "team-a/ar-pull-secret"
_STEP: Final = 10 * MINUTE
"""Between two lists: a complete one after another, and half as many as the timer makes."""
_AN_HOUR: Final = 7
"""Steps, with one to spare."""


async def lose(world: World, *targets: Wish) -> LocalCluster:
    """A cluster whose namespace `team-a` got its secret and lost the label, as a tick has seen."""
    cluster = await join(world, *targets)
    await create(cluster, "team-a", pull="yes")
    await tick(world)
    await label(cluster, "team-a", pull="no")
    await tick(world)
    return cluster


async def status_of(world: World, cluster: LocalCluster) -> TargetStatus | None:
    return (await world.status(cluster)).targets.get(NAME)


async def has_secret(cluster: LocalCluster) -> bool:
    items = (await cluster.admin.call("GET", "/api/v1/namespaces/team-a/secrets"))["items"]
    return [item["metadata"]["name"] for item in items] == ["ar-pull-secret"]


async def steps(world: World, number: int = _AN_HOUR) -> None:
    for _ in range(number):
        world.clock.advance(_STEP)
        await world.tick()


async def test_it_is_reported_and_not_refreshed_and_keeps_its_secret(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a token's life it is looked at, and not by hand. That another selector prunes its own changes nothing.
    No figure shows that its token has expired.
    """
    lifetimes = list[float]()
    monkeypatch.setattr(telemetry.remaining_lifetime, "record", lambda seconds, _: lifetimes.append(seconds))
    labels = {"match_labels": {"other": "yes"}}
    other = PRUNED.model_copy(
        update={"secret": "other", "namespace_selector": TEAMS.namespace_selector.model_copy(update=labels)}
    )
    cluster = await lose(world, TEAMS, other)
    written = writes(cluster)
    for minutes, looks in ((50, 0), (15, 1), (15, 1)):
        world.clock.advance(minutes * MINUTE)
        await world.tick()
        await world.refresh(cluster)
        assert writes(cluster) - written == looks
    status = await status_of(world, cluster)
    assert status
    assert (status.state(world.clock()), status.note) == ("removed", None)
    await steps(world)
    assert await status_of(world, cluster)
    assert await has_secret(cluster)
    assert named(world, "target.removed") == [NAME]
    assert world.events.named("run.completed")[-1]["removed"] == 1
    assert min(lifetimes) > 0


async def test_with_prune_its_secret_is_deleted_after_a_tokens_life(world: World) -> None:
    cluster = await lose(world, PRUNED)
    await steps(world, 5)
    assert await has_secret(cluster)
    await steps(world, 2)
    assert not await has_secret(cluster)
    account = await cluster.admin.call("GET", "/api/v1/namespaces/team-a/serviceaccounts/default")
    assert "imagePullSecrets" not in account or account["imagePullSecrets"] == []
    assert await status_of(world, cluster) is None
    details = [seen["detail"] for seen in world.events.named("target.removed")]
    assert details == ["no selector finds its namespace; it is not refreshed any more", "the secret was deleted"]


async def test_while_an_account_cannot_be_changed_its_secret_stays(world: World) -> None:
    """Without the secret nothing would lead back to the account."""
    cluster = await lose(world, PRUNED)
    cluster.part.faults.add(Fault(path="/serviceaccounts/", method="PATCH"))
    await steps(world)
    assert await has_secret(cluster)
    cluster.part.faults.clear()
    await steps(world)
    assert not await has_secret(cluster)


async def test_the_label_may_come_back(world: World) -> None:
    cluster = await lose(world, PRUNED)
    await steps(world, 5)
    await label(cluster, "team-a", pull="yes")
    await tick(world)
    status = await status_of(world, cluster)
    assert status
    assert status.state(world.clock()) == "fresh"
    await steps(world)
    assert await has_secret(cluster)
    assert world.events.named("drift.repaired") == []


@pytest.mark.parametrize(
    ("case", "category"), [("forbidden", "cluster_rbac_denied"), ("webhook-down", "admission_denied")]
)
async def test_a_secret_that_another_client_has_written_too_is_kept(world: World, case: str, category: str) -> None:
    """Where the role that shows it is missing, or a webhook is down, that is a failure, until it shows."""
    cluster = await lose(world, PRUNED)
    await cluster.admin.edit_secret("team-a", "ar-pull-secret", '{"auths":{}}')
    cluster.part.faults.add(recordings.fault(case, path="/namespaces/team-a/secrets/", method="PATCH"))
    await steps(world)
    status = await status_of(world, cluster)
    assert status
    assert status.category == category
    assert "<" not in (status.remedy or "")
    assert status.failures
    cluster.part.faults.clear()
    await steps(world, 2)
    assert await has_secret(cluster)
    status = await status_of(world, cluster)
    assert status
    assert (status.category, status.detail, status.remedy, status.failures) == (None, None, None, 0)
    assert status.note == "not removed: it is also written by kubectl-edit"


async def test_a_secret_that_was_created_again_is_kept(world: World) -> None:
    cluster = await lose(world, PRUNED)
    await cluster.admin.delete_secret("team-a", "ar-pull-secret")
    await cluster.admin.create_secret("team-a", "ar-pull-secret", '{"auths":{}}', manager="pullkeeper")
    await steps(world)
    assert await has_secret(cluster)
    status = await status_of(world, cluster)
    assert status
    assert status.note == "not removed: it is also written by another client, which created it again"


async def test_lists_that_fail_begin_the_hour_again(world: World) -> None:
    cluster = await lose(world, PRUNED)
    await steps(world, 4)
    cluster.part.faults.add(Fault(path="/api/v1/namespaces$", method="GET"))
    await tick(world)
    cluster.part.faults.clear()
    await tick(world)
    await steps(world, 3)
    assert await has_secret(cluster)
    status = await status_of(world, cluster)
    assert status
    assert str(status.note).startswith("to be removed, once lists of namespaces have been complete")
    await steps(world, 2 * _AN_HOUR)
    assert not await has_secret(cluster)


@pytest.mark.parametrize(
    ("removed", "complete", "may"), [(60, 60, True), (60, 59, False), (59, 60, False), (60, None, False)]
)
def test_both_the_loss_of_the_label_and_complete_lists_are_a_tokens_life_old(
    removed: float, complete: float | None, *, may: bool
) -> None:
    """None: the last list has failed."""
    now = datetime.now(UTC)
    found = Found(added_at=now, removed_at=now - removed * MINUTE)
    search = Search(since=None if complete is None else now - complete * MINUTE)
    status = Status(targets={NAME: TargetStatus(found=found)}, search=search)
    assert _may_prune(Target(namespace="team-a"), status, now) is may


async def test_without_any_list_for_long_the_hour_begins_again(world: World) -> None:
    """The app was stopped: what happened meanwhile is not known."""
    cluster = await lose(world, PRUNED)
    for _ in range(4):
        world.clock.advance(16 * MINUTE)
        await world.tick()
    assert await has_secret(cluster)


async def test_a_namespace_that_is_named_by_now_keeps_its_secret(world: World) -> None:
    cluster = await lose(world, PRUNED)
    lost = await status_of(world, cluster)
    wanted = cluster.member.cluster.model_copy(update={"targets": (Target(namespace="team-a"), PRUNED)})
    await world.services.fleet.register(replace(cluster.member, cluster=wanted))
    await steps(world)
    assert await has_secret(cluster)
    status = await status_of(world, cluster)
    assert status
    assert status.found is None
    assert status.state(world.clock()) == "fresh"
    assert lost
    assert status.uid == lost.uid, "it was not deleted and created again"


async def test_without_the_selector_what_it_has_found_is_removed_and_remembered(world: World) -> None:
    cluster = await join(world, Target(), PRUNED)
    await create(cluster, "team-a", pull="yes")
    await tick(world)
    wanted = cluster.member.cluster.model_copy(update={"targets": (Target(),)})
    await world.services.fleet.register(replace(cluster.member, cluster=wanted))
    await steps(world, 2 * _AN_HOUR)
    status = await status_of(world, cluster)
    assert status
    assert status.removed_at
    assert world.clock() - status.removed_at > _AN_HOUR * _STEP
    assert (await world.status(cluster)).search is None
    assert await has_secret(cluster)
    assert named(world, "target.removed") == [NAME]


@pytest.mark.parametrize(
    ("wish", "case", "note"),
    [
        (TEAMS, "policy-forbids", None),
        (TEAMS, "forbidden", None),
        (PRUNED, "policy-forbids", "not removed"),
    ],
)
async def test_a_secret_at_which_the_app_may_not_look_counts_as_kept(
    world: World, wish: Wish, case: str, note: str | None
) -> None:
    """With prune the role allows to look at ours, so only a policy may forbid it."""
    cluster = await lose(world, wish)
    cluster.part.faults.add(recordings.fault(case, path="/namespaces/team-a/secrets/", method="PATCH"))
    await steps(world)
    status = await status_of(world, cluster)
    assert status
    assert (status.state(world.clock()), status.category) == ("removed", None)
    assert (status.note and status.note.partition(":")[0]) == note
    assert world.events.named("secret.refresh_failed") == []


async def test_a_deleted_namespace_is_forgotten_once_its_secret_would_have_expired(world: World) -> None:
    cluster = await join(world)
    await create(cluster, "team-a", pull="yes")
    await tick(world)
    await end(cluster, "team-a")
    await tick(world)
    assert await status_of(world, cluster)
    await steps(world)
    assert await status_of(world, cluster) is None
    assert [seen["detail"] for seen in world.events.named("target.removed")][-1] == "the secret is gone"


async def test_a_namespace_that_is_being_deleted_is_forgotten_at_once(world: World) -> None:
    cluster = await join(world)
    await create(cluster, "team-a", pull="yes")
    await tick(world)
    await cluster.admin.call("DELETE", "/api/v1/namespaces/team-a")
    await tick(world)
    assert await status_of(world, cluster) is None
    assert world.events.named("target.removed")[-1]["detail"] == "its namespace is being deleted"
