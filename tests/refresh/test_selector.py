"""A namespace that gets the labels of a selector has its secret by the end of the next tick's run."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from local.cloud import LocalCluster
from local.kubernetes import ApiServer, recordings
from local.serving import Fault
from pullkeeper import telemetry
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.lists import list_all
from pullkeeper.cluster.refusals import ListExpired
from pullkeeper.deadline import remaining
from pullkeeper.errors import ClusterUnreachable, NamespaceListDenied
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Found
from pullkeeper.model import SelectorTarget, Target, Wish
from pullkeeper.refresh.attempt import Writer
from pullkeeper.refresh.capacity import Capacity
from pullkeeper.refresh.search import _explain_limit
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
TEAMS: Final = SelectorTarget.parse(
    {"namespaceSelector": {"matchLabels": {"pull": "yes"}}, "exclude": ["not-me"], "serviceAccounts": ["default"]}
)
TICK: Final = 5 * MINUTE


async def join(world: World, *targets: Wish) -> LocalCluster:
    return await world.join("aks-1", targets=targets or (TEAMS,))


async def create(cluster: LocalCluster, name: str, **labels: str) -> dict[str, Any]:
    """Create a namespace with these labels, and with its account `default`."""
    namespace = await label(cluster, name, **labels)
    metadata = {"name": "default", "namespace": name, "labels": {"a": "b"}}
    await cluster.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    return namespace


async def label(cluster: LocalCluster, name: str, **labels: str) -> dict[str, Any]:
    """Give a namespace these labels and no others."""
    return await cluster.admin.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )


async def end(cluster: LocalCluster, name: str) -> None:
    """Delete a namespace with all that is in it."""
    await cluster.admin.call("DELETE", f"/api/v1/namespaces/{name}")
    assert isinstance(cluster.server, ApiServer)
    cluster.server.end_namespaces()


async def tick(world: World) -> None:
    world.clock.advance(TICK)
    await world.tick()


def lists(cluster: LocalCluster) -> int:
    return cluster.part.journal.count("GET", "/api/v1/namespaces$")


def writes(cluster: LocalCluster) -> int:
    return cluster.part.journal.count("PATCH", "/secrets/")


def named(world: World, event: str) -> list[str]:
    return [str(seen["target"]).rpartition("aks-1/")[2] for seen in world.events.named(event)]


async def test_a_namespace_has_its_secret_and_its_accounts_name_it_at_the_next_tick(world: World) -> None:
    cluster = await join(world)
    await tick(world)
    assert (await world.status(cluster)).targets == {}
    namespace = await create(cluster, "team-a", pull="yes")
    await create(cluster, "team-b", pull="no")
    await create(cluster, "not-me", pull="yes")
    await tick(world)

    assert await cluster.admin.read_auths("team-a", "ar-pull-secret")
    account = await cluster.admin.call("GET", "/api/v1/namespaces/team-a/serviceaccounts/default")
    assert account["imagePullSecrets"] == [{"name": "ar-pull-secret"}]
    status = await world.status(cluster)
    assert list(status.targets) == ["team-a/ar-pull-secret"]
    found = status.targets["team-a/ar-pull-secret"].found
    assert found
    assert world.clock() - found.added_at < MINUTE
    whole_seconds = found.added_at.replace(microsecond=0)
    assert found == Found(namespace=namespace["metadata"]["uid"][:8], added_at=whole_seconds)
    await tick(world)
    assert named(world, "target.added") == ["team-a/ar-pull-secret"], "once"


async def test_between_due_times_namespaces_are_only_listed_and_only_new_ones_written(world: World) -> None:
    cluster = await join(world, Target(), TEAMS)
    await create(cluster, "team-a", pull="yes")
    await world.refresh(cluster)
    (due,) = {one.next_due for one in (await world.status(cluster)).targets.values()}
    world.clock.advance(due - world.clock())
    await world.tick()
    listed, written = lists(cluster), writes(cluster)
    await tick(world)
    await create(cluster, "team-b", pull="yes")
    await tick(world)
    assert (lists(cluster) - listed, writes(cluster) - written) == (2, 1)
    asked = [one.query for one in cluster.part.journal.requests if one.path == "/api/v1/namespaces"]
    assert {query.get("labelSelector") for query in asked} == {"pull=yes"}
    assert world.cloud.google.exchanges <= 3


async def test_an_hour_costs_a_list_a_tick_and_three_writes_a_secret(world: World) -> None:
    cluster = await join(world, Target(), TEAMS)
    await create(cluster, "team-a", pull="yes")
    await world.refresh(cluster)
    listed, written = lists(cluster), writes(cluster)
    for _ in range(12):
        await tick(world)
    assert (lists(cluster) - listed, writes(cluster) - written) == (12, 2 * 3)
    assert {event["overdue"] for event in world.events.named("run.completed")} == {0}


async def test_a_shard_with_a_selector_is_due_at_every_tick_and_others_are_not(world: World) -> None:
    cluster, plain = await join(world), await world.join("aks-2")
    for one in (cluster, plain):
        await world.refresh(one)
    world.clock.advance(TICK)
    seen = {one.shard: one.next_due for one in (await world.services.shards.totals()).shards}
    assert seen[shard_of(cluster.id)] <= world.clock()
    assert seen[shard_of(plain.id)] == await world.next_due(plain)


async def test_pages_that_expire_begin_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullkeeper.cluster.api._PAGE", 2)
    cluster = await join(world)
    for number in range(5):
        await create(cluster, f"team-{number}", pull="yes")
    cluster.part.faults.add(
        Fault(path="/api/v1/namespaces$", method="GET", delay=timedelta(seconds=0.2), slow_only=True)
    )

    async def let_six_minutes_pass() -> None:
        while lists(cluster) < 1:  # noqa: ASYNC110 - the journal tells no one
            await asyncio.sleep(0.01)
        world.clock.advance(6 * MINUTE)

    status, _ = await asyncio.gather(world.refresh(cluster), let_six_minutes_pass())
    assert len(status.targets) == 5
    seen = [one.status for one in cluster.part.journal.requests if one.path == "/api/v1/namespaces"]
    assert seen == [200, 410, 200, 200, 200]


async def test_what_was_read_of_a_list_that_expired_does_not_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, failed = ["gone"], list[str]()

    async def read_page(_: Api, _path: str, token: str, **_selectors: str) -> tuple[list[dict[str, Any]], str]:
        if token and not failed:
            failed.append(token)
            names[:] = ["there"]
            raise ListExpired("410")
        return [{"name": name} for name in names], "" if token else "next"

    monkeypatch.setattr(Api, "list_page", read_page)
    cluster = await join(world)
    async with await world.services.refresher._writer._access.open(cluster.id, cluster.member.endpoint) as api:
        assert [one["name"] for one in await list_all(api, "/api/v1/namespaces")] == ["there", "there"]


async def test_selectors_share_one_list(world: World) -> None:
    other = SelectorTarget.parse(
        {"namespaceSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, "secret": "other"}
    )
    cluster = await join(world, TEAMS, other)
    await create(cluster, "team-a", pull="yes", tier="1")
    await create(cluster, "team-b", tier="1")
    await tick(world)
    assert set((await world.status(cluster)).targets) == {"team-a/ar-pull-secret", "team-a/other", "team-b/other"}
    assert lists(cluster) == 1


async def test_a_named_target_comes_before_the_same_one_that_is_found(world: World) -> None:
    cluster = await join(world, Target(namespace="team-a"), TEAMS)
    await create(cluster, "team-a", pull="yes")
    await tick(world)
    (status,) = (await world.status(cluster)).targets.values()
    assert status.found is None


async def test_a_selector_that_finds_nothing_is_a_note_and_no_failure(world: World) -> None:
    cluster = await join(world)
    await tick(world)
    search = (await world.status(cluster)).search
    assert search
    assert (search.category, search.note) == (None, "no namespace has the labels pull=yes")
    assert (await world.services.overview.one(cluster.member.cluster.cluster)).search == search
    assert world.events.named("secret.refresh_failed") == []
    assert world.events.named("fleet.status") == []
    # Without the selector nothing is left to say of it.
    wanted = cluster.member.cluster.model_copy(update={"targets": (Target(),)})
    await world.services.fleet.register(replace(cluster.member, cluster=wanted))
    assert (await world.refresh(cluster)).search is None


async def test_a_refused_list_is_an_outcome_of_its_own_and_delays_no_refresh(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counter[str]()
    monkeypatch.setattr(telemetry.refresh_count, "add", lambda _, attributes: counted.update([attributes["category"]]))
    cluster = await join(world, Target(), TEAMS)
    await create(cluster, "team-a", pull="yes")
    await world.refresh(cluster)
    fault = recordings.fault("forbidden-unnamed-in-cluster", path="/api/v1/namespaces$", method="GET")
    cluster.part.faults.add(fault)
    listed, written = lists(cluster), writes(cluster)
    for _ in range(8):
        await tick(world)
    assert lists(cluster) - listed == 3, "every quarter of an hour"

    status = await world.status(cluster)
    assert status.search
    assert status.search.category == "cluster_rbac_denied"
    assert "is forbidden" in (status.search.detail or "")
    principal = world.cloud.app.principal_id
    assert f"kubectl auth can-i list namespaces --as={principal};" in (status.search.remedy or "")
    page = world.services.documentation.page("cluster_rbac_denied")
    shown = (await world.services.overview.one(cluster.id)).search
    assert shown == status.search.model_copy(update={"runbook": page})
    assert {one.state(world.clock()) for one in status.targets.values()} == {"fresh"}
    assert writes(cluster) - written == 4
    assert set(named(world, "secret.refresh_failed")) == {"*"}
    assert sum(run["failed"] for run in world.events.named("shard.completed")) == 3
    assert counted["cluster_rbac_denied"] == 3
    assert {
        "event": "fleet.status",
        "cluster": str(cluster.id),
        "target": f"{cluster.id}/*",
        "state": "unknown",
        "category": status.search.category,
        "remedy": status.search.remedy,
    } in world.events.seen


async def test_no_cluster_joins_while_its_list_is_refused(world: World) -> None:
    cluster = await join(world, Target(), TEAMS)
    fault = recordings.fault("forbidden-unnamed-in-cluster", path="/api/v1/namespaces$", method="GET")
    cluster.part.faults.add(fault)
    with pytest.raises(NamespaceListDenied):
        await world.services.refresher.write_first(cluster.member, ())
    assert writes(cluster) == 0


async def test_a_further_try_of_a_secret_lists_no_namespaces(world: World) -> None:
    cluster = await join(world, Target(), TEAMS)
    cluster.part.faults.add(Fault(path="/secrets/", method="PATCH"))
    await world.refresh(cluster)
    listed = lists(cluster)
    world.clock.advance(MINUTE)
    await world.services.refresher.refresh(RefreshMessage(shard=shard_of(cluster.id), reason="retry"))
    assert lists(cluster) == listed
    assert (await world.target(cluster)).failures == 2
    # But where the list itself has failed it is made again.
    cluster.part.faults.add(Fault(path="/api/v1/namespaces$", method="GET", times=3))
    await world.refresh(cluster)
    listed = lists(cluster)
    world.clock.advance(MINUTE)
    await world.services.refresher.refresh(RefreshMessage(shard=shard_of(cluster.id), reason="retry"))
    assert lists(cluster) > listed


async def test_without_a_token_for_it_a_list_fails_as_entra_does(world: World) -> None:
    cluster = await join(world)
    world.cloud.identity_part.faults.add(Fault(status=403))
    search = (await world.refresh(cluster)).search
    assert search
    assert search.category == "entra_denied"


@pytest.mark.parametrize(
    ("failure", "category"),
    [(KeyError("ya29.canary"), "internal"), (ClusterUnreachable("closed for others"), "cluster_unreachable")],
    ids=["a bug", "closed"],
)
async def test_a_bug_in_a_list_leaves_the_secrets_to_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch, failure: Exception, category: str
) -> None:
    """So does a list that was closed to make room, which is none."""

    async def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Writer, "search", fail)
    cluster = await join(world, Target(), TEAMS)
    status = await world.refresh(cluster)
    assert status.search
    assert status.search.category == category
    assert "<" not in (status.search.remedy or ""), "a name is missing"
    assert (await world.target(cluster)).state(world.clock()) == "fresh"
    assert "canary" not in world.format_events()


async def test_a_list_that_hangs_is_given_up_and_the_secrets_are_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullkeeper.refresh.attempt._LIST_WITHIN", timedelta(seconds=0.5))
    cluster = await join(world, Target(), TEAMS)
    cluster.part.faults.add(Fault(path="/api/v1/namespaces$", method="GET", hang=True))
    status = await world.refresh(cluster)
    assert status.search
    assert status.search.category == "cluster_unreachable"
    assert "<" not in (status.search.remedy or ""), "a name is missing"
    assert status.targets["deepintshield/ar-pull-secret"].state(world.clock()) == "fresh"


async def test_a_list_has_ten_seconds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left = list[float]()

    async def note(*_: object) -> None:
        left.append(remaining(1000))
        raise ClusterUnreachable("no response")

    monkeypatch.setattr("pullkeeper.refresh.attempt.list_targets", note)
    await world.refresh(await join(world))
    assert 9 < left[0] <= 10


async def test_a_list_that_got_no_response_is_made_in_a_place_for_suspects(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Healthy clusters do not wait for it. The secrets of the cluster were written."""
    monkeypatch.setattr("pullkeeper.refresh.attempt._LIST_WITHIN", timedelta(seconds=0.5))
    place, suspects = Capacity.place, list[bool]()

    def noted(capacity: Capacity, *, suspect: bool, **options: Any) -> Any:
        suspects.append(suspect)
        return place(capacity, suspect=suspect, **options)

    monkeypatch.setattr(Capacity, "place", noted)
    cluster = await join(world, Target(), TEAMS)
    cluster.part.faults.add(Fault(path="/api/v1/namespaces$", method="GET", hang=True))
    for _ in range(2):
        await world.refresh(cluster)
    assert suspects == [False, False, True, False]
    cluster.part.faults.clear()
    for _ in range(2):
        await world.refresh(cluster)
    assert suspects[4:] == [True, False, False, False]


