"""Creating, changing and deleting objects. The order of checks is the real server's: callers see which fails first."""

import copy
import random
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from local.clock import Clock
from local.kubernetes import conformity, decode, defaults, ownership, status, validation
from local.kubernetes.admission import Call, Lifecycle
from local.kubernetes.authz import Rbac
from local.kubernetes.kinds import Kind
from local.kubernetes.ownership import Shares, Write, Writer
from local.kubernetes.store import Store

Json = dict[str, Any]
Change = Callable[[Json | None], Json]

_SYSTEM_META = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "resourceVersion",
)
_RANDOM_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class Writes:
    def __init__(self, store: Store, clock: Clock, rbac: Rbac) -> None:
        self._store = store
        self._clock = clock
        self._rbac = rbac
        self._lifecycle = Lifecycle(store)

    # What is asked

    async def create(self, call: Call, body: Json) -> Json:
        """POST. Raises ApiError."""
        made = self._decoded(call, body)
        meta = made["metadata"]
        for name in _SYSTEM_META:
            meta.pop(name, None)
        _fit_namespace(call, meta)
        made = self._owned_by_update(call, {}, made)
        return await self._create(call, made, checked=True)

    async def update(self, call: Call, body: Json) -> tuple[Json, bool]:
        """PUT: the object, and whether it is new. Raises ApiError."""
        made = self._decoded(call, body)
        _fit_namespace(call, made["metadata"])
        _check_name(call, made)
        uid = made["metadata"].get("uid")

        def change(old: Json | None) -> Json:
            if old and uid and uid != old["metadata"]["uid"]:
                said = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
                raise self._conflict(call, said)
            return self._owned_by_update(call, old or {}, copy.deepcopy(made))

        return await self._change(call, change, may_create=call.kind.creates_on_update)

    async def apply(self, call: Call, body: Json) -> tuple[Json, bool]:
        """Server-side apply: the object, and whether it is new. Raises ApiError."""

        def change(old: Json | None) -> Json:
            made = self._applied(call, old, body)
            if old is None and made["metadata"].get("uid"):
                uid = made["metadata"]["uid"]
                said = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise self._conflict(call, said)
            _fit_namespace(call, made["metadata"])
            _check_name(call, made)
            return made

        return await self._change(call, change, may_create=True)

    async def patch(self, call: Call, patched: Callable[[Json], Json]) -> Json:
        """A JSON, merge or strategic merge patch; `patched` makes the new object from the old. Raises ApiError."""

        def change(old: Json | None) -> Json:
            old = old or {}
            made = defaults.fill(call.kind, patched(old))
            _fit_namespace(call, made["metadata"])
            _check_name(call, made)
            return self._owned_by_update(call, old, made)

        return (await self._change(call, change, may_create=False))[0]

    def delete(self, call: Call, uid: str = "", revision: str = "") -> Json:
        """The answer of a DELETE. Raises ApiError 404, 403 or, for preconditions, 409."""
        self._lifecycle.admit_delete(call)
        kind, name = call.kind, call.attributes.name
        old = self._store.get(kind, call.namespace, name)
        if old is None:
            raise status.not_found(kind.plural, name, kind.group)
        meta = old["metadata"]
        for label, asked, found in (("UID", uid, meta["uid"]), ("ResourceVersion", revision, meta["resourceVersion"])):
            if asked and asked != found:
                said = f"Precondition failed: {label} in precondition: {asked}, {label} in object meta: {found}"
                raise self._conflict(call, said)
        if kind.name == "Namespace" or meta.get("finalizers"):
            return self._doom(call, old)
        if not call.options.dry_run:
            self._store.delete(kind, call.namespace, name)
        if kind.returns_deleted:
            return old
        return _deleted(kind, old)

    def finalize(self, call: Call, body: Json) -> Json:
        """PUT .../namespaces/x/finalize: only the spec's finalizers count; the last one gone, the namespace goes."""
        old = self._store.get(call.kind, "", call.attributes.name)
        if old is None:
            raise status.not_found("namespaces", call.attributes.name)
        old["spec"] = {"finalizers": body.get("spec", {}).get("finalizers") or []}
        if old["metadata"].get("deletionTimestamp") and not old["spec"]["finalizers"]:
            self._store.delete(call.kind, "", call.attributes.name)
            return old
        return self._store.put(call.kind, old)

    # How it is done

    def _decoded(self, call: Call, body: Json) -> Json:
        findings = decode.Findings()
        made = decode.convert_written(call.kind, body, findings)
        if findings.unknown and call.options.validation == "Strict":
            raise decode.unhandled(call.kind, f"strict decoding error: {findings.render()}")
        if call.options.validation == "Warn":
            call.warnings += [f'unknown field "{path}"' for path in findings.unknown]
        return defaults.fill(call.kind, made)

    def _applied(self, call: Call, old: Json | None, body: Json) -> Json:
        kind, options = call.kind, call.options
        if (body.get("apiVersion"), body.get("kind")) != (kind.api_version, kind.name):
            raise status.bad_request(f"invalid object type: {_gvk_of(body)}")
        if (body.get("metadata") or {}).get("managedFields") is not None:
            raise status.bad_request("metadata.managedFields must be nil")
        conformity.check(kind, body)
        live = copy.deepcopy(old) if old else defaults.skeleton(kind)
        shares = ownership.read(live["metadata"].pop("managedFields", None))
        write = Write(kind.type, Writer(options.manager, "Apply", kind.api_version), kind.unowned)
        now = self._clock()
        if old and not shares:
            first = replace(write, writer=Writer(ownership.BEFORE_FIRST_APPLY, "Update", kind.api_version))
            shares = ownership.update(first, defaults.skeleton(kind), live, {}, now)
        merged, shares = ownership.apply(write, live, body, shares, force=options.force, now=now)
        if merged != live:
            merged = defaults.fill(kind, decode.convert_applied(kind, merged))
        return _with_shares(merged, shares)

    def _owned_by_update(self, call: Call, old: Json, made: Json) -> Json:
        """Notes in managedFields what this write changes; objects that never had an owner stay without."""
        kind = call.kind
        live = copy.deepcopy(old) or defaults.skeleton(kind)
        before = live["metadata"].pop("managedFields", None)
        given = made["metadata"].pop("managedFields", None)
        try:
            shares = ownership.read(given) if given != [{}] else {}
            if given != [{}]:
                shares = shares or ownership.read(before)
        except ValueError:
            shares = ownership.read(before)
        if old and not shares:
            return made
        write = Write(kind.type, Writer(call.options.manager, "Update", kind.api_version), kind.unowned)
        return _with_shares(made, ownership.update(write, live, made, shares, self._clock()))

    async def _change(self, call: Call, change: Change, *, may_create: bool) -> tuple[Json, bool]:
        """Until nobody else changed the object while admission was asked."""
        kind, name = call.kind, call.attributes.name
        while True:
            old = self._store.get(kind, call.namespace, name)
            if old is None:
                if not may_create:
                    raise status.not_found(kind.plural, name, kind.group)
                made = change(None)
                for field in _SYSTEM_META:
                    made["metadata"].pop(field, None)
                return await self._create(call, made, checked=False), True
            made = change(old)
            revision = old["metadata"]["resourceVersion"]
            if made["metadata"].setdefault("resourceVersion", revision) != revision:
                raise self._conflict(call)
            self._prepare_update(call, made, old)
            validation.check_update(kind, made, old)
            now = self._store.get(kind, call.namespace, name)
            if now is not None and now["metadata"]["resourceVersion"] == revision:
                return self._keep(call, made, old), False

    async def _create(self, call: Call, made: Json, *, checked: bool) -> Json:
        """`checked`: RBAC has allowed `create` already. An apply or PUT is only asked now, and by name."""
        kind, meta = call.kind, made["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(random.choices(_RANDOM_LETTERS, k=5))  # noqa: S311 - a name
        self._lifecycle.admit_create(call, made)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = ownership.stamp(self._clock())
        defaults.prepare_create(kind, made)
        validation.check_create(kind, made)
        if not checked:
            self._rbac.check(call.user, replace(call.attributes, verb="create", name=meta["name"]))
        if self._store.get(kind, call.namespace, meta["name"]) is not None:
            raise status.already_exists(kind.plural, meta["name"], kind.group)
        if call.options.dry_run:
            return made
        return self._store.put(kind, made)

    def _prepare_update(self, call: Call, made: Json, old: Json) -> None:
        kind, meta, before = call.kind, made["metadata"], old["metadata"]
        for field in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            meta.pop(field, None)
            if field in before:
                meta[field] = before[field]
        meta.setdefault("uid", before["uid"])
        defaults.prepare_update(kind, made, old)
        if kind.generation and _without_meta(made) != _without_meta(old):
            meta["generation"] = before.get("generation", 1) + 1

    def _keep(self, call: Call, made: Json, old: Json) -> Json:
        if _untimed(made) == _untimed(old):
            return old
        if call.options.dry_run:
            return made
        doomed = old["metadata"].get("deletionTimestamp") and call.kind.name != "Namespace"
        if doomed and not made["metadata"].get("finalizers"):
            self._store.delete(call.kind, call.namespace, call.attributes.name)
            return made
        return self._store.put(call.kind, made)

    def _doom(self, call: Call, old: Json) -> Json:
        """What has finalizers is marked and stays until they are gone; without controllers nobody removes them."""
        if not old["metadata"].get("deletionTimestamp"):
            old["metadata"]["deletionTimestamp"] = ownership.stamp(self._clock())
            if call.kind.name == "Namespace":
                old["status"] = {"phase": "Terminating"}
            else:
                old["metadata"]["deletionGracePeriodSeconds"] = 0
        return old if call.options.dry_run else self._store.put(call.kind, old)

    def _conflict(self, call: Call, why: str = status.REFUSED_FOR) -> status.ApiError:
        return status.conflict(call.kind.plural, call.attributes.name, call.kind.group, why)


def _fit_namespace(call: Call, meta: Json) -> None:
    wanted, found = call.namespace, meta.get("namespace", "")
    if found and wanted and found != wanted:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    meta.pop("namespace", None)
    if wanted:
        meta["namespace"] = wanted


def _check_name(call: Call, body: Json) -> None:
    found, wanted = body["metadata"].get("name", ""), call.attributes.name
    if not found:
        why = "name must be provided"
        raise status.bad_request(f"the name of the object ({wanted} based on URL) was undeterminable: {why}")
    if found != wanted:
        raise status.bad_request(f"the name of the object ({found}) does not match the name on the URL ({wanted})")


def _gvk_of(body: Json) -> str:
    group, _, version = str(body.get("apiVersion") or "").rpartition("/")
    return f"{group}/{version}, Kind={body.get('kind') or ''}"


def _with_shares(body: Json, shares: Shares) -> Json:
    if shares:
        body["metadata"]["managedFields"] = ownership.written(shares)
    else:
        body["metadata"].pop("managedFields", None)
    return body


def _without_meta(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in ("metadata", "status")}


def _untimed(body: Json) -> Json:
    """An object without the times in managedFields, which alone are no change."""
    entries = [
        {name: value for name, value in entry.items() if name != "time"}
        for entry in body["metadata"].get("managedFields", ())
    ]
    return body | {"metadata": body["metadata"] | {"managedFields": entries}}


def _deleted(kind: Kind, old: Json) -> Json:
    details = {"name": old["metadata"]["name"], "group": kind.group, "kind": kind.plural, "uid": old["metadata"]["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {name: text for name, text in details.items() if text},
    }
