"""Locks, policies and registrations of the subscription: each is named with its remedy, and not waited for."""

import json
from typing import Any

import pytest

from local.azure.governance import Level
from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Fault
from pullkeeper.azure.identities import OURS
from pullkeeper.errors import InvalidRequest
from tests.onboarding.conftest import IDENTITY, Onboarding, describe, identity_id, left, step
from tests.onboarding.test_cluster_checks import switched_off

pytestmark = pytest.mark.servers
SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
WORKSPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/logs/providers/Microsoft.OperationalInsights/workspaces/all"


async def test_a_right_that_is_missing_at_a_linked_resource_is_named(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    azure = onboarding.azure(cluster)
    switched_off(azure)
    addon = {"enabled": True, "config": {"logAnalyticsWorkspaceResourceID": WORKSPACE}}
    azure.rest = {"properties": {"addonProfiles": {"omsagent": addon}}}

    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True})

    failed = step(ended, "inspect cluster")
    assert (ended.status, failed.category) == ("Failed", "arm_denied"), describe(ended)
    assert f"--assignee-object-id {onboarding.world.cloud.app.principal_id} " in str(failed.remedy)
    assert f"Microsoft.OperationalInsights/workspaces/sharedkeys/read>' --scope {WORKSPACE}." in str(failed.remedy)


@pytest.mark.parametrize(
    ("governance", "category", "command"),
    [
        ({"locks": {SCOPE: "ReadOnly"}}, "scope_locked", f"az rest --method get --url '{SCOPE}/providers/"),
        ({"unregistered": {"Microsoft.ManagedIdentity"}}, "provider_not_registered", "az provider register "),
        ({"required_tags": {"team"}}, "policy_denied", "onboard with them in identityTags"),
    ],
)
async def test_what_the_subscription_does_not_allow_fails_at_once_with_its_remedy(
    onboarding: Onboarding, governance: dict[str, Any], category: str, command: str
) -> None:
    cluster = await onboarding.cluster("aks-1")
    for name, value in governance.items():
        setattr(onboarding.world.cloud.arm.governance, name, value)
    begun = await onboarding.begin({"cluster": str(cluster.id), "hub": "main"})

    ended = await onboarding.deliver(begun.id)

    failed = step(ended, "identity")
    assert (ended.status, failed.category) == ("Failed", category), describe(ended)
    assert command in str(failed.remedy)
    assert onboarding.world.cloud.arm.writes == []


async def test_a_lock_is_not_mistaken_for_a_change_of_the_cluster_or_the_identity(onboarding: Onboarding) -> None:
    """Both are 409, and are waited for."""
    cluster = await onboarding.cluster("aks-1")
    switched_off(onboarding.azure(cluster))
    onboarding.world.cloud.arm.governance.locks[SCOPE] = "ReadOnly"
    body = {"cluster": str(cluster.id), "hub": "main", "enableWorkloadIdentity": True}

    by_cluster = await onboarding.deliver((await onboarding.begin(body)).id)
    onboarding.world.cloud.arm.governance.locks.clear()
    onboarding.fill_identity(0, **OURS)
    onboarding.world.cloud.arm.governance.locks[identity_id(IDENTITY)] = "ReadOnly"
    by_identity = await onboarding.run(body)

    assert step(by_cluster, "inspect cluster").category == "scope_locked"
    assert step(by_identity, "federated credential").category == "scope_locked"


@pytest.mark.parametrize("level", ["CanNotDelete", "ReadOnly"])
async def test_offboarding_reports_what_a_lock_keeps_and_removes_it_later(onboarding: Onboarding, level: Level) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    onboarding.world.cloud.arm.governance.locks[identity_id(IDENTITY)] = level

    ended = await onboarding.offboard(cluster)

    assert ended.result is not None
    assert not ended.result.complete
    [kept] = [line for line in left(ended) if line.startswith("federated credential ")]
    assert "Azure refused (scope_locked: " in kept
    assert identity_id(IDENTITY).lower() in kept.lower()
    assert onboarding.credentials()
    onboarding.world.cloud.arm.governance.locks.clear()
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity() is None


async def test_offboarding_reports_what_a_policy_keeps_and_removes_it_later(onboarding: Onboarding) -> None:
    cluster, faults = await onboarding.cluster("aks-1"), onboarding.world.cloud.arm_part.faults
    await onboarding.onboard(cluster)
    error = {"code": "RequestDisallowedByPolicy", "message": "Resource 'x' was disallowed by policy."}
    faults.add(Fault("/userAssignedIdentities/[^/]*$", "DELETE", 403, json.dumps({"error": error})))

    ended = await onboarding.offboard(cluster)

    assert (ended.status, ended.result and ended.result.complete) == ("Succeeded", False), describe(ended)
    [kept] = [line for line in left(ended) if line.startswith("identity ")]
    assert "Azure refused (policy_denied: " in kept
    faults.clear()
    await onboarding.offboard_fully(cluster)
    assert onboarding.identity() is None


async def test_an_identity_gets_the_requested_tags_and_keeps_those_of_others(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    onboarding.azure(cluster).location = "northeurope"
    onboarding.world.cloud.arm.governance.required_tags.add("Team")
    await onboarding.onboard(cluster, identityTags={"team": "shop"})
    identity = onboarding.identity()
    assert identity is not None
    assert identity.tags == {"team": "shop", "managed-by": "pullkeeper"}
    assert identity.location == "northeurope"

    identity.tags["CostCenter"] = "7"
    await onboarding.onboard(cluster, identityTags={"Team": "pay"})
    writes = len(onboarding.world.cloud.arm.writes)
    await onboarding.onboard(cluster, identityTags={"Team": "pay"})

    assert identity.tags == {"Team": "pay", "managed-by": "pullkeeper", "CostCenter": "7"}
    assert len(onboarding.world.cloud.arm.writes) == writes


@pytest.mark.parametrize(
    "tags",
    [
        {"Managed-By": "terraform"},
        {"pullkeeper": "shared"},
        {"microsoft-x": "1"},
        {"azure-x": "1"},
        {"Windows": "1"},
        {"a/b": "1"},
        {"": "1"},
        {"a" * 129: "1"},
        {"a": "b" * 257},
        {"a": 1},
        {"team": "1", "Team": "2"},
        {f"t{number}": "1" for number in range(16)},
    ],
    ids=str,
)
async def test_tags_that_azure_or_pullkeeper_reserves_are_refused(onboarding: Onboarding, tags: dict[str, Any]) -> None:
    cluster = await onboarding.cluster("aks-1")
    with pytest.raises(InvalidRequest, match="identityTags"):
        await onboarding.begin({"cluster": str(cluster.id), "hub": "main", "identityTags": tags})