async def test_a_manual_refresh_lists_too(world: World) -> None:
    """No other cluster's namespaces, also of the same shard."""
    cluster = await join(world)
    other = await world.join(world.name_beside(cluster), targets=[Target(), TEAMS])
    await world.refresh(cluster)
    await create(cluster, "team-a", pull="yes")
    assert len((await world.refresh(cluster)).targets) == 1
    assert (lists(other), writes(other)) == (0, 0)


async def test_a_list_that_had_no_place_within_a_minute_is_left_to_another_message(world: World) -> None:
    cluster = await join(world)
    world.services.refresher._capacity = capacity = Capacity(prompt=0)
    refresh = asyncio.create_task(world.refresh(cluster))
    while not capacity._prompt._waiters:  # noqa: ASYNC110 - it tells no one
        await asyncio.sleep(0.01)
    world.clock.advance(1.1 * MINUTE)
    capacity._prompt.release()
    await refresh
    assert lists(cluster) == 0
    assert await world.services.queues["refresh"].depth() == 1


async def test_a_namespace_that_is_created_again_is_new_and_no_drift(world: World) -> None:
    cluster = await join(world)
    first = await create(cluster, "team-a", pull="yes")
    await tick(world)
    await end(cluster, "team-a")
    again = await create(cluster, "team-a", pull="yes")
    assert first["metadata"]["uid"] != again["metadata"]["uid"]
    seen = (await world.status(cluster)).targets["team-a/ar-pull-secret"].found
    assert seen
    assert seen.namespace == first["metadata"]["uid"][:8]
    await tick(world)
    assert await cluster.admin.read_auths("team-a", "ar-pull-secret")
    assert world.events.named("drift.repaired") == []
    assert named(world, "target.added") == ["team-a/ar-pull-secret"] * 2


