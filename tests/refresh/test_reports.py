"""What is reported of targets that are well, and until when a note is shown."""

from itertools import pairwise

import pytest

from pullkeeper import telemetry
from pullkeeper.fleet.shards import shard_of
from pullkeeper.model import Target
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def test_targets_that_are_fresh_are_reported_once_an_hour(world: World) -> None:
    """Those that are not, at each run."""
    cluster = await world.join("aks-1")
    failing = await world.join(world.name_beside(cluster), access=False)
    reported, failed, runs = [], 0, 0
    for minute in range(0, 180, 5):
        world.events.seen.clear()
        await world.tick()
        if any(event["cluster"] == str(cluster.id) for event in world.events.named("fleet.status")):
            reported.append(minute)
        failed += sum(event["cluster"] == str(failing.id) for event in world.events.named("fleet.status"))
        runs += len(world.events.named("shard.completed"))
        world.clock.advance(5 * MINUTE)
    gaps = {later - earlier for earlier, later in pairwise(reported)}
    assert len(reported) >= 3
    assert gaps <= {60, 65, 70, 75, 80, 85}, reported
    assert failed == runs > len(reported)


async def test_each_refresh_is_measured(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted, lifetimes, durations = list[str](), list[float](), list[float]()
    monkeypatch.setattr(telemetry.refresh_count, "add", lambda _, attributes: counted.append(attributes["category"]))
    monkeypatch.setattr(telemetry.remaining_lifetime, "record", lambda seconds, _: lifetimes.append(seconds))
    monkeypatch.setattr(telemetry.refresh_duration, "record", lambda seconds, _: durations.append(seconds))
    clusters = [await world.join("aks-1"), await world.join("aks-2", access=False)]
    await world.tick()
    assert sorted(counted) == ["cluster_rbac_denied", "ok"]
    assert [record.levelname for record in caplog.records if "refresh_failed" in record.message] == ["WARNING"]
    runs = world.events.named("shard.completed")
    assert (sum(run["ok"] for run in runs), sum(run["failed"] for run in runs)) == (1, 1)
    written, failed = [await world.target(cluster) for cluster in clusters]
    assert written.issued_at
    assert written.expires_at
    times = {"token_issued": written.issued_at.isoformat(), "token_expiry": written.expires_at.isoformat()}
    cause = {"category": failed.category, "detail": failed.detail, "remedy": failed.remedy}
    for cluster, name, fields in (
        (clusters[0], "secret.refreshed", {"uid": written.uid, **times}),
        (clusters[1], "secret.refresh_failed", cause),
    ):
        about = {"cluster": str(cluster.id), "target": f"{cluster.id}/{cluster.target}"}
        assert world.events.named(name) == [{"event": name, **about, **fields}]
    [lifetime] = lifetimes
    assert 3500 < lifetime <= 3600
    assert len(durations) == len({shard_of(cluster.id) for cluster in clusters})


async def test_a_note_is_shown_until_it_no_longer_holds(world: World) -> None:
    """Refreshes that are due look at the service accounts again, as long as one was missing."""
    target = Target(service_accounts=("late",))
    cluster = await world.join("aks-1", targets=[target])
    for _ in range(3):
        await world.refresh(cluster, "due")
        [shown] = (await world.services.overview.one(cluster.id)).targets
        assert (await world.target(cluster)).note == shown.note == "no such service account yet: late"
        world.clock.advance(25 * MINUTE)
    path = f"/api/v1/namespaces/{target.namespace}/serviceaccounts"
    await cluster.admin.call("POST", path, {"metadata": {"name": "late"}})
    await world.refresh(cluster, "due")
    assert (await world.target(cluster)).note is None
    assert (await cluster.admin.call("GET", f"{path}/late"))["imagePullSecrets"] == [{"name": target.secret}]


@pytest.mark.parametrize("how", ["by hand", "without the secret", "without its status"])
async def test_a_refresh_by_hand_makes_sure_of_the_service_accounts(world: World, how: str) -> None:
    """One that was created again has no reference. Other refreshes look only where the secret was deleted too, or where
    a crash may have come before the reference.
    """
    target = Target(service_accounts=("app",))
    cluster = await world.join("aks-1", targets=[target])
    path = f"/api/v1/namespaces/{target.namespace}/serviceaccounts"
    await cluster.admin.call("POST", path, {"metadata": {"name": "app"}})
    await world.refresh(cluster, "due")
    await cluster.admin.call("DELETE", f"{path}/app")
    await cluster.admin.call("POST", path, {"metadata": {"name": "app"}})
    if how == "without the secret":
        await cluster.admin.delete_secret(target.namespace, target.secret)
    if how == "without its status":
        await world.services.shards.forget(cluster.id)
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster, "manual" if how == "by hand" else "due")
    assert (await cluster.admin.call("GET", f"{path}/app"))["imagePullSecrets"] == [{"name": target.secret}]
