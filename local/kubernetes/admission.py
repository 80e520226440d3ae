"""What may not be written although RBAC allows it: the plugins of the real server, in its order."""

from collections.abc import Mapping
from typing import Any

from local.kubernetes import podsecurity, policies, quota, status, webhooks
from local.kubernetes.calls import Call, Question
from local.kubernetes.kinds import named
from local.kubernetes.store import Store

Json = dict[str, Any]

IMMORTAL = ("default", "kube-system", "kube-public")
_SUPPORTED = {
    "ResourceQuota": quota.check_supported,
    "ValidatingWebhookConfiguration": webhooks.check_supported,
    "ValidatingAdmissionPolicy": policies.check_supported,
    "ValidatingAdmissionPolicyBinding": policies.check_supported,
}


class Admission:
    """Each method raises ApiError for what it does not admit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit_create(self, call: Call, body: Mapping[str, Any]) -> None:
        """Before validation. Nothing is created in a namespace that is not there or is going: 404, 403."""
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
        """After validation."""
        self._check_supported(call, body)
        podsecurity.check(self._store, Question(call, "CREATE", body, None))
        await self._ask(Question(call, "CREATE", body, None))
        quota.check(self._store, call, body)

    async def check_update(self, call: Call, body: Json, old: Json) -> None:
        """After validation."""
        self._check_supported(call, body)
        podsecurity.check(self._store, Question(call, "UPDATE", body, old))
        await self._ask(Question(call, "UPDATE", body, old))

    def admit_delete(self, call: Call) -> None:
        if call.kind.name == "Namespace" and call.attributes.name in IMMORTAL:
            raise status.forbidden("namespaces", call.attributes.name, "this namespace may not be deleted")

    async def check_delete(self, call: Call, old: Json) -> None:
        await self._ask(Question(call, "DELETE", None, old))

    def created(self, call: Call) -> None:
        """Keeps the books of what has been created."""
        quota.count(self._store, call)

    async def _ask(self, question: Question) -> None:
        policies.check(self._store, question)
        await webhooks.check(self._store, question)

    def _check_supported(self, call: Call, body: Json) -> None:
        """A stand-in that stored a rule and did not keep it would be laxer than the real server."""
        check = _SUPPORTED.get(call.kind.name)
        if check:
            check(body)
