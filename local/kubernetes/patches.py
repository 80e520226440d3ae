"""The plain patches, which change an object as it lies there: what makes the new object from the old."""

import json
from collections.abc import Callable
from typing import Any

from local.kubernetes import conformity, decode, gojson, jsonpatch, status, strategic, wire
from local.kubernetes.calls import Call

Json = dict[str, Any]


def patcher(call: Call, content: str, text: bytes) -> Callable[[Json], Json]:
    """Raises ApiError 400 for a patch that is none; what it returns raises 422 where the patch does not fit."""
    patch = _parsed(content, text)

    def patched(old: Json) -> Json:
        if content == wire.JSON_PATCH:
            made = jsonpatch.apply(old, patch)
        elif content == wire.MERGE_PATCH:
            made = jsonpatch.merge(old, patch)
        else:
            made = strategic.merge(call.kind.type, old, patch)
        shown = conformity.go_value(patch) if content == wire.STRATEGIC_PATCH else status.compact(made)
        return _shaped(call, made, shown)

    return patched


def _parsed(content: str, text: bytes) -> Any:
    try:
        patch = gojson.loads(text)
    except gojson.GoJsonError:
        raise status.bad_request("invalid JSON patch") from None
    wanted, target = (
        (list, "[]handlers.jsonPatchOp") if content == wire.JSON_PATCH else (dict, "map[string]interface {}")
    )
    if isinstance(patch, wanted):
        return patch
    if patch is None:
        return wanted()
    said = f"json: cannot unmarshal {gojson.kind_of(patch)} into Go value of type {target}"
    raise status.bad_request(said if content == wire.STRATEGIC_PATCH else f"error decoding patch: {said}")


def _shaped(call: Call, made: Json, shown: str) -> Json:
    findings = decode.Findings()
    other = decode.other_kind(call.kind, made)
    if other:
        raise _unfit(shown, other)
    try:
        shaped = decode.shaped(call.kind, made, findings)
    except ValueError as error:
        raise _unfit(shown, str(error)) from None
    if findings.lines and call.options.strict:
        raise _unfit(shown, f"strict decoding error: {', '.join(findings.lines)}")
    call.judge(findings.lines)
    return shaped


def _unfit(shown: str, why: str) -> status.ApiError:
    return status.invalid("", "", [status.wrong("patch", json.dumps(shown), why)])
