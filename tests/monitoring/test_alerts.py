"""The alert rules over events that the app emits: silent while all is well, each in time, and for its cluster alone.

The clock is the test's: a tick every five minutes, and four minutes later the evaluation of all rules. Where nothing
else is said, a token lives an hour, so 20 minutes bring each cluster a new one.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Final

import pytest

from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper import telemetry
from pullkeeper.cluster.rights import access as rights
from pullkeeper.errors import StorageUnavailable
from pullkeeper.fleet.shards import shard_of
from pullkeeper.model import ClusterId, SelectorTarget, Target
from tests.docs.pages import ROOT, rows
from tests.faults.gate import put_gates
from tests.monitoring.deployed import RULE, alert_queries, find
from tests.monitoring.rules import Alert, Rule
from tests.monitoring.workspace import Workspace
from tests.onboarding.conftest import Onboarding
from tests.refresh.test_selector import create, label
from tests.world import MINUTE, World

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
_TICK: Final = 5 * MINUTE
_LATE: Final = 4 * MINUTE
"""How long after a tick the rules are evaluated."""
_QUEUE: Final = MINUTE / 12
"""How long a message waits on the queue."""
_TEAMS: Final = SelectorTarget.parse({"namespaceSelector": {"matchLabels": {"pull": "yes"}}})
_LIFE: Final = timedelta(hours=1)
_PROMISED: Final = {row[0].strip("`"): int(row[3]) * MINUTE for row in rows(ROOT / "docs" / "monitoring.md", "alert")}


@dataclass(slots=True)
class Watch:
    """A fleet, and Azure Monitor."""

    world: World
    workspace: Workspace
    rules: list[Rule] = field(default_factory=lambda: [Rule.of(resource) for resource in find(RULE)])

    async def pass_time(self, time: timedelta, *, timer: bool = True, queue: bool = True) -> None:
        """timer, queue: whether these functions run."""
        tick = self.world.clock()
        for _ in range(time // _TICK):
            if timer:
                with suppress(StorageUnavailable):
                    await self.world.services.scheduler.run()
            self._wait_until(tick + _QUEUE)
            if queue:
                await self.world.process_queue()
            self.workspace.export()
            self._wait_until(tick + _LATE)
            for rule in self.rules:
                rule.evaluate(self.workspace, self.world.clock())
            tick += _TICK
            self._wait_until(tick)

    def _wait_until(self, time: datetime) -> None:
        """However long the work before it took: the timer keeps its schedule on a slow machine too."""
        self.world.clock.advance(max(time - self.world.clock(), timedelta()))

    def alerts(self) -> list[Alert]:
        return [alert for rule in self.rules for alert in rule.alerts]

    async def pass_time_until(
        self, is_reached: Callable[[], object], *, timer: bool = True, queue: bool = True
    ) -> None:
        for _ in range(24):
            await self.pass_time(_TICK, timer=timer, queue=queue)
            if is_reached():
                return
        pytest.fail(f"not reached in two hours: {self.alerts()}")

    async def pass_time_until_fired(self, name: str, *, timer: bool = True, queue: bool = True) -> Alert:
        await self.pass_time_until(lambda: self._find(name), timer=timer, queue=queue)
        return self._find(name)[0]

    async def pass_time_until_resolved(self) -> None:
        await self.pass_time_until(lambda: all(alert.resolved for alert in self.alerts()))

    def _find(self, name: str) -> list[Alert]:
        return [alert for alert in self.alerts() if alert.rule == name]


@pytest.fixture
def watch(world: World, workspace: Workspace) -> Watch:
    return Watch(world, workspace)


def test_every_rule_is_evaluated_at_each_tick(watch: Watch) -> None:
    assert {rule.frequency for rule in watch.rules} == {_TICK}


async def join_together(world: World, number: int) -> list[LocalCluster]:
    """Add clusters whose shards are due within five minutes of each other."""
    names = (f"aks-{n}" for n in count())
    close = (name for name in names if int(shard_of(ClusterId(SUBSCRIPTION, GROUP, name)), 16) < 8)
    return [await world.join(next(close)) for _ in range(number)]


def of(cluster: LocalCluster, *category: str) -> tuple[str, ...]:
    """The dimensions of an alert about a cluster."""
    return (*category, str(cluster.id), f"{cluster.id}/{cluster.target}")


def is_in_time(alert: Alert, since: datetime) -> bool:
    """Whether the alert fired within the time that docs/monitoring.md promises."""
    return timedelta() <= alert.fired - since <= _PROMISED[alert.rule]


async def test_a_healthy_fleet_raises_no_alert(watch: Watch, world: World, onboarding: Onboarding) -> None:
    """With a token of 12 hours too, a cluster that leaves the fleet, one that loses a target, and a message that a
    crash takes. In five hours: the long token is replaced after four, and what leaves has left for longer than a token
    lives.
    """
    hub = world.cloud.add_hub("long", lifetime=12 * 3600)
    world.cloud.google._accounts[hub.service_account].long_lifetimes = True
    leaving, losing = await onboarding.cluster("leaving"), await onboarding.cluster("losing")
    await onboarding.onboard(leaving)
    await onboarding.onboard(losing, targets=[{"namespace": "a"}, {"namespace": "b"}])
    long = await world.join("long", "long")
    await watch.pass_time(65 * MINUTE)
    await onboarding.offboard_fully(leaving)
    await onboarding.onboard(losing, targets=[{"namespace": "b"}])
    await watch.pass_time(timedelta(hours=1))
    await watch.pass_time_until(lambda: world.events.named("run.completed")[-1]["queued"], queue=False)
    await world.services.queues["refresh"]._queue.clear_messages()
    await watch.pass_time(timedelta(hours=3))
    assert len(watch.workspace.times("secret.refreshed", str(long.id))) > 1
    assert watch.alerts() == []
    rows = [watch.workspace.query(alert_queries()[f"pullkeeper-{name}"], over=_LIFE) for name in ("third", "sixth")]
    assert rows == [[], []], "Azure charges for each combination of dimensions in a result"
    assert {event["state"] for event in world.events.named("fleet.status")} == {"fresh"}


async def test_each_failure_fires_its_own_alert_for_its_own_cluster(watch: Watch, world: World) -> None:
    """At the same time, beside a cluster that is well. Each alert ends after the repair."""
    down, denied, deleted, _ = await join_together(world, 4)
    await watch.pass_time(25 * MINUTE)
    down.part.faults.add(Fault(path="/secrets/", method="PATCH"))
    denied.part.faults.add(recordings.fault("forbidden", method="PATCH"))
    await deleted.admin.delete_secret(deleted.target.namespace, deleted.target.secret)
    await world.services.refresher.give_up(b"junk")
    poisoned_at = world.clock()

    action = await watch.pass_time_until_fired("action")
    assert action.dimensions == of(denied, "cluster_rbac_denied")
    denied.part.faults.clear()
    sixth = await watch.pass_time_until_fired("sixth")
    expires = (await world.target(down)).expires_at
    assert expires
    assert sixth.dimensions == of(down, "cluster_unreachable")
    assert is_in_time(sixth, expires - _LIFE / 6)
    down.part.faults.clear()
    await watch.pass_time_until_resolved()

    by_rule = {alert.rule: alert for alert in watch.alerts()}
    assert len(watch.alerts()) == len(by_rule)
    assert by_rule.keys() == {"poisoned", "action", "drift", "third", "sixth"}
    assert by_rule["third"].dimensions == of(down, "cluster_unreachable")
    assert is_in_time(by_rule["third"], expires - _LIFE / 3)
    assert by_rule["poisoned"].dimensions == ("refresh",)
    assert is_in_time(by_rule["poisoned"], poisoned_at)
    assert by_rule["drift"].dimensions == of(deleted)
    assert is_in_time(action, watch.workspace.times("secret.refresh_failed", str(denied.id))[0])
    assert is_in_time(by_rule["drift"], watch.workspace.times("drift.repaired", str(deleted.id))[0])


async def test_a_secret_that_was_never_written_is_as_one_that_expires(watch: Watch, world: World) -> None:
    """Where the clusters' role is missing, until it is there. The cluster has come back: it was offboarded before."""
    cluster = await world.join("aks-1", access=False)
    telemetry.emit("operation.completed", {"kind": "offboard", "cluster": str(cluster.id)})
    await watch.pass_time(10 * MINUTE)
    assert {alert.rule for alert in watch.alerts()} == {"action", "sixth", "third"}
    assert {alert.dimensions for alert in watch.alerts()} == {of(cluster, "cluster_rbac_denied")}
    for manifest in rights(cluster.member.cluster.targets, world.cloud.app.principal_id):
        await cluster.admin.apply(manifest)
    await watch.pass_time_until_resolved()
    assert len(watch.alerts()) == 3


