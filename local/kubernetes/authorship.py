"""Every write leaves its author in metadata.managedFields: applying makes an object, any other write is noted."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from local.kubernetes import conformity, decode, defaults, ownership, status
from local.kubernetes.calls import Call
from local.kubernetes.ownership import Shares, Write, Writer
from local.kubernetes.store import copied

Json = dict[str, Any]


def by_apply(call: Call, old: Json | None, body: Json, now: datetime) -> Json:
    """The object after a server-side apply. Raises ApiError 400, 409 and, for what no type can hold, 500."""
    kind = call.kind
    if (body.get("apiVersion"), body.get("kind")) != (kind.api_version, kind.name):
        raise status.bad_request(f"invalid object type: {_gvk_of(body)}")
    meta = body.get("metadata")
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise status.bad_request("metadata.managedFields must be nil")
    conformity.check(kind, body)
    live = copied(old) if old else defaults.skeleton(kind)
    shares = ownership.read(live["metadata"].pop("managedFields", None))
    write = _write(call, "Apply")
    if old and not shares:
        first = replace(write, writer=Writer(ownership.BEFORE_FIRST_APPLY, "Update", kind.api_version))
        shares = ownership.update(first, defaults.skeleton(kind), live, {}, now)
    merged, shares = ownership.apply(write, live, body, shares, force=call.options.force, now=now)
    if merged != live or old is None:
        merged = defaults.fill(kind, decode.applied(kind, merged, body))
    return _signed(merged, shares)


def by_update(call: Call, old: Json, made: Json, now: datetime) -> Json:
    """The object after any other write. One that never had an owner stays without."""
    live = copied(old) or defaults.skeleton(call.kind)
    before = live["metadata"].pop("managedFields", None)
    given = made["metadata"].pop("managedFields", None)
    shares = _claimed(before, None if call.attributes.subresource else given)
    if old and not shares:
        return made
    return _signed(made, ownership.update(_write(call, "Update"), live, made, shares, now))


def _claimed(before: list[Json] | None, given: list[Json] | None) -> Shares:
    """A caller may rewrite the entries; an empty list or one empty entry forgets them all."""
    if given in ([], [{}]):
        return {}
    try:
        return ownership.read(given) or ownership.read(before)
    except ValueError:
        return ownership.read(before)


def _write(call: Call, operation: str) -> Write:
    kind, part = call.kind, call.attributes.subresource
    writer = Writer(call.options.manager, operation, kind.api_version, part)
    return Write(kind.type, writer, (("f:spec",),) if part else kind.unowned)


def _gvk_of(body: Json) -> str:
    """As Go prints it; a version that is none leaves nothing of it."""
    version = str(body.get("apiVersion") or "")
    if version.count("/") > 1:
        return "/, Kind="
    group, _, version = version.rpartition("/")
    return f"{group}/{version}, Kind={body.get('kind') or ''}"


def _signed(body: Json, shares: Shares) -> Json:
    if shares:
        body["metadata"]["managedFields"] = ownership.written(shares)
    else:
        body["metadata"].pop("managedFields", None)
    return body
