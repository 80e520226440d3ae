"""What may be written although RBAC allows it: namespaces that exist and live, and what policies say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.kubernetes import status
from local.kubernetes.authn import User
from local.kubernetes.kinds import Kind, named
from local.kubernetes.options import Options
from local.kubernetes.routing import Attributes
from local.kubernetes.store import Store

Json = dict[str, Any]

IMMORTAL = ("default", "kube-system", "kube-public")


@dataclass(slots=True)
class Call:
    """One request that writes, with everything that decides about it. Warnings gather here."""

    user: User
    attributes: Attributes
    kind: Kind
    options: Options
    warnings: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.attributes.namespace if self.kind.namespaced else ""


class Lifecycle:
    """Nothing is created in a namespace that is not there or is going."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit_create(self, call: Call, body: Mapping[str, Any]) -> None:
        """Raises ApiError 404 or 403."""
        if not call.kind.namespaced:
            return
        namespace = self._store.get(named("namespaces"), "", call.namespace)
        if namespace is None:
            raise status.not_found("namespaces", call.namespace)
        if namespace.get("status", {}).get("phase") == "Terminating":
            cause = status.Cause(
                "NamespaceTerminating", f"namespace {call.namespace} is being terminated", "metadata.namespace"
            )
            why = f"unable to create new content in namespace {call.namespace} because it is being terminated"
            name = body["metadata"].get("name", "")
            raise status.forbidden(call.kind.plural, name, why, call.kind.group, [cause])

    def admit_delete(self, call: Call) -> None:
        """Raises ApiError 403."""
        if call.kind.name == "Namespace" and call.attributes.name in IMMORTAL:
            raise status.forbidden("namespaces", call.attributes.name, "this namespace may not be deleted")