async def test_an_alert_about_a_list_of_namespaces_ends_too(watch: Watch, world: World) -> None:
    """Though nothing is emitted of a list that does not fail."""
    cluster = await world.join("aks-1", targets=(Target(), _TEAMS))
    cluster.part.faults.add(recordings.fault("forbidden-unnamed-in-cluster", path="/api/v1/namespaces$", method="GET"))
    action = await watch.pass_time_until_fired("action")
    assert action.dimensions == ("cluster_rbac_denied", str(cluster.id), f"{cluster.id}/*")
    cluster.part.faults.clear()
    await watch.pass_time_until_resolved()
    assert watch.alerts() == [replace(action, resolved=watch.alerts()[0].resolved)]


async def test_a_secret_that_is_no_longer_kept_raises_no_alert(watch: Watch, world: World) -> None:
    """Its namespace has lost the label, and its token expires."""
    cluster = await world.join("aks-1", targets=(Target(), _TEAMS))
    await create(cluster, "team-a", pull="yes")
    await watch.pass_time(10 * MINUTE)
    await label(cluster, "team-a", pull="no")
    await watch.pass_time(80 * MINUTE)
    assert watch.alerts() == []


async def test_a_secret_that_its_own_cluster_lets_expire_needs_action(watch: Watch, world: World) -> None:
    """That little time was left when the app last saw it is no alert: the cluster may have refreshed it since."""
    cluster = await world.join("aks-1")
    await world.tick()
    own = cluster.member.cluster.model_copy(update={"refresher": "in-cluster"})
    await world.services.fleet.register(replace(cluster.member, cluster=own))
    action = await watch.pass_time_until_fired("action")
    assert action.dimensions == of(cluster, "refresh_stopped")
    assert watch.alerts() == [action]