async def test_named_targets_come_first_then_those_already_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullkeeper.refresh.search.MOST_TARGETS", 3)
    cluster = await join(world, Target(), TEAMS)
    for name in ("team-m", "team-n"):
        await create(cluster, name, pull="yes")
    await tick(world)
    await create(cluster, "team-a", pull="yes")
    await tick(world)

    status = await world.status(cluster)
    assert set(status.targets) == {f"{name}/ar-pull-secret" for name in ("deepintshield", "team-m", "team-n")}
    assert status.search
    assert status.search.category == "target_limit"
    assert "team-a/ar-pull-secret" in (status.search.detail or "")
    assert "kubectl get namespaces --show-labels" in (status.search.remedy or "")
    about = {"cluster": str(cluster.id), "target": f"{cluster.id}/*"}
    cause = {"category": "target_limit", "detail": status.search.detail, "remedy": status.search.remedy}
    assert world.events.named("secret.refresh_failed") == [{"event": "secret.refresh_failed", **about, **cause}]

    # One that comes back is none of those that are kept.
    await label(cluster, "team-m")
    await tick(world)
    await label(cluster, "team-m", pull="yes")
    await tick(world)
    kept = {name for name, one in (await world.status(cluster)).targets.items() if not one.removed_at}
    assert kept == {f"{name}/ar-pull-secret" for name in ("deepintshield", "team-a", "team-n")}


@pytest.mark.parametrize(("number", "others"), [(10, ""), (12, " and 2 more")])
def test_ten_of_those_beyond_the_limit_are_named_and_the_others_counted(number: int, others: str) -> None:
    beyond = [f"team-{one:02}/s" for one in range(number)]
    assert _explain_limit(beyond).detail.endswith(f"team-08/s, team-09/s{others}")
