"""What may be written although RBAC allows it. Plugins in the real server's order; each may refuse with an ApiError."""

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

    @property
    def named(self) -> tuple[str, str, str]:
        """The object as refusals name it: resource, name, group."""
        return self.kind.plural, self.attributes.name, self.kind.group

    def judge(self, found: list[str]) -> None:
        """What a strict decoder found becomes a refusal, warnings, or nothing. Raises ApiError 400."""
        if found and self.options.strict:
            name = self.kind.name
            said = f"strict decoding error: {', '.join(found)}"
            raise status.bad_request(f'{name} in version "v1" cannot be handled as a {name}: {said}')
        if self.options.validation == "Warn":
            self.warnings += found


class Admission:
    def __init__(self, store: Store) -> None:
        self._store = store

    def admit_create(self, call: Call, body: Mapping[str, Any]) -> None:
        """Before validation. Nothing is created in a namespace that is not there or is going. Raises ApiError."""
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

    async def check_create(self, call: Call, body: Json) -> None:
        """After validation. Raises ApiError."""

    async def check_update(self, call: Call, body: Json, old: Json) -> None:
        """After validation. Raises ApiError."""

    def admit_delete(self, call: Call) -> None:
        """Raises ApiError 403."""
        if call.kind.name == "Namespace" and call.attributes.name in IMMORTAL:
            raise status.forbidden("namespaces", call.attributes.name, "this namespace may not be deleted")

    async def check_delete(self, call: Call, old: Json) -> None:
        """Raises ApiError."""

    def created(self, call: Call) -> None:
        """Keeps the books of what has been created."""
