"""A cluster with 500 targets, as the tables hold it and as HTTP shows it."""

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from pullkeeper.documentation import Documentation
from pullkeeper.errors import InvalidRequest
from pullkeeper.fleet.overview import ClusterView, TargetView
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Found, Search, Status, TargetStatus
from pullkeeper.fleet.table import Member
from pullkeeper.model import Cluster, ClusterId, Endpoint
from tests.world import World

pytestmark = pytest.mark.servers
_ID = ClusterId("0b1f6471-1bf0-4dda-aec3-cb9272f09590", "g" * 90, "c" * 63)
_SHOWN = {"issued_at", "expires_at", "last_success", "category", "detail", "remedy", "note"}
_DOTTED = ".".join(["s" * 63] * 3)


def _longest(number: int) -> Mapping[str, object]:
    """A target with the longest names that Kubernetes allows."""
    accounts = [f"{number:03}{letter * 60}" for letter in "ab"]
    return {
        "namespace": f"{number:03}{'n' * 60}",
        "secret": f"{_DOTTED}.{number:03}{'s' * 58}",
        "serviceAccounts": accounts,
    }


async def _join(world: World, *targets: Mapping[str, object], **statuses: TargetStatus) -> Cluster:
    """Put a cluster into the fleet as onboarding does. statuses: by namespace."""
    cluster = Cluster.parse({"cluster": str(_ID), "hub": "main", "targets": targets})
    endpoint = Endpoint(server="https://aks-1.example:443", ca="pem" * 21_000, read_at=world.clock())
    await world.services.fleet.register(Member(cluster, endpoint))
    status = Status(targets={f"{name}/ar-pull-secret": one for name, one in statuses.items()})
    await world.services.shards.update(shard_of(_ID), partial(replace, statuses={_ID: status}))
    return cluster


async def test_the_tables_hold_500_targets_with_the_longest_names(world: World) -> None:
    cluster = await _join(world, *map(_longest, range(500)))
    assert len(cluster.to_json()) < 256 * 1024 - 500  # so the body of a request holds them too

    def fail(state: Status) -> Status:
        failed = TargetStatus(uid="u" * 36, category="cluster_rbac_denied", detail="d" * 300, remedy="r" * 300)
        return state.model_copy(update={"targets": {str(target): failed for target in cluster.named}})

    await world.services.shards.update(shard_of(_ID), lambda shard: replace(shard, statuses={_ID: fail(Status())}))
    assert (await world.services.fleet.member(_ID)).cluster == cluster
    assert (await world.services.shards.read(shard_of(_ID))).status(_ID) == fail(Status())


async def _read(world: World, state: str | None = None) -> list[ClusterView]:
    """Return all pages of the cluster."""
    pages = [await world.services.overview.one(_ID, state)]
    while pages[-1].continuation:
        pages.append(await world.services.overview.one(_ID, state, pages[-1].continuation))
    return pages


async def test_targets_are_paged_and_filtered_by_state(world: World) -> None:
    now = world.clock()
    fresh = TargetStatus(issued_at=now, expires_at=now + timedelta(hours=1))
    names = [f"team-{number:03}" for number in range(250)]
    await _join(world, *({"namespace": name} for name in names), **dict.fromkeys(names[:120], fresh))
    everything, fresh_ones = await _read(world), await _read(world, "fresh")
    assert [len(page.targets) for page in everything] == [100, 100, 50]
    assert [target.target for page in everything for target in page.targets] == [f"{n}/ar-pull-secret" for n in names]
    assert [len(page.targets) for page in fresh_ones] == [100, 20]
    assert {target.state for page in fresh_ones for target in page.targets} == {"fresh"}
    assert {tuple(page.states.items()) for page in [*everything, *fresh_ones]} == {(("fresh", 120), ("pending", 130))}


def _encode(*keys: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(keys).encode()).decode()


_FILTER = "00' or PartitionKey ne '"


@pytest.mark.parametrize(
    "continuation", ["~~~", "bm90aGluZw==", _encode("00"), _encode("00", _FILTER), _encode(_FILTER, "a")]
)
async def test_what_no_page_gave_is_refused(world: World, continuation: str) -> None:
    """The keys become part of a filter."""
    await _join(world, {})
    with pytest.raises(InvalidRequest, match="continuation: must be what the page before gave"):
        await world.services.overview.page(None, continuation)
    with pytest.raises(InvalidRequest, match="continuation: must be what the page before gave"):
        await world.services.overview.one(_ID, None, continuation)
    with pytest.raises(InvalidRequest, match="state: must be one of pending, fresh"):
        await world.services.overview.one(_ID, "broken")
    with pytest.raises(InvalidRequest, match="state: must be one of pending, fresh"):
        await world.services.overview.page("broken", None)


