"""What Azure refuses to a caller with the role: linked scopes, locks, policies, namespaces not registered."""

from typing import Any

import pytest

from local.azure.arm import ONBOARDER
from local.azure.assertions import FederatedCredential
from local.azure.managed_identities import IDENTITIES
from tests.local.conftest import BLUE, GROUP, SUBSCRIPTION, Azure

WORKSPACE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/Logs/providers/Microsoft.OperationalInsights/workspaces/central"
)
SHARED_KEYS = "Microsoft.OperationalInsights/workspaces/sharedkeys/read"
IDENTITY = f"{GROUP}/providers/{IDENTITIES}/pull"
CREDENTIAL = f"{IDENTITY}/federatedIdentityCredentials/one"
AKS_VERSION = "api-version=2026-08-01"
VERSION = "api-version=2024-11-30"
CREATE = {"location": "westeurope"}
TRUST = {"properties": {"issuer": "https://oidc.example/", "subject": "s", "audiences": ["api://AzureADTokenExchange"]}}


async def _put_cluster(azure: Azure) -> Any:
    """Put the cluster back as it is."""
    found = await azure.send("GET", f"{BLUE}?{AKS_VERSION}")
    return await azure.send("PUT", f"{BLUE}?{AKS_VERSION}", body=found.body)


async def test_a_cluster_that_names_a_workspace_needs_a_right_there(azure: Azure) -> None:
    addon = {"enabled": True, "config": {"logAnalyticsWorkspaceResourceID": WORKSPACE}}
    azure.blue.rest = {"properties": {"addonProfiles": {"omsagent": addon}}}

    refused = await _put_cluster(azure)
    azure.arm.assign(azure.caller.principal_id, WORKSPACE, frozenset({SHARED_KEYS}))

    assert refused.error == (403, "LinkedAuthorizationFailed")
    assert f"action(s) '{SHARED_KEYS}' on the linked scope(s) '{WORKSPACE}'" in refused.message
    assert (await _put_cluster(azure)).status == 200


@pytest.mark.parametrize(
    ("level", "statuses"),
    [
        ("CanNotDelete", {"read": 200, "list": 200, "write": 201, "delete": 409}),
        ("ReadOnly", {"read": 200, "list": 409, "write": 409, "delete": 409}),
    ],
)
async def test_a_lock_counts_for_everything_below_it(azure: Azure, level: Any, statuses: dict[str, int]) -> None:
    identity = azure.arm.identities.add(IDENTITY)
    azure.arm.federated_credentials.add(identity, "one", FederatedCredential("https://a/", "s", "a"))
    azure.arm.governance.locks[GROUP.upper()] = level

    sent = {
        "read": await azure.send("GET", f"{IDENTITY}?{VERSION}"),
        "list": await azure.send("POST", f"{BLUE}/listClusterUserCredential?{AKS_VERSION}"),
        "write": await azure.send("PUT", f"{IDENTITY}-2?{VERSION}", body=CREATE),
        "delete": await azure.send("DELETE", f"{CREDENTIAL}?{VERSION}"),
    }

    assert {name: response.status for name, response in sent.items()} == statuses
    assert sent["delete"].error == (409, "ScopeLocked")
    assert "cannot perform delete operation because following scope(s) are locked" in sent["delete"].message


async def test_a_lock_does_not_count_beside_its_scope(azure: Azure) -> None:
    azure.arm.governance.locks[f"{GROUP}/providers/{IDENTITIES}/pul"] = "ReadOnly"

    assert (await azure.send("PUT", f"{IDENTITY}?{VERSION}", body=CREATE)).status == 201


async def test_a_namespace_must_be_registered(azure: Azure) -> None:
    azure.arm.governance.unregistered.add("Microsoft.ManagedIdentity")

    refused = await azure.send("GET", f"{IDENTITY}?{VERSION}")

    assert refused.error == (409, "MissingSubscriptionRegistration")
    assert "'Microsoft.ManagedIdentity'" in refused.message


async def test_a_policy_requires_tags_of_resources_and_not_of_what_belongs_to_them(azure: Azure) -> None:
    azure.arm.governance.required_tags.add("Team")

    refused = await azure.send("PUT", f"{IDENTITY}?{VERSION}", body=CREATE)
    tagged = await azure.send("PUT", f"{IDENTITY}?{VERSION}", body={**CREATE, "tags": {"team": "shop"}})

    assert refused.error == (403, "RequestDisallowedByPolicy")
    assert '"policyAssignment":{"name":' in refused.message
    assert tagged.status == 201
    assert (await azure.send("PUT", f"{CREDENTIAL}?{VERSION}", body=TRUST)).status == 201


async def test_rights_are_checked_before_locks(azure: Azure) -> None:
    azure.arm.governance.locks[GROUP] = "ReadOnly"
    azure.assign(ONBOARDER - {f"{IDENTITIES}/write"})

    assert (await azure.send("PUT", f"{IDENTITY}?{VERSION}", body=CREATE)).error == (403, "AuthorizationFailed")
