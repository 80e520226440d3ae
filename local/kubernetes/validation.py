"""Which objects the stand-in takes: those of which it knows that the real server takes them too.

A value that it cannot judge is refused with 501, whatever the real server says of it. What the real server refuses and
the app depends on (fields that are immutable) is answered with a recording.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from local.kubernetes import admission, names, workloads
from local.kubernetes.calls import Call, Json, parse_json
from local.kubernetes.kinds import RBAC, Kind
from local.kubernetes.refusals import not_played
from local.kubernetes.schema import ANYTHING, Type
from local.kubernetes.typed import element_of

_NAMES: Final = {"Namespace": names.LABEL, "Service": names.SERVICE, "CronJob": names.CRON_JOB}
"""By kind. The others are subdomains, except those of RBAC."""
_LIMIT: Final = 1024 * 1024
_ANNOTATIONS_LIMIT: Final = 256 * 1024
_GIVEN: Final = {"name", "namespace", "labels", "annotations", "finalizers"}
"""Of the metadata, what a body of POST and apply may have; apply also a uid."""
_UNPLAYED: Final = frozenset(
    {"immutable", "binaryData", "stringData", "secrets", "automountServiceAccountToken", "aggregationRule"}
)
"""Fields of objects that have rules of their own."""
_FREE: Final = frozenset({"ManagedFieldsEntry"})
_NULLABLE: Final = frozenset({"rules"})
_SCALARS: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "quantity": str,
    "int-or-string": (int, str),
}


def check_body(call: Call, body: Any) -> None:
    """The body of a POST or an apply: the kind's own, with known fields of the right types. Raises Refusal 501."""
    if not isinstance(body, dict):
        raise not_played("a body that is no object")
    kind = call.kind
    # Only a body that is applied must name them.
    named = {"apiVersion": kind.api_version, "kind": kind.name}
    given = body if call.verb == "apply" else {**named, **body}
    found = given.get("apiVersion"), given.get("kind")
    if found != (kind.api_version, kind.name):
        raise not_played(f"{found} sent to {kind.plural}")
    check_types(kind, body)
    meta = body.get("metadata") or {}
    namespace = meta.get("namespace", call.namespace)
    if call.name and (meta.get("name") != call.name or namespace != call.namespace):
        raise not_played("a body with another name or namespace than its address")
    if not meta.keys() <= _GIVEN | ({"uid"} if call.verb == "apply" else set()) or namespace != call.namespace:
        raise not_played(f"the metadata {sorted(meta)} in a body")
    if body.get("status") or (body.get("spec") and kind.name == "Namespace"):
        raise not_played(f"a {kind.name} with fields that only the server writes")


def check_object(call: Call, made: Json, old: Json | None) -> None:
    """The whole object as it would be stored. Raises Refusal: 422 for a change of what is immutable, else 501."""
    kind = call.kind
    _check_types(kind.type, made, "", complete=True)
    if _UNPLAYED & made.keys():
        raise not_played(f"{sorted(_UNPLAYED & made.keys())} of a {kind.name}")
    problem = next(_problems(kind, made, old), None)
    if problem:
        raise not_played(f"{kind.name} {made['metadata'].get('name')}: {problem}")
    if old:
        _check_immutable(call, made, old)


def check_types(kind: Kind, body: Json) -> None:
    """Whether these are fields of the kind, with values of their types. Raises Refusal 501."""
    _check_types(kind.type, body, "", complete=False)


def _check_immutable(call: Call, made: Json, old: Json) -> None:
    if made["metadata"]["uid"] != old["metadata"]["uid"]:
        raise call.refuse("immutable-uid", uid=made["metadata"]["uid"])
    match call.kind.name:
        case "Secret" if made["type"] != old["type"]:
            raise call.refuse("immutable-type", value=made["type"])
        case "RoleBinding" | "ClusterRoleBinding" if made["roleRef"] != old["roleRef"]:
            reference = {name[0].upper() + name[1:]: made["roleRef"][name] for name in ("apiGroup", "kind", "name")}
            shown = json.dumps(reference, separators=(",", ":")).replace('"ApiGroup"', '"APIGroup"')
            raise call.refuse("immutable-role-ref", value=shown)
        case "Deployment" if made["spec"]["selector"] != old["spec"]["selector"]:
            shown = json.dumps(made["spec"]["selector"], separators=(",", ":"))
            raise call.refuse("immutable-selector", value=shown)


def _check_types(kind: Type, value: Any, path: str, *, complete: bool) -> None:
    """complete: a whole object, which has its required fields. Raises Refusal 501."""
    fits: type | tuple[type, ...] = {"scalar": _SCALARS.get(kind.scalar, object), "list": list}.get(kind.shape, dict)
    if not isinstance(value, fits) or (isinstance(value, bool) and fits is int):
        raise not_played(f"a {type(value).__name__} at {path}")
    if isinstance(value, list):
        for item in value:
            _check_types(kind.element or ANYTHING, item, f"{path}[]", complete=complete)
        if not kind.atomic and len({element_of(kind, item) for item in value}) < len(value):
            raise not_played(f"the same element twice at {path}")
    elif isinstance(value, dict) and kind.name not in _FREE:
        _check_fields(kind, value, path, complete=complete)


