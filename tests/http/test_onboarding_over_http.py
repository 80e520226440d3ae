"""Onboarding as a pipeline does it: one call, and one poll; through the host, the queue and the tables."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from functions.openapi import document
from local.cloud import GROUP, SUBSCRIPTION, LocalCluster
from local.pull_check import can_pull
from local.serving import Fault
from pullkeeper.fleet.table import Member
from pullkeeper.model import ClusterId, RefreshMessage
from pullkeeper.onboarding.run import ONBOARD
from tests.http.conftest import App, path_of, wish

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_PHASES = [phase.NAME for phase in ONBOARD]


def _is_slow(cluster: LocalCluster, seconds: float) -> None:
    cluster.part.faults.add(Fault(path="/secrets/", slow_only=True, delay=timedelta(seconds=seconds), times=1))


async def test_one_call_and_one_poll(app: App) -> None:
    cluster = await app.cluster("aks-1")
    _is_slow(cluster, 1)
    begun = await app.call("POST", "clusters", wish(cluster))
    assert begun.status == 202
    assert begun.headers["Location"] == f"/api/operations/{begun.body['id']}"
    assert begun.headers["Retry-After"] == "2"
    *_, ended = seen = await app.watched(begun.headers["Location"])
    assert [step["name"] for step in ended["steps"]] == _PHASES
    assert {step["status"] for step in ended["steps"]} == {"done"}
    assert all(step["detail"] for step in ended["steps"])
    assert ended["status"] == "Succeeded"
    assert 1 < ended["result"]["seconds"] < 60
    assert ended["result"]["handover"]["subject"] == app.world.cloud.app.principal_id
    assert any(_progress(answer) == ["done"] * 7 + ["running"] + ["pending"] * 3 for answer in seen)
    auths = await cluster.admin.read_auths("deepintshield", "ar-pull-secret")
    assert await can_pull(auths, app.world.cloud.hubs["main"].image, app.world.cloud.authority.pem)


def _progress(operation: dict[str, Any]) -> list[str]:
    return [step["status"] for step in operation["steps"]]


async def test_what_is_onboarded_is_in_the_fleet_until_it_is_offboarded(app: App) -> None:
    cluster = await app.cluster("aks-2")
    await app.onboarded(cluster)
    one = await app.call("GET", path_of(cluster))
    assert one.status == 200
    assert (one.body["cluster"], one.body["hub"]) == (str(cluster.id), "main")
    (target,) = one.body["targets"]
    assert (target["target"], target["state"]) == ("deepintshield/ar-pull-secret", "fresh")
    gone = await app.ended("DELETE", path_of(cluster))
    assert (gone["kind"], gone["status"]) == ("offboard", "Succeeded"), json.dumps(gone)
    assert any("Namespace deepintshield" in left for left in gone["result"]["left"]), "the report of what is left"
    assert (await app.call("GET", path_of(cluster))).status == 404
    with pytest.raises(AssertionError, match="HTTP 404"):
        await cluster.admin.read_secret("deepintshield", "ar-pull-secret")


async def test_the_same_call_again_changes_nothing(app: App) -> None:
    """Onboarding replayed: abuse case 16."""
    cluster = await app.cluster("aks-3")
    first = await app.onboarded(cluster)
    uid = (await cluster.admin.read_secret("deepintshield", "ar-pull-secret"))["metadata"]["uid"]
    writes = list(app.world.cloud.arm.writes)
    second = await app.onboarded(cluster)
    assert first["id"] != second["id"]
    assert (second["status"], _progress(second)) == ("Succeeded", ["done"] * len(_PHASES))
    assert second["result"]["handover"] == first["result"]["handover"]
    assert app.world.cloud.arm.writes == writes
    assert (await cluster.admin.read_secret("deepintshield", "ar-pull-secret"))["metadata"]["uid"] == uid


async def test_while_one_runs_another_is_told_where_it_is(app: App) -> None:
    cluster = await app.cluster("aks-4")
    _is_slow(cluster, 2)
    wanted = wish(cluster)
    first = await app.call("POST", "clusters", wanted)
    for refused in (await app.call("POST", "clusters", wanted), await app.call("DELETE", path_of(cluster))):
        assert refused.status == 409
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.body["operation"] == first.headers["Location"]
    assert (await app.watched(first.headers["Location"]))[-1]["status"] == "Succeeded"


async def test_two_at_once_for_one_cluster(app: App) -> None:
    cluster = await app.cluster("aks-5")
    wanted = wish(cluster)
    answers = await asyncio.gather(*(app.call("POST", "clusters", wanted) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [202, 409, 409, 409]
    (begun,) = (answer.headers["Location"] for answer in answers if answer.status == 202)
    assert {answer.body["operation"] for answer in answers if answer.status == 409} == {begun}
    assert (await app.watched(begun))[-1]["status"] == "Succeeded"


async def test_a_dry_run_tells_and_changes_nothing(app: App) -> None:
    cluster = await app.cluster("aks-6")
    writes = list(app.world.cloud.arm.writes)
    ended = await app.onboarded(cluster, dryRun=True)
    assert (ended["status"], ended["dryRun"]) == ("Succeeded", True), json.dumps(ended)
    assert set(_progress(ended)) == {"planned"}
    assert app.world.cloud.arm.writes == writes
    with pytest.raises(AssertionError, match="HTTP 404"):
        await cluster.admin.call("GET", "/api/v1/namespaces/deepintshield")
    assert (await app.call("GET", path_of(cluster))).status == 404


async def test_without_a_hub_it_waits_for_the_publisher(app: App) -> None:
    """And completes when it is sent again with one."""
    cluster = await app.cluster("aks-7")
    ended = await app.onboarded(cluster, hub=None)
    assert ended["status"] == "AwaitingFederation"
    assert ended["result"]["handover"]["commands"]
    assert (await app.onboarded(cluster))["status"] == "Succeeded"


async def test_what_fails_says_why_and_what_mends_it(app: App) -> None:
    cluster = await app.cluster("aks-8")
    await cluster.admin.call("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/platform-team")
    ended = await app.onboarded(cluster)
    assert ended["status"] == "Failed"
    (failed,) = (step for step in ended["steps"] if step["status"] == "failed")
    assert (failed["name"], failed["category"]) == ("cluster access", "cluster_rbac_denied")
    assert failed["remedy"]


async def test_what_the_queue_gives_up_has_failed(app: App) -> None:
    """An outage outlasts all tries: the operation ends with the last failure, and another one may begin."""
    cluster = await app.cluster("aks-9")
    cluster.part.faults.add(Fault(status=503))
    ended = await app.onboarded(cluster)
    assert ended["status"] == "Failed"
    assert [step["category"] for step in ended["steps"] if step["status"] == "failed"] == ["cluster_unreachable"]
    cluster.part.faults.clear()
    assert (await app.onboarded(cluster))["status"] == "Succeeded"


async def test_an_operation_that_nobody_began_is_not_found(app: App) -> None:
    answer = await app.call("GET", f"operations/{'0' * 32}")
    assert (answer.status, answer.body["category"]) == (404, "invalid_request")


async def test_the_fleet_page_by_page(app: App) -> None:
    """More clusters than a page holds; each is shown once."""
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


async def test_the_fleet_by_state(app: App) -> None:
    fresh, pending = [await app.world.cloud.add_cluster(f"aks-{n}", "main") for n in (11, 12)]
    for cluster in (fresh, pending):
        await app.world.services.fleet.register(cluster.member)
    await app.world.services.refresher.refresh(RefreshMessage(cluster=fresh.id, reason="due"))
    for state, cluster, other in (("fresh", fresh, pending), ("pending", pending, fresh)):
        page = (await app.call("GET", f"clusters?state={state}")).body
        shown = {one["cluster"] for one in page["clusters"]}
        assert str(cluster.id) in shown
        assert str(other.id) not in shown
    assert (await app.call("GET", "clusters?state=rotten")).status == 400


async def test_the_handover_of_the_whole_fleet(app: App) -> None:
    answer = await app.call("GET", "handover?hub=main")
    assert answer.status == 200
    assert answer.body["subject"] == app.world.cloud.app.principal_id
    assert any("main-azure-provider" in command for command in answer.body["commands"])
    assert (await app.call("GET", "handover?hub=nobodys")).status == 400


async def test_the_interface_is_told(app: App) -> None:
    answer = await app.call("GET", "openapi.json")
    assert answer.status == 200
    assert answer.body == document()


async def test_a_hub_may_be_brought_along(app: App) -> None:
    """The publisher's document as it is handed out, in place of a configured hub's name."""
    cluster = await app.cluster("aks-13")
    hub = app.world.cloud.hubs["main"].document
    own = {name: hub[name] for name in ("credentialConfig", "registries", "probe")}
    ended = await app.onboarded(cluster, hub=None, **own)
    assert ended["status"] == "Succeeded", json.dumps(ended)
    assert (await app.call("GET", path_of(cluster))).body["hub"] is None