async def test_runs_that_fail_are_reported_as_none(watch: Watch, world: World) -> None:
    """Storage is down."""
    async with put_gates(world.storage) as (world.storage, gates):
        await watch.pass_time(25 * MINUTE)
        last_run = watch.workspace.times("run.completed")[-1]
        gates.set("shut")
        stopped = await watch.pass_time_until_fired("stopped", queue=False)
        assert is_in_time(stopped, last_run)
        gates.set("open")
        await watch.pass_time_until_resolved()
        assert [alert.rule for alert in watch.alerts()] == ["stopped"]
        await world.services.close()
        world._services = None


async def test_a_timer_that_has_stopped_is_reported_before_a_token_gets_old(watch: Watch, world: World) -> None:
    clusters = await join_together(world, 2)
    await watch.pass_time(25 * MINUTE)
    refreshed = watch.workspace.times
    await watch.pass_time_until(
        lambda: all(refreshed("secret.refreshed", str(one.id))[-1] > world.clock() - 2 * _TICK for one in clusters)
    )
    last_run = watch.workspace.times("run.completed")[-1]
    stopped = await watch.pass_time_until_fired("stopped", timer=False)
    assert is_in_time(stopped, last_run)
    await watch.pass_time_until_resolved()
    assert [alert.rule for alert in watch.alerts()] == ["stopped"]


async def test_a_queue_function_that_has_stopped_is_reported_before_a_token_gets_old(
    watch: Watch, world: World
) -> None:
    clusters = await join_together(world, 2)
    await watch.pass_time(25 * MINUTE)
    due = min([await world.next_due(cluster) for cluster in clusters])
    overdue = await watch.pass_time_until_fired("overdue", queue=False)
    assert is_in_time(overdue, due)
    await watch.pass_time_until_resolved()
    assert [alert.rule for alert in watch.alerts()] == ["overdue"]