def _check_fields(kind: Type, value: Json, path: str, *, complete: bool) -> None:
    missing = [name for name in kind.required if complete and name not in value]
    if missing:
        raise not_played(f"an object without {path}.{missing[0]}")
    for name, item in value.items():
        child = kind.child(name)
        if child is None:
            raise not_played(f"the unknown field {path}.{name}")
        if item is not None or not complete or name not in _NULLABLE:
            _check_types(child, item, f"{path}.{name}", complete=complete)


def _problems(kind: Kind, made: Json, old: Json | None) -> Iterator[str]:
    """What the stand-in cannot judge."""
    yield from _metadata_problems(kind, made["metadata"], old)
    match kind.name:
        case "Secret":
            yield from _secret_problems(made)
        case "ConfigMap":
            yield from _data_problems({key: value.encode() for key, value in made.get("data", {}).items()})
        case "Role" | "ClusterRole":
            for rule in made.get("rules") or ():
                if rule.get("nonResourceURLs") or not all(
                    rule.get(part) for part in ("apiGroups", "resources", "verbs")
                ):
                    yield f"the rule {rule}"
        case "RoleBinding" | "ClusterRoleBinding":
            yield from _binding_problems(made)
        case "ValidatingAdmissionPolicy":
            yield from admission.policy_problems(made)
        case "ValidatingAdmissionPolicyBinding":
            yield from admission.binding_problems(made)
        case "Service" | "Deployment" | "CronJob":
            yield from workloads.problems(kind, made, old)


def _metadata_problems(kind: Kind, meta: Json, old: Json | None) -> Iterator[str]:
    rule = names.ROLE if kind.group == RBAC else _NAMES.get(kind.name, names.SUBDOMAIN)
    if not re.fullmatch(rule, meta["name"]):
        yield f"its name {meta['name']!r}"
    labels, annotations = meta.get("labels", {}), meta.get("annotations", {})
    for key, value in labels.items():
        if not re.fullmatch(names.KEY, key) or not re.fullmatch(names.VALUE, value) or "pod-security" in key:
            yield f"the label {key}={value}"
    if not all(re.fullmatch(names.KEY, key.lower()) for key in annotations):
        yield "the key of an annotation"
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        yield "the size of its annotations"
    finalizers = meta.get("finalizers", [])
    if old and finalizers != old["metadata"].get("finalizers", []):
        yield "a change of finalizers"
    if not all("/" in finalizer and re.fullmatch(names.KEY, finalizer) for finalizer in finalizers):
        yield "its finalizers"


def _secret_problems(made: Json) -> Iterator[str]:
    try:
        data = {key: _decode(value) for key, value in made.get("data", {}).items()}
    except binascii.Error:
        yield "data that is no base64"
        return
    yield from _data_problems(data)
    if made["type"] == "kubernetes.io/dockerconfigjson":
        try:
            content = parse_json(data.get(".dockerconfigjson", b""))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            yield "a pull secret without a JSON object in .dockerconfigjson"
    elif made["type"] != "Opaque":
        yield f"the type {made['type']!r}"


def _decode(text: str) -> bytes:
    """Python takes more padding than there should be. Raises binascii.Error."""
    if len(text) % 4:
        raise binascii.Error("incomplete")
    return base64.b64decode(text, validate=True)


def _data_problems(data: dict[str, bytes]) -> Iterator[str]:
    yield from (f"the key {key!r}" for key in data if not re.fullmatch(names.DATA_KEY, key))
    if sum(map(len, data.values())) > _LIMIT:
        yield "more than 1 MiB of data"


def _binding_problems(made: Json) -> Iterator[str]:
    reference = made["roleRef"]
    kinds = {"ClusterRole"} if made["kind"] == "ClusterRoleBinding" else {"Role", "ClusterRole"}
    if (
        reference["apiGroup"] != RBAC
        or reference["kind"] not in kinds
        or not re.fullmatch(names.ROLE, reference["name"])
    ):
        yield f"the role reference {reference}"
    for subject in made.get("subjects", ()):
        account = subject["kind"] == "ServiceAccount"
        group, place = ("", subject.get("namespace", "")) if account else (RBAC, "")
        named = re.fullmatch(names.SUBDOMAIN, subject["name"]) and place if account else subject["name"]
        if (
            not named
            or subject["kind"] not in {"User", "Group", "ServiceAccount"}
            or subject.get("apiGroup", "") != group
        ):
            yield f"the subject {subject}"
