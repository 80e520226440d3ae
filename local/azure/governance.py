"""What refuses a change in Azure although the caller has the role: namespaces that are not registered, locks, policies.

Locks: learn.microsoft.com/azure/azure-resource-manager/management/lock-resources. A lock counts for all resources below
its scope, so one on an identity also keeps its federated credentials (github.com/Azure/azure-cli/issues/28242). Bodies:
those quoted there, in github.com/nforgeio/neonKUBE/issues/1670 and in Microsoft's page on RequestDisallowedByPolicy.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal

from local.azure.routing import ResourcePath, arm_error
from local.serving import Refusal

Level = Literal["CanNotDelete", "ReadOnly"]
_READ: Final = frozenset({"GET", "HEAD"})


class Governance:
    """locks: level by scope. unregistered: resource provider namespaces. required_tags: tags that a policy in mode
    Indexed (a built-in one) requires of every resource that can have tags.
    """

    def __init__(self) -> None:
        self.locks: dict[str, Level] = {}
        self.unregistered: set[str] = set()
        self.required_tags: set[str] = set()

    def check(self, method: str, path: ResourcePath, body: Mapping[str, Any]) -> None:
        """Raise a Refusal for a request that is not allowed. Called once the caller is authorized."""
        if path.namespace.lower() in {name.lower() for name in self.unregistered}:
            raise _refuse_unregistered(path.namespace)
        self._check_locks(method, path)
        if method == "PUT" and len(path.types) == 1:
            tags = {str(name).lower() for name in body.get("tags") or {}}
            missing = [tag for tag in sorted(self.required_tags) if tag.lower() not in tags]
            if missing:
                raise _refuse_disallowed(path)

    def _check_locks(self, method: str, path: ResourcePath) -> None:
        """ReadOnly refuses a POST too: listing a cluster's credentials counts as a write."""
        refusing = {"CanNotDelete", "ReadOnly"} if method == "DELETE" else {"ReadOnly"}
        for scope, level in self.locks.items():
            covered = f"{path.scope}/".lower().startswith(f"{scope.rstrip('/')}/".lower())
            if method not in _READ and covered and level in refusing:
                verb = "delete" if method == "DELETE" else "write"
                raise arm_error(
                    409,
                    "ScopeLocked",
                    f"The scope '{path.scope}' cannot perform {verb} operation because following scope(s) are locked: "
                    f"'{scope}'. Please remove the lock and try again.",
                )


def _refuse_unregistered(namespace: str) -> Refusal:
    return arm_error(
        409,
        "MissingSubscriptionRegistration",
        f"The subscription is not registered to use namespace '{namespace}'. See https://aka.ms/rps-not-found for how "
        "to register subscriptions.",
    )


def _refuse_disallowed(path: ResourcePath) -> Refusal:
    name = "Require a tag on resources"
    authorization = "providers/Microsoft.Authorization"
    assignment = f"/subscriptions/{path.subscription}/{authorization}/policyAssignments/require-tag"
    definition = f"/{authorization}/policyDefinitions/{uuid.UUID(int=0x7A6)}"
    policies = [
        {"policyAssignment": {"name": name, "id": assignment}, "policyDefinition": {"name": name, "id": definition}}
    ]
    listed = json.dumps(policies, separators=(",", ":"))
    message = f"Resource '{path.names[-1]}' was disallowed by policy. Policy identifiers: '{listed}'."
    return arm_error(403, "RequestDisallowedByPolicy", message)