async def test_a_line_counts_the_states_and_names_the_worst_target(world: World) -> None:
    """One that has expired comes first, then one that was never written: no pod can pull there."""
    now = world.clock()
    fresh = TargetStatus(issued_at=now, expires_at=now + timedelta(hours=1), last_success=now, note="half of it")
    older = fresh.model_copy(update={"expires_at": now + timedelta(minutes=40)})
    stale = older.model_copy(update={"category": "cluster_unreachable", "detail": "no response", "failures": 1})
    refused = TargetStatus(category="cluster_rbac_denied", remedy="kubectl", failures=1)
    expired = refused.model_copy(update={"expires_at": now})
    statuses = {"fresh": fresh, "older": older, "stale": stale, "waits": TargetStatus(), "refused": refused}
    statuses["expired"] = expired
    order = ["expired", "refused", "waits", "stale", "older", "fresh"]
    for number, name in enumerate(order):
        left = order[number:]
        await _join(world, *({"namespace": name} for name in sorted(left)), **{name: statuses[name] for name in left})
        (line,), _ = await world.services.overview.page(None, None)
        worst = statuses[name].model_dump(include=_SHOWN) | {"state": statuses[name].state(now)}
        runbook = f"{Documentation().base}/docs/runbook/{worst['category']}.md" if worst["category"] else None
        assert line.worst == TargetView(target=f"{name}/ar-pull-secret", runbook=runbook, **worst)
        assert line.states == Counter(statuses[name].state(now) for name in left)
    (line,), _ = await world.services.overview.page("fresh", None)
    assert await world.services.overview.page("expired", None) == ((), None)


async def test_pages_of_the_fleet_go_on_behind_the_end_of_a_shard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullkeeper.fleet.overview._PAGE", 2)
    ids = {_ID._replace(name=f"aks-{number}") for number in range(20)}
    assert max(Counter(map(shard_of, ids)).values()) > 2
    endpoint = Endpoint(server="https://aks.example:443", ca="pem", read_at=world.clock())
    for one in ids:
        cluster = Cluster.parse({"cluster": str(one), "hub": "main", "targets": [{}]})
        await world.services.fleet.put(Member(cluster, endpoint))
    fresh = TargetStatus(issued_at=world.clock(), expires_at=world.clock() + timedelta(hours=1))
    refreshed = ids - {min(ids, key=lambda one: (shard_of(one), one.name))}  # so pages end within what was read
    for shard in {*map(shard_of, refreshed)}:
        statuses = {one: Status(targets={"deepintshield/ar-pull-secret": fresh}) for one in refreshed}
        await world.services.shards.update(shard, partial(replace, statuses=statuses))
    for state, expected in ((None, ids), ("fresh", refreshed)):
        seen, continuation = list[ClusterId](), None
        while continuation or not seen:
            lines, continuation = await world.services.overview.page(state, continuation)
            seen += [line.cluster for line in lines]
        assert (len(seen), set(seen)) == (len(expected), expected)


async def test_found_targets_are_counted_beside_named_ones(world: World) -> None:
    selector = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}
    now = world.clock()
    found = {
        "shop": Found(added_at=now - timedelta(minutes=59)),
        "till": Found(added_at=now - timedelta(minutes=61)),
        "gone": Found(added_at=now - timedelta(hours=2), removed_at=now),
    }
    statuses = {name: TargetStatus(found=one) for name, one in found.items()}
    await _join(world, selector, {"namespace": "bank"}, **statuses)
    view = await world.services.overview.one(_ID)
    assert [target.target.partition("/")[0] for target in view.targets] == ["bank", "gone", "shop", "till"]
    assert (view.found, view.newly_found, view.states) == (2, 1, {"pending": 3, "removed": 1})


async def test_of_removed_targets_the_one_that_was_refreshed_expires_first(world: World) -> None:
    """The other was never written, so it has no time."""
    now = world.clock()
    gone = TargetStatus(found=Found(added_at=now - timedelta(hours=1), removed_at=now))
    written = gone.model_copy(update={"expires_at": now - timedelta(minutes=1)})
    selector = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}
    await _join(world, selector, never=gone, written=written)
    (line,), _ = await world.services.overview.page(None, None)
    assert line.worst
    assert line.worst.target == "written/ar-pull-secret"


async def test_a_cluster_whose_selectors_found_nothing_has_no_worst_target(world: World) -> None:
    await _join(world, {"namespaceSelector": {"matchLabels": {"team": "shop"}}})
    view = await world.services.overview.one(_ID)
    assert (view.targets, view.states, view.worst) == ((), {}, None)


@pytest.mark.parametrize("selects", [True, False])
async def test_how_a_search_went_is_shown_of_a_cluster_with_a_selector(world: World, *, selects: bool) -> None:
    """It no longer matters once the cluster is onboarded without one."""
    await _join(world, {"namespaceSelector": {"matchLabels": {"team": "shop"}}} if selects else {})
    status = Status(search=Search(category="cluster_rbac_denied"))
    await world.services.shards.update(shard_of(_ID), partial(replace, statuses={_ID: status}))
    view = await world.services.overview.one(_ID)
    shown = view.search and str(view.search.runbook).rpartition("/")[2]
    assert shown == ("cluster_rbac_denied.md" if selects else None)
