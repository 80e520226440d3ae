"""Rights by label: a cluster role, never without the admission policy that narrows it down."""

import re
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
import yaml

from local.cloud import LocalCluster
from local.kubernetes import recordings
from pullkeeper.cluster.rights import access, admission_policy
from pullkeeper.model import SelectorTarget
from tests.onboarding.conftest import Onboarding, describe, list_content, list_objects, list_versions, step

pytestmark = pytest.mark.servers
_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_TEAM_A: Final = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "secret": "found"}
_NAMED: Final = {"namespace": "team-b"}


def _cluster_wide(principal: str) -> set[str]:
    kinds = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
    rights = ("clusterroles", "clusterrolebindings")
    paths = [*(f"{_ADMISSION}/{kind}" for kind in kinds), *(f"{_RBAC}/{kind}" for kind in rights)]
    return {f"{path}//pullkeeper-refresher-{principal}" for path in paths}


def _app(onboarding: Onboarding) -> str:
    return onboarding.world.cloud.app.principal_id


async def _policy(cluster: LocalCluster, principal: str) -> dict[str, str]:
    path = f"{_ADMISSION}/validatingadmissionpolicies/pullkeeper-refresher-{principal}"
    spec = (await cluster.admin.call("GET", path))["spec"]
    return {one["name"]: one["expression"] for one in spec["variables"]}


def _writes(cluster: LocalCluster) -> list[str]:
    return [one.path for one in cluster.part.journal.requests if one.method == "PATCH" and "/secrets/" not in one.path]


async def test_a_selector_gets_policy_and_cluster_role_in_this_order(onboarding: Onboarding) -> None:
    """Onboarding again changes nothing, and offboarding removes them, the rights first."""
    cluster = await onboarding.cluster("aks-1")
    before = set(await list_objects(cluster))
    await onboarding.onboard(cluster, targets=[_TEAM_A, _NAMED])
    assert set(await list_objects(cluster)) - before >= _cluster_wide(_app(onboarding))
    kinds = [path.split("/")[4] for path in _writes(cluster) if _app(onboarding) in path]
    assert list(dict.fromkeys(kinds)) == [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "clusterroles",
        "clusterrolebindings",
    ]
    there = await list_versions(cluster)
    await onboarding.onboard(cluster, targets=[_TEAM_A, _NAMED])
    assert await list_versions(cluster) == there

    await onboarding.offboard_fully(cluster)
    assert not [path for path in await list_objects(cluster) if "pullkeeper" in path]
    deleted = [one.path for one in cluster.part.journal.requests if one.method == "DELETE"]
    order = [next(n for n, path in enumerate(deleted) if f"/{kind}/" in path) for kind in reversed(kinds)]
    assert order == sorted(order)


async def test_a_changed_selector_changes_the_policy_before_the_rights(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=[_TEAM_A])
    cluster.part.faults.add(recordings.fault("webhook-denies", method="PATCH", path="/clusterroles/"))
    wider = [_TEAM_A, {**_TEAM_A, "secret": "another", "prune": True}]
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "targets": wider})
    assert step(ended, "refresher").category == "admission_denied", describe(ended)
    assert (await _policy(cluster, _app(onboarding)))["pruned"] == '["another"]'
    role = (await list_content(cluster) | await list_objects(cluster))[
        f"{_RBAC}/clusterroles//pullkeeper-refresher-{_app(onboarding)}"
    ]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, ["found"]]


async def test_without_a_selector_the_cluster_role_is_removed_and_the_policy_stays(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=[_TEAM_A, _NAMED])
    await onboarding.onboard(cluster, targets=[_NAMED])
    there = _cluster_wide(_app(onboarding)) & set(await list_objects(cluster))
    assert there == {path for path in _cluster_wide(_app(onboarding)) if path.startswith(_ADMISSION)}
    assert (await _policy(cluster, _app(onboarding)))["selectors"] == "{}"


async def test_before_1_30_a_selector_is_refused_and_names_work_without_a_policy(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).version = "1.29.15"
    cluster.part.faults.add(recordings.fault("no-such-resource", path=_ADMISSION))
    refused = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "targets": [_TEAM_A]})
    detail = step(refused, "inspect cluster").detail or ""
    assert (refused.status, detail.partition(":")[0]) == ("Failed", "Kubernetes 1.29.15")
    assert re.search("1.30 is the oldest version for namespaceSelector.*ValidatingAdmissionPolicy", detail)
    assert onboarding.world.cloud.arm.writes == []

    onboarding.azure(cluster).version = "1.24.0"
    await onboarding.onboard(cluster, targets=[_NAMED])
    cluster.part.faults.clear()
    assert f"{_RBAC}/roles/team-b/pullkeeper-refresher" in await list_objects(cluster)
    cluster.part.faults.add(recordings.fault("no-such-resource", path=_ADMISSION))
    await onboarding.offboard_fully(cluster)


async def test_from_1_30_a_selector_gets_its_policy(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).version = "1.30.0"
    for adopt in (True, False):
        await onboarding.onboard(cluster, targets=[_TEAM_A], adopt=adopt)
        assert (await _policy(cluster, _app(onboarding)))["adopt"] == str(adopt).lower()


