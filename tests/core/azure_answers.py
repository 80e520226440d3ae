"""Refusals by Azure Resource Manager that are known by their code, and what each means.

Quoted in github.com/Azure/azure-cli/issues/22232 and 28242, in github.com/nforgeio/neonKUBE/issues/1670, and on
Microsoft's page about RequestDisallowedByPolicy. The ids are ours.
"""

import json
from typing import Final

from pullkeeper import errors
from pullkeeper.errors import PullkeeperError
from tests.core.answers import Answer

CLUSTER: Final = (
    "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/rg/providers"
    "/Microsoft.ContainerService/managedClusters/aks-1"
)
GROUP: Final = CLUSTER.partition("/providers")[0]
WORKSPACE: Final = (
    "/subscriptions/11111111-1dda-4dda-aec3-cb9272f09590/resourcegroups/logs/providers"
    "/Microsoft.OperationalInsights/workspaces/central"
)
SHARED_KEYS: Final = "Microsoft.OperationalInsights/workspaces/sharedkeys/read"
ASSIGNMENT: Final = "/subscriptions/0b1f6471/providers/Microsoft.Authorization/policyAssignments/5712913d"
_CLIENT: Final = "5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b"
_LINKED: Final = (
    f"The client '{_CLIENT}' with object id '{_CLIENT}' has permission to perform action "
    f"'Microsoft.ContainerService/managedClusters/write' on scope '{CLUSTER}'; however, it does not have permission to "
    f"perform action(s) '{SHARED_KEYS}' on the linked scope(s) '{WORKSPACE}' (respectively) or the linked scope(s) are "
    "invalid."
)
_POLICIES: Final = json.dumps(
    [
        {
            "policyAssignment": {"name": "Require a tag", "id": ASSIGNMENT},
            "policyDefinition": {
                "name": "Require a tag",
                "id": "/providers/Microsoft.Authorization/policyDefinitions/x",
            },
        }
    ],
    separators=(",", ":"),
)


def _arm(case: str, status: int, code: str, message: str, kind: type[PullkeeperError]) -> Answer:
    return Answer(case, status, json.dumps({"error": {"code": code, "message": message}}), kind)


ANSWERS: Final = {
    _arm(
        "a right at a linked resource is missing",
        403,
        "LinkedAuthorizationFailed",
        _LINKED,
        errors.LinkedRightMissing,
    ): f"with {SHARED_KEYS}>' --scope {WORKSPACE}.",
    _arm(
        "the same, in an older wording",
        403,
        "LinkedAuthorizationFailed",
        _LINKED.replace("action(s)", "action").replace(" (respectively)", ""),
        errors.LinkedRightMissing,
    ): f"with {SHARED_KEYS}>' --scope {WORKSPACE}.",
    _arm(
        "several rights at several resources",
        403,
        "LinkedAuthorizationFailed",
        _LINKED.replace(SHARED_KEYS, f"{SHARED_KEYS},Microsoft.Network/x/action").replace(WORKSPACE, f"{WORKSPACE},/x"),
        errors.LinkedRightMissing,
    ): f"with {SHARED_KEYS}>' --scope {WORKSPACE}.",
    _arm(
        "another tenant",
        403,
        "LinkedAuthorizationFailed",
        f"The client has permission to perform action 'Microsoft.Network/virtualNetworks/subnets/join/action' on scope "
        f"'{CLUSTER}', however the current tenant '{_CLIENT}' is not authorized to access linked subscription 'x'.",
        errors.LinkedRightMissing,
    ): "with <linked_action>>' --scope <linked_scope>.",
    _arm(
        "a lock",
        409,
        "ScopeLocked",
        f"The scope '{CLUSTER}' cannot perform write operation because following scope(s) are locked: '{GROUP}'. "
        "Please remove the lock and try again.",
        errors.ScopeLocked,
    ): f"--url '{GROUP}/providers/Microsoft.Authorization/locks?",
    _arm(
        "a namespace that is not registered",
        409,
        "MissingSubscriptionRegistration",
        "The subscription is not registered to use namespace 'Microsoft.ManagedIdentity'. See "
        "https://aka.ms/rps-not-found for how to register subscriptions.",
        errors.ProviderNotRegistered,
    ): "--subscription 0b1f6471-1bf0-4dda-aec3-cb9272f09590 --namespace Microsoft.ManagedIdentity --wait",
    _arm(
        "a policy",
        403,
        "RequestDisallowedByPolicy",
        f"Resource 'id-1' was disallowed by policy. Policy identifiers: '{_POLICIES}'.",
        errors.PolicyDenied,
    ): f"--policy-assignment {ASSIGNMENT} --scope {GROUP}",
}
"""With a part of each remedy that only the message's names can fill."""

_PENDING: Final = (
    "Operation is not allowed: Another operation (Upgrading) is in progress, please wait for it to finish before "
    "starting a new operation. See https://aka.ms/aks-pending-operation for more details"
)
TEMPORARY: Final = (
    _arm("another client was quicker", 409, "Conflict", "The resource is busy.", errors.ArmConflict),
    _arm("another ETag", 412, "PreconditionFailed", "Etag mismatch.", errors.ArmConflict),
    _arm("a quota of the subscription", 429, "SubscriptionRequestsThrottled", "Too many.", errors.ArmThrottled),
    _arm("throttled by its code", 409, "TooManyRequests", "The request is being throttled.", errors.ArmThrottled),
    # AKS puts no "error" around its own.
    Answer(
        "a change is under way",
        409,
        json.dumps({"code": "OperationNotAllowed", "details": None, "message": _PENDING, "subcode": ""}),
        errors.ClusterChanging,
    ),
)
"""Refusals that pass, known by their status where the code says nothing."""
