"""Reading, writing and deleting objects, with the checks in the real server's order: callers see which fails first."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from local.kubernetes import defaults, ownership, patches, validation
from local.kubernetes.authorization import Rbac
from local.kubernetes.bootstrap import INITIAL_NAMESPACES
from local.kubernetes.calls import Call, Json
from local.kubernetes.kinds import NAMESPACES
from local.kubernetes.ownership import BEFORE_FIRST_APPLY, OwnershipConflict, stamp
from local.kubernetes.pages import Pages
from local.kubernetes.recordings import load
from local.kubernetes.refusals import Refusal, not_played
from local.kubernetes.store import Store, copy_json

_PATCHABLE: Final = {"labels", "annotations", "managedFields", "resourceVersion"}


class Objects:
    """Each method raises Refusal."""

    def __init__(self, store: Store, clock: Callable[[], datetime], rbac: Rbac) -> None:
        self._store = store
        self._clock = clock
        self._rbac = rbac
        self._pages = Pages(clock)

    def get(self, call: Call) -> Json:
        found = self._store.get(call.kind, call.namespace, call.name)
        if found is None:
            raise call.refuse("not-found")
        return found

    def list(self, call: Call) -> Json:
        stored = self._store.view(call.kind, call.namespace or None)
        found, meta = self._pages.cut(call, map(copy_json, stored), self._store.revision)
        if call.metadata_only:
            named = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
            items = [{**named, "metadata": item["metadata"]} for item in found]
            # The real server's encoder writes null here for an empty list.
            return {**named, "kind": "PartialObjectMetadataList", "metadata": meta, "items": items or None}
        items = [{name: item[name] for name in item if name not in {"apiVersion", "kind"}} for item in found]
        kind = call.kind
        return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta, "items": items}

    def create(self, call: Call, body: Any) -> Json:
        """POST."""
        validation.check_body(call, body)
        name = (body.get("metadata") or {}).get("name")
        if not name:
            raise not_played("an object without a name")
        call = call.with_name(name)
        made = self._complete(call, body)
        live = defaults.skeleton(call.kind)
        shares = ownership.update(call.kind, call.manager, live, made, {}, now=self._clock())
        self._check_namespace(call)
        return self._create(call, made, shares)

    def apply(self, call: Call, body: Any) -> tuple[Json, bool]:
        """Server-side apply: the object, and whether it is new."""
        validation.check_body(call, body)
        kind, now = call.kind, self._clock()
        old = self._store.get(kind, call.namespace, call.name)
        live = copy_json(old) if old else defaults.skeleton(kind)
        shares = ownership.read(live["metadata"].pop("managedFields", None))
        if old and not shares:
            shares = ownership.update(kind, BEFORE_FIRST_APPLY, defaults.skeleton(kind), live, {}, now=now)
        try:
            made, shares = ownership.apply(kind, call.manager, live, body, shares, forced=call.forced, now=now)
        except OwnershipConflict as conflict:
            raise _conflict(call, conflict) from None
        if old is None:
            if "uid" in body["metadata"]:
                raise call.refuse("apply-uid-of-nothing", uid=body["metadata"]["uid"])
            self._check_namespace(call)
            return self._create(call, self._complete(call, made), shares), True
        return self._update(call, self._complete(call, made) if made != live else made, shares, old), False

    def patch(self, call: Call, patch: Any) -> Json:
        """A JSON patch or a merge patch."""
        old = self.get(call)
        made = patches.apply(call, old, patch)
        validation.check_types(call.kind, made)
        _check_patched(made, old)
        revision = made["metadata"].get("resourceVersion")
        made = self._complete(call, made)
        live, given = copy_json(old), made["metadata"].pop("managedFields", None)
        before = live["metadata"].pop("managedFields", None)
        if revision != old["metadata"]["resourceVersion"]:
            raise call.refuse("modified")
        try:
            # A caller may rewrite the entries; an empty list forgets them all.
            shares = {} if given == [] else ownership.read(given) or ownership.read(before)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise not_played("these managedFields") from None
        if shares:
            shares = ownership.update(call.kind, call.manager, live, made, shares, now=self._clock())
        return self._update(call, made, shares, old)

    def delete(self, call: Call, options: Any) -> Json:
        """The deleted object, or a Status that it is gone. options: DeleteOptions or {}."""
        uid, dry_run = _delete_options(options)
        old = self._store.get(call.kind, call.namespace, call.name)
        if call.kind is NAMESPACES and call.name in INITIAL_NAMESPACES:
            raise not_played("the end of a namespace that the cluster has from the start")
        if old is None:
            raise call.refuse("not-found")
        meta = old["metadata"]
        if uid not in ("", meta["uid"]):
            raise call.refuse("delete-uid", uid=uid, other_uid=meta["uid"])
        if meta.get("finalizers"):
            raise not_played("the end of an object with finalizers")
        if call.kind is NAMESPACES:
            # It ends once a controller has emptied it, and there is none.
            meta.setdefault("deletionTimestamp", stamp(self._clock()))
            old["status"] = {"phase": "Terminating"}
            return old if dry_run else self._store.put(call.kind, old)
        if not dry_run:
            self._store.delete(call.kind, call.namespace, call.name)
        if call.kind.returns_deleted:
            return old
        deleted: Json = load("deleted").fill({**call.values, "uid": meta["uid"]}).body
        return deleted

    def end_namespaces(self) -> None:
        """Do what the namespace controller does: empty the namespaces that are terminating, and remove them."""
        for namespace in [*self._store.view(NAMESPACES)]:
            if namespace["status"]["phase"] == "Terminating":
                self._store.delete_namespace(namespace["metadata"]["name"])
                self._store.delete(NAMESPACES, "", namespace["metadata"]["name"])

    def _create(self, call: Call, made: Json, shares: ownership.Shares) -> Json:
        self._rbac.check_grant(call, made, None)
        meta = made["metadata"]
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": stamp(self._clock())}
        if call.kind is NAMESPACES:
            made |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        validation.check_object(call, made, None)
        if call.verb == "apply":
            self._rbac.check(call, verb="create")
        if self._store.get(call.kind, call.namespace, call.name) is not None:
            raise call.refuse("already-exists")
        meta["managedFields"] = ownership.encode(shares)
        if not shares:
            del meta["managedFields"]
        return made if call.dry_run else self._store.put(call.kind, made)

    def _update(self, call: Call, made: Json, shares: ownership.Shares, old: Json) -> Json:
        self._rbac.check_grant(call, made, old)
        if shares:
            made["metadata"]["managedFields"] = ownership.encode(shares)
        made |= {name: copy_json(old[name]) for name in ("status",) if name in old}
        if call.kind is NAMESPACES:
            made["spec"] = copy_json(old["spec"])
        validation.check_object(call, made, old)
        if _without_times(made) == _without_times(old):
            return old
        return made if call.dry_run else self._store.put(call.kind, made)

    def _complete(self, call: Call, body: Json) -> Json:
        meta = {**(body.get("metadata") or {}), "name": call.name}
        if call.namespace:
            meta["namespace"] = call.namespace
        return defaults.fill(call.kind, {**body, "metadata": meta})

    def _check_namespace(self, call: Call) -> None:
        """Nothing is created in a namespace that is missing or terminating."""
        if not call.kind.namespaced:
            return
        namespace = self._store.get(NAMESPACES, "", call.namespace)
        if namespace is None:
            raise call.refuse("namespace-missing")
        if namespace["status"]["phase"] == "Terminating":
            raise call.refuse("namespace-terminating")


def _check_patched(made: Json, old: Json) -> None:
    """A patch may change labels, annotations, the record of owners, and content; nothing that only the server sets."""
    new, before = made.get("metadata", {}), old["metadata"]
    changed = {name for name in new.keys() | before.keys() if new.get(name) != before.get(name)}
    fixed = ("apiVersion", "kind", "status")
    if not changed <= _PATCHABLE or any(made.get(name) != old.get(name) for name in fixed):
        raise not_played(f"a patch of {sorted(changed - _PATCHABLE) or fixed}")
    if not new.get("resourceVersion", "").isdecimal():
        raise not_played("a patch of the resourceVersion")


def _delete_options(options: Any) -> tuple[str, bool]:
    """The uid that the object has to have ("": any), and whether it is a dry run."""
    match options:
        case {"preconditions": {"uid": str(uid), **more}, **others} if not more:
            pass
        case {**others} if "preconditions" not in others:
            uid = ""
        case _:
            raise not_played(f"the options {options} of a delete")
    dry_run = others.pop("dryRun", [])
    if dry_run not in ([], ["All"]) or not others.keys() <= {"apiVersion", "kind"}:
        raise not_played(f"the options {options} of a delete")
    return uid, bool(dry_run)


def _conflict(call: Call, conflict: OwnershipConflict) -> Refusal:
    """One cause for each field. The message lists the fields by writer where there are several."""
    found = [{"writer": writer.render(), "path": path} for writer, path in conflict.conflicts]
    if len(found) == 1:
        return call.refuse("apply-conflict", **found[0])
    lines = []
    for writer in sorted({one["writer"] for one in found}):
        lines += [f"conflicts with {writer}:", *(f"- {one['path']}" for one in found if one["writer"] == writer)]
    each = [load("apply-conflict").fill(one).body for one in found]
    body = {
        **each[0],
        "message": f"Apply failed with {len(found)} conflicts: " + "\n".join(lines),
        "details": {"causes": [cause for one in each for cause in one["details"]["causes"]]},
    }
    return Refusal(replace(load("apply-conflict"), body=body))


def _without_times(body: Json) -> Json:
    """The times in managedFields alone are no change."""
    entries = [
        {name: value for name, value in entry.items() if name != "time"}
        for entry in body["metadata"].get("managedFields", ())
    ]
    return body | {"metadata": body["metadata"] | {"managedFields": entries}}
