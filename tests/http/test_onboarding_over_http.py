"""Onboarding as a pipeline does it: one call, then polling. Through the host, the queue and the tables."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.openapi import document
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.pull_check import can_pull
from local.serving import Fault
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import Member
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import Onboarding, Operation
from pullkeeper.onboarding.phases import ONBOARD
from pullkeeper.onboarding.rows import create_operation_id
from tests.http.conftest import App, cluster_path, onboarding_body

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_SUMMARY = ("id", "kind", "status", "cluster", "createdAt", "updatedAt", "dryRun", "keepWorkload")
_PHASES = [phase.NAME for phase in ONBOARD]


def _delay_secrets(cluster: LocalCluster, seconds: float) -> None:
    cluster.part.faults.add(Fault(path="/secrets/", slow_only=True, delay=timedelta(seconds=seconds), times=1))


async def test_a_cluster_is_onboarded_with_one_call(app: App) -> None:
    cluster = await app.add_cluster("aks-1")
    _delay_secrets(cluster, 1)
    started = await app.call("POST", "clusters", onboarding_body(cluster))
    assert started.status == 202
    assert started.headers["Location"] == f"/api/operations/{started.body['id']}"
    assert started.headers["Retry-After"] == "2"
    *_, ended = states = await app.poll(started.headers["Location"])
    assert [step["name"] for step in ended["steps"]] == _PHASES
    assert {step["status"] for step in ended["steps"]} == {"done"}
    assert all(step["detail"] for step in ended["steps"])
    assert ended["status"] == "Succeeded"
    assert 1 < ended["result"]["seconds"] < 60
    assert ended["result"]["handover"]["subject"] == app.world.cloud.app.principal_id
    assert any(_progress(state) == ["done"] * 7 + ["running"] + ["pending"] * 3 for state in states)
    auths = await cluster.admin.read_auths("deepintshield", "ar-pull-secret")
    assert await can_pull(auths, app.world.cloud.hubs["main"].image, app.world.cloud.authority.pem)


def _progress(operation: dict[str, Any]) -> list[str]:
    return [step["status"] for step in operation["steps"]]


async def test_a_cluster_is_in_the_fleet_until_it_is_offboarded(app: App) -> None:
    cluster = await app.add_cluster("aks-2")
    await app.onboard(cluster)
    one = await app.call("GET", cluster_path(cluster))
    assert one.status == 200
    assert (one.body["cluster"], one.body["hub"]) == (str(cluster.id), "main")
    (target,) = one.body["targets"]
    assert (target["target"], target["state"]) == ("deepintshield/ar-pull-secret", "fresh")
    offboarded = await app.run_operation("DELETE", cluster_path(cluster))
    assert (offboarded["kind"], offboarded["status"]) == ("offboard", "Succeeded"), json.dumps(offboarded)
    assert any("Namespace deepintshield" in left for left in offboarded["result"]["left"])
    for method, path in (("GET", cluster_path(cluster)), ("POST", f"{cluster_path(cluster)}/refresh")):
        assert (await app.call(method, path)).status == 404
    with pytest.raises(AssertionError, match="HTTP 404"):
        await cluster.admin.read_secret("deepintshield", "ar-pull-secret")


async def test_onboarding_twice_changes_nothing(app: App) -> None:
    """A replayed request: abuse case 16."""
    cluster = await app.add_cluster("aks-3")
    first = await app.onboard(cluster)
    uid = (await cluster.admin.read_secret("deepintshield", "ar-pull-secret"))["metadata"]["uid"]
    writes = list(app.world.cloud.arm.writes)
    second = await app.onboard(cluster)
    assert first["id"] != second["id"]
    assert (second["status"], _progress(second)) == ("Succeeded", ["done"] * len(_PHASES))
    assert second["result"]["handover"] == first["result"]["handover"]
    assert app.world.cloud.arm.writes == writes
    assert (await cluster.admin.read_secret("deepintshield", "ar-pull-secret"))["metadata"]["uid"] == uid


async def test_a_second_operation_is_refused_with_the_address_of_the_first(app: App) -> None:
    cluster = await app.add_cluster("aks-4")
    _delay_secrets(cluster, 2)
    wanted = onboarding_body(cluster)
    first = await app.call("POST", "clusters", wanted)
    for refused in (await app.call("POST", "clusters", wanted), await app.call("DELETE", cluster_path(cluster))):
        assert refused.status == 409
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.body["operation"] == first.headers["Location"]
    assert (await app.poll(first.headers["Location"]))[-1]["status"] == "Succeeded"


async def test_one_of_several_simultaneous_requests_wins(app: App) -> None:
    cluster = await app.add_cluster("aks-5")
    wanted = onboarding_body(cluster)
    responses = await asyncio.gather(*(app.call("POST", "clusters", wanted) for _ in range(4)))
    assert sorted(response.status for response in responses) == [202, 409, 409, 409]
    (started,) = (response.headers["Location"] for response in responses if response.status == 202)
    assert {response.body["operation"] for response in responses if response.status == 409} == {started}
    assert (await app.poll(started))[-1]["status"] == "Succeeded"


async def test_a_dry_run_changes_nothing(app: App) -> None:
    cluster = await app.add_cluster("aks-6")
    writes = list(app.world.cloud.arm.writes)
    ended = await app.onboard(cluster, dryRun=True)
    assert (ended["status"], ended["dryRun"]) == ("Succeeded", True), json.dumps(ended)
    assert set(_progress(ended)) == {"planned"}
    assert app.world.cloud.arm.writes == writes
    with pytest.raises(AssertionError, match="HTTP 404"):
        await cluster.admin.call("GET", "/api/v1/namespaces/deepintshield")
    assert (await app.call("GET", cluster_path(cluster))).status == 404


async def test_a_failed_try_is_repeated_by_a_delayed_message(app: App) -> None:
    cluster = await app.add_cluster("aks-9")
    app.world.cloud.arm_part.faults.add(Fault(path="/managedClusters/aks-9", times=1))
    started = await app.call("POST", "clusters", onboarding_body(cluster))
    *states, ended = await app.poll(started.headers["Location"])
    failed = {step["category"] for state in states for step in state["steps"] if step["status"] == "failed"}
    assert (failed, ended["status"]) == ({"arm_unavailable"}, "Succeeded")
    assert ended["result"]["seconds"] > 30


async def test_an_unknown_operation_is_not_found(app: App) -> None:
    response = await app.call("GET", f"operations/{'0' * 32}")
    assert (response.status, response.body["category"]) == (404, "invalid_request")


async def test_the_operations_of_a_cluster_are_listed_with_the_newest_first(app: App) -> None:
    cluster = await app.add_cluster("aks-11")
    onboarded = await app.onboard(cluster)
    planned = await app.onboard(cluster, dryRun=True)
    kept = await app.run_operation("DELETE", f"{cluster_path(cluster)}?keepWorkload=true")
    assert kept["keepWorkload"] is True
    summaries = [{name: one[name] for name in _SUMMARY} for one in (kept, planned, onboarded)]
    mixed_case = str(cluster.id).replace("resourceGroups", "resourcegroups").replace("aks-11", "AKS-11")
    listed = await app.call("GET", f"operations?cluster={mixed_case}")
    assert (listed.status, listed.body["operations"], listed.body["continuation"]) == (200, summaries, None)
    assert listed.body["counts"]["Succeeded"] >= 2
    failed = await app.call("GET", f"operations?cluster={cluster.id}&status=Failed")
    assert failed.body["operations"] == []


async def test_operations_are_paged(app: App) -> None:
    """With more than a page holds, each is listed once, the newest first."""
    begun = [await _begin_operation(app, n) for n in range(120)]
    first = await app.call("GET", "operations?status=Queued")
    assert len(first.body["operations"]) == 100
    second = await app.call("GET", f"operations?status=Queued&continuation={first.body['continuation']}")
    assert second.body["continuation"] is None
    listed = [operation["id"] for page in (first, second) for operation in page.body["operations"]]
    assert listed == begun[::-1]


async def _begin_operation(app: App, number: int) -> str:
    """Write down an operation that no message continues; return its id."""
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    cluster = ClusterId(SUBSCRIPTION, GROUP, f"queued-{number}")
    operation = Operation(id=create_operation_id(now), kind="onboard", cluster=cluster, created_at=now, updated_at=now)
    await app.world.services.runner._operations.begin(operation, Onboarding(cluster=cluster), now)
    return operation.id


async def test_the_fleet_is_paged(app: App) -> None:
    """With more clusters than a page holds, each is shown once."""
    cluster = await app.world.cloud.add_cluster("aks-10", "main")
    names = [ClusterId(SUBSCRIPTION, GROUP, f"many-{n}") for n in range(120)]
    fleet = app.world.services.fleet
    for name in names:
        wanted = cluster.member.cluster.model_copy(update={"cluster": name})
        await fleet.register(Member(wanted, cluster.member.endpoint))
    first = await app.call("GET", "clusters")
    assert len(first.body["clusters"]) == 100
    second = await app.call("GET", f"clusters?continuation={first.body['continuation']}")
    assert second.body["continuation"] is None
    shown = [one["cluster"] for one in first.body["clusters"] + second.body["clusters"]]
    assert len(set(shown)) == len(shown)
    assert {str(name) for name in names} <= set(shown)


async def test_the_fleet_is_filtered_by_state(app: App) -> None:
    fresh, pending = [await app.world.cloud.add_cluster(f"aks-{n}", "main") for n in (11, 12)]
    for cluster in (fresh, pending):
        await app.world.services.fleet.register(cluster.member)
    await app.world.services.refresher.refresh(RefreshMessage(shard=shard_of(fresh.id), cluster=fresh.id, reason="due"))
    for state, cluster, other in (("fresh", fresh, pending), ("pending", pending, fresh)):
        page = (await app.call("GET", f"clusters?state={state}")).body
        shown = {one["cluster"] for one in page["clusters"]}
        assert str(cluster.id) in shown
        assert str(other.id) not in shown
    assert (await app.call("GET", "clusters?state=unheard-of")).status == 400


async def test_the_handover_names_the_apps_identity(app: App) -> None:
    response = await app.call("GET", "handover?hub=main")
    assert response.status == 200
    assert response.body["subject"] == app.world.cloud.app.principal_id
    assert any("main-azure-provider" in command for command in response.body["commands"])
    assert (await app.call("GET", "handover?hub=unknown")).status == 400


async def test_the_openapi_document_is_served(app: App) -> None:
    response = await app.call("GET", "openapi.json")
    assert response.status == 200
    assert response.body == document()


async def test_a_request_may_bring_its_own_hub(app: App) -> None:
    """The publisher's document instead of a configured hub's name."""
    cluster = await app.add_cluster("aks-13")
    hub = app.world.cloud.hubs["main"].document
    own = {name: hub[name] for name in ("credentialConfig", "registries", "probe")}
    ended = await app.onboard(cluster, hub=None, **own)
    assert ended["status"] == "Succeeded", json.dumps(ended)
    assert (await app.call("GET", cluster_path(cluster))).body["hub"] is None