async def _replace_identity(onboarding: Onboarding) -> str:
    """Give the app another identity, which the hub `newer` trusts. Returns the earlier one."""
    cloud, earlier = onboarding.world.cloud, _app(onboarding)
    cloud.app = cloud.identity._assigned[cloud.app.client_id] = replace(cloud.app, principal_id=str(uuid.uuid4()))
    onboarding.world.clock.advance(timedelta(days=2))  # tokens of the earlier one have expired
    cloud.add_hub("newer")
    await onboarding.restart()
    return earlier


async def test_objects_of_an_earlier_identity_are_removed(two_identities: Onboarding) -> None:
    """The app has got another identity since it onboarded the cluster."""
    onboarding = two_identities
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=[_TEAM_A])
    earlier = await _replace_identity(onboarding)
    await onboarding.onboard(cluster, hub="newer", targets=[_TEAM_A])
    there = set(await list_objects(cluster))
    assert there >= _cluster_wide(_app(onboarding))
    assert not there & _cluster_wide(earlier)


async def test_offboarding_removes_objects_of_an_earlier_identity(two_identities: Onboarding) -> None:
    """Onboarding has failed with the later one, before it removed them."""
    onboarding = two_identities
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=[_TEAM_A])
    earlier = await _replace_identity(onboarding)
    cluster.part.faults.add(recordings.fault("forbidden", method="PATCH", path="/clusterrole"))
    failed = await onboarding.run({"cluster": str(cluster.id), "hub": "newer", "targets": [_TEAM_A]})
    assert failed.status == "Failed", describe(failed)
    cluster.part.faults.clear()
    await onboarding.offboard_fully(cluster)
    assert not {*await list_objects(cluster)} & (_cluster_wide(earlier) | _cluster_wide(_app(onboarding)))


async def test_objects_of_another_app_are_left_alone(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    theirs = [SelectorTarget.parse(_TEAM_A)]
    for manifest in (*admission_policy(theirs, "theirs"), *access(theirs, "theirs")):
        await cluster.admin.apply(manifest, manager="pullkeeper")
    before = {path: body for path, body in (await list_objects(cluster)).items() if path in _cluster_wide("theirs")}
    assert len(before) == 4
    await onboarding.onboard(cluster, targets=[_TEAM_A])
    await onboarding.offboard_fully(cluster)
    after = await list_objects(cluster)
    assert {path: after[path] for path in before} == before


async def test_after_a_complete_offboarding_the_objects_of_an_earlier_identity_are_another_apps(
    two_identities: Onboarding,
) -> None:
    onboarding = two_identities
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=[_NAMED])
    await onboarding.offboard_fully(cluster)
    earlier = await _replace_identity(onboarding)
    for manifest in access([SelectorTarget.parse(_TEAM_A)], earlier):
        await cluster.admin.apply(manifest, manager="pullkeeper")
    before = _cluster_wide(earlier) & set(await list_objects(cluster))
    await onboarding.onboard(cluster, hub="newer", targets=[_TEAM_A])
    await onboarding.offboard_fully(cluster)
    assert _cluster_wide(earlier) & set(await list_objects(cluster)) == before != set()


async def test_where_others_own_the_policies_the_result_has_ours_and_no_rights_are_given(
    onboarding: Onboarding,
) -> None:
    cluster = await onboarding.cluster("aks-1")
    body: dict[str, Any] = {"cluster": str(cluster.id), "hub": "main", "targets": [_TEAM_A], "adopt": True}
    cluster.part.faults.add(recordings.fault("forbidden-in-cluster", method="PATCH", path=_ADMISSION))
    ended = await onboarding.run(body)
    refused = step(ended, "refresher")
    assert (ended.status, refused.category) == ("Failed", "cluster_rbac_denied"), describe(ended)
    assert "The result holds the policy's manifests" in (refused.detail or "")
    assert f"--assignee-object-id {_app(onboarding)} " in (refused.remedy or "")
    cluster.part.faults.clear()
    assert not _cluster_wide(_app(onboarding)) & set(await list_objects(cluster))

    assert ended.result is not None
    policy = list(yaml.safe_load_all(ended.result.manifests or ""))
    assert [one["kind"] for one in policy] == ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]
    for manifest in policy:
        await cluster.admin.apply(manifest, manager="pullkeeper")
    cluster.part.faults.add(recordings.fault("forbidden-in-cluster", method="PATCH", path=_ADMISSION))
    await onboarding.onboard(cluster, targets=[_TEAM_A], adopt=True)


async def test_a_denial_of_rights_hands_out_no_policy(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    body: dict[str, Any] = {"cluster": str(cluster.id), "hub": "main", "targets": [_TEAM_A]}
    cluster.part.faults.add(recordings.fault("forbidden-in-cluster", method="PATCH", path=_RBAC))
    ended = await onboarding.run(body)
    refused = step(ended, "refresher")
    assert (ended.status, refused.category) == ("Failed", "cluster_rbac_denied"), describe(ended)
    assert "The result holds" not in (refused.detail or "")
    assert ended.result is not None
    assert ended.result.manifests is None
