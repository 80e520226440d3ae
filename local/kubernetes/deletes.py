"""Deleting objects, and the end of namespaces. Nothing runs here that would remove a finalizer by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.kubernetes import bodies, status
from local.kubernetes.admission import Admission
from local.kubernetes.calls import Call
from local.kubernetes.kinds import Kind
from local.kubernetes.ownership import stamp
from local.kubernetes.store import Store, copied

Json = dict[str, Any]

_POLICIES = ("Foreground", "Background", "Orphan")
_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)
_HOLDERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the body of a DELETE asks for."""

    uid: str = ""
    revision: str = ""
    policy: str = ""
    dry_run: bool = False


def conditions(text: bytes, policy: str) -> Conditions:
    """`policy` is the query's, which counts where the body says nothing. Raises ApiError 400 or 422."""
    try:
        found = bodies.of_json(text, "v1.DeleteOptions").value if text else {}
    except bodies.BodyError as error:
        raise status.bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    asked = found.get("preconditions") or {}
    policy = found.get("propagationPolicy") or policy
    causes = []
    if policy and policy not in _POLICIES:
        causes.append(status.unsupported("propagationPolicy", f'"{policy}"', [*_POLICIES, "nil"]))
    if any(value != "All" for value in found.get("dryRun") or ()):
        causes.append(status.unsupported("dryRun", "[]string{...}", ["All"]))
    if causes:
        raise status.invalid("DeleteOptions", "", causes, "meta.k8s.io")
    return Conditions(asked.get("uid", ""), asked.get("resourceVersion", ""), policy, bool(found.get("dryRun")))


class Deletes:
    def __init__(self, store: Store, clock: Callable[[], datetime], admission: Admission) -> None:
        self._store = store
        self._clock = clock
        self._admission = admission

    async def delete(self, call: Call, asked: Conditions) -> Json:
        """The answer of a DELETE. Raises ApiError 404, 403 or, for preconditions, 409."""
        kind, name = call.kind, call.attributes.name
        old = self._store.get(kind, call.namespace, name)
        self._admission.admit_delete(call)
        if old is None:
            raise status.not_found(*call.named)
        _hold_against(kind, old, asked)
        await self._admission.check_delete(call, old)
        return self._remove(call, old, asked)

    async def delete_all(self, call: Call, matching: list[Json]) -> None:
        for body in matching:
            await self._admission.check_delete(call, body)
            self._remove(call, copied(body), Conditions())

    def finalize(self, call: Call, body: Json) -> Json:
        """PUT .../namespaces/x/finalize: only the spec's finalizers count; the last one gone, the namespace goes."""
        name = call.attributes.name
        old = self._store.get(call.kind, "", name)
        if old is None:
            raise status.not_found(*call.named)
        finalizers = body.get("spec", {}).get("finalizers")
        old["spec"] = {"finalizers": finalizers} if finalizers else {}
        if old["metadata"].get("deletionTimestamp") and not finalizers:
            self._store.delete(call.kind, "", name)
            return old
        return self._store.put(call.kind, old)

    def _remove(self, call: Call, old: Json, asked: Conditions) -> Json:
        kind, meta, policy = call.kind, old["metadata"], asked.policy
        if kind.name == "Job" and not policy:
            policy = "Orphan"
            call.warnings.append(_ORPHANS)
        dry_run = call.options.dry_run or asked.dry_run
        holder = _HOLDERS.get(policy)
        if holder and holder not in meta.get("finalizers", ()):
            meta["finalizers"] = [*meta.get("finalizers", ()), holder]
        if kind.name == "Namespace" or meta.get("finalizers"):
            self._doom(kind, old)
            return old if dry_run else self._store.put(kind, old)
        if not dry_run:
            self._store.delete(kind, meta.get("namespace", ""), meta["name"])
            meta["resourceVersion"] = self._store.revision
        if kind.name == "Pod":  # nothing runs in it, so it goes at once
            self._doom(kind, old)
        return old if kind.returns_deleted else _deleted(kind, meta)

    def _doom(self, kind: Kind, old: Json) -> None:
        """Marks what has finalizers: it stays until they are gone."""
        meta = old["metadata"]
        if not meta.get("deletionTimestamp"):
            meta["deletionTimestamp"] = stamp(self._clock())
            if "generation" in meta:
                meta["generation"] += 1
            if kind.name == "Namespace":
                old["status"] = {"phase": "Terminating"}
            else:
                meta["deletionGracePeriodSeconds"] = 0


def _hold_against(kind: Kind, old: Json, asked: Conditions) -> None:
    meta, about = old["metadata"], (kind.name, old["metadata"]["name"], kind.group)
    if asked.uid and asked.uid != meta["uid"]:
        why = "The object might have been deleted and then recreated"
        said = f"the UID in the precondition ({asked.uid}) does not match the UID in record ({meta['uid']}). {why}"
        raise status.conflict(*about, said)
    if asked.revision and asked.revision != meta["resourceVersion"]:
        found = f"the ResourceVersion in record ({meta['resourceVersion']}). The object might have been modified"
        said = f"the ResourceVersion in the precondition ({asked.revision}) does not match {found}"
        raise status.conflict(*about, said)


def _deleted(kind: Kind, meta: Json) -> Json:
    details = {"name": meta["name"], "group": kind.group, "kind": kind.plural, "uid": meta["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {name: text for name, text in details.items() if text},
    }
