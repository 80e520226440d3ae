"""Creating and changing objects. The order of checks is the real server's: callers see which fails first."""

import random
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from local.kubernetes import authorship, decode, defaults, escalation, preparation, status, validation
from local.kubernetes.admission import Admission
from local.kubernetes.authz import Rbac
from local.kubernetes.calls import Call
from local.kubernetes.ownership import stamp
from local.kubernetes.store import Store, copied

Json = dict[str, Any]
Change = Callable[[Json | None], Json]

_SYSTEM_META = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_KEPT_META = ("creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
_RANDOM_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class Writes:
    def __init__(self, store: Store, clock: Callable[[], datetime], rbac: Rbac, admission: Admission) -> None:
        self._store = store
        self._clock = clock
        self._rbac = rbac
        self._admission = admission

    async def create(self, call: Call, body: Json) -> Json:
        """POST. Raises ApiError."""
        made = _decoded(call, body)
        meta = made["metadata"]
        for name in _SYSTEM_META:
            meta.pop(name, None)
        _fit_namespace(call, meta)
        made = authorship.by_update(call, {}, made, self._clock())
        self._admission.admit_create(call, made)
        escalation.check(self._rbac, call, made, None)
        if meta.get("resourceVersion"):
            raise status.broken("resourceVersion should not be set on objects to be created")
        return await self._create(call, made, checked=True)

    async def update(self, call: Call, body: Json) -> tuple[Json, bool]:
        """PUT: the object, and whether it is new. Raises ApiError."""
        made = _decoded(call, body)
        _fit_namespace(call, made["metadata"])
        _check_name(call, made)
        uid = made["metadata"].get("uid")

        def change(old: Json | None) -> Json:
            if old and uid and uid != old["metadata"]["uid"]:
                raise status.conflict(*call.named, _other_uid(call, uid, old))
            return authorship.by_update(call, old or {}, copied(made), self._clock())

        return await self._change(call, change, may_create=call.kind.creates_on_update)

    async def apply(self, call: Call, body: Json) -> tuple[Json, bool]:
        """Server-side apply: the object, and whether it is new. Raises ApiError."""

        def change(old: Json | None) -> Json:
            made = authorship.by_apply(call, old, body, self._clock())
            uid = made["metadata"].get("uid")
            if old is None and uid:
                said = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise status.conflict(*call.named, said)
            _fit_namespace(call, made["metadata"])
            _check_name(call, made)
            return made

        return await self._change(call, change, may_create=not call.attributes.subresource)

    async def patch(self, call: Call, patched: Callable[[Json], Json]) -> Json:
        """A JSON, merge or strategic merge patch; `patched` makes the new object from the old. Raises ApiError."""

        def change(old: Json | None) -> Json:
            old = old or {}
            made = defaults.fill(call.kind, patched(old))
            _fit_namespace(call, made["metadata"])
            _check_name(call, made)
            return authorship.by_update(call, old, made, self._clock())

        return (await self._change(call, change, may_create=False))[0]

    async def _change(self, call: Call, change: Change, *, may_create: bool) -> tuple[Json, bool]:
        """Until nobody else changed the object while admission was asked."""
        kind, name = call.kind, call.attributes.name
        while True:
            old = self._store.get(kind, call.namespace, name)
            if old is None:
                if not may_create:
                    raise status.not_found(*call.named)
                made = change(None)
                for field in (*_SYSTEM_META, "resourceVersion"):
                    made["metadata"].pop(field, None)
                self._admission.admit_create(call, made)
                escalation.check(self._rbac, call, made, None)
                return await self._create(call, made, checked=False), True
            made = change(old)
            escalation.check(self._rbac, call, made, old)
            revision = old["metadata"]["resourceVersion"]
            if _number(made["metadata"].setdefault("resourceVersion", revision)) != int(revision):
                raise status.conflict(*call.named)
            _prepare_update(call, made, old)
            validation.check_update(kind, made, old)
            await self._admission.check_update(call, made, old)
            now = self._store.get(kind, call.namespace, name)
            if now is not None and now["metadata"]["resourceVersion"] == revision:
                return self._keep(call, made, old), False

    async def _create(self, call: Call, made: Json, *, checked: bool) -> Json:
        """`checked`: RBAC has allowed `create` already. An apply or PUT is only asked now, and by name."""
        kind, meta = call.kind, made["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(random.choices(_RANDOM_LETTERS, k=5))  # noqa: S311 - a name
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = stamp(self._clock())
        preparation.for_create(kind, made)
        validation.check_create(kind, made)
        if not checked:
            self._rbac.check(call.user, replace(call.attributes, verb="create", name=meta["name"]))
        await self._admission.check_create(call, made)
        if self._store.get(kind, call.namespace, meta["name"]) is not None:
            raise self._taken(call, meta["name"])
        if call.options.dry_run:
            return made
        self._admission.created(call)
        return self._store.put(kind, made)

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

    def _taken(self, call: Call, name: str) -> status.ApiError:
        found = self._store.get(call.kind, call.namespace, name)
        going = found is not None and "deletionTimestamp" in found["metadata"]
        return status.already_exists(call.kind.plural, name, call.kind.group, going=going)


def _decoded(call: Call, body: Json) -> Json:
    findings = decode.Findings()
    made = decode.written(call.kind, body, findings)
    call.judge(findings.lines)
    return defaults.fill(call.kind, made)


def _prepare_update(call: Call, made: Json, old: Json) -> None:
    kind, meta, before = call.kind, made["metadata"], old["metadata"]
    for field in _KEPT_META[:2]:
        meta.pop(field, None)
    for field in _KEPT_META:
        if field in before:
            meta[field] = before[field]
    meta.setdefault("uid", before["uid"])
    if call.attributes.subresource:
        preparation.for_status(made, old)
        return
    preparation.for_update(kind, made, old)
    if kind.generation and _without_meta(made) != _without_meta(old):
        meta["generation"] = before.get("generation", 1) + 1


def _number(revision: str) -> int:
    if not revision.isdecimal():
        raise status.broken(f'strconv.ParseUint: parsing "{revision}": invalid syntax')
    return int(revision)


def _other_uid(call: Call, uid: str, old: Json) -> str:
    key = "/".join(filter(None, ("/registry", call.kind.plural, call.namespace, call.attributes.name)))
    why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
    return f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"


def _fit_namespace(call: Call, meta: Json) -> None:
    wanted, found = call.namespace, meta.get("namespace", "")
    if found and wanted and found != wanted:
        said = "the namespace of the provided object does not match the namespace sent on the request"
        raise status.bad_request(said)
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


def _without_meta(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in ("metadata", "status")}


def _untimed(body: Json) -> Json:
    """An object without the times in managedFields, which alone are no change."""
    entries = [
        {name: value for name, value in entry.items() if name != "time"}
        for entry in body["metadata"].get("managedFields", ())
    ]
    return body | {"metadata": body["metadata"] | {"managedFields": entries}}
