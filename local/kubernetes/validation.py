"""What each kind forbids: the checks of the real server's registries for the kinds that are served here."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

from local.kubernetes import gojson, naming, podsecurity, registrations, status, workloads
from local.kubernetes.kinds import RBAC, Kind
from local.kubernetes.status import Cause, not_allowed, required, too_long, unsupported, wrong

Json = dict[str, Any]

SIZE_LIMIT = 1024 * 1024
_REDACTED = '"<secret contents redacted>"'
_FROZEN = "field is immutable when `immutable` is set"


def check_create(kind: Kind, body: Json) -> None:
    """Raises ApiError 422."""
    causes = list(naming.check_metadata(body["metadata"], kind.naming, namespaced=kind.namespaced))
    causes += _CONTENT.get(kind.name, _nothing)(body)
    _refuse(kind, body, causes)


def check_update(kind: Kind, body: Json, old: Json) -> None:
    """Raises ApiError 422."""
    causes = list(naming.check_metadata_update(body["metadata"], old["metadata"]))
    causes += _CHANGE.get(kind.name, _unchanging)(body, old)
    causes += _CONTENT.get(kind.name, _nothing)(body)
    _refuse(kind, body, list(dict.fromkeys(causes)))


def _refuse(kind: Kind, body: Json, causes: list[Cause]) -> None:
    if causes:
        raise status.invalid(kind.name, body["metadata"].get("name", ""), causes, kind.group)


def _nothing(_body: Json) -> Iterator[Cause]:
    return iter(())


def _unchanging(_body: Json, _old: Json) -> Iterator[Cause]:
    return iter(())


# Secrets and ConfigMaps


def _secret(body: Json) -> Iterator[Cause]:
    data: Json = body.get("data") or {}
    size = 0
    for key, value in data.items():
        yield from (wrong(f"data[{key}]", f'"{key}"', said) for said in naming.config_key(key))
        size += len(base64.b64decode(value))
    if size > SIZE_LIMIT:
        yield too_long("data", f"may not be more than {SIZE_LIMIT} bytes")
    yield from _by_type(body.get("type", ""), data, body["metadata"].get("annotations", {}))


def _by_type(kind: str, data: Json, annotations: Json) -> Iterator[Cause]:
    account = "kubernetes.io/service-account.name"
    match kind.removeprefix("kubernetes.io/"):
        case "dockerconfigjson" | "dockercfg" as name:
            yield from _json_object(f".{name}", data)
        case "service-account-token" if not annotations.get(account):
            yield required(f"metadata.annotations[{account}]")
        case "basic-auth" if not data.keys() & {"username", "password"}:
            yield from (required("data[username]"), required("data[password]"))
        case "ssh-auth" if not data.get("ssh-privatekey"):
            yield required("data[ssh-privatekey]")
        case "tls":
            yield from (required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data)


def _json_object(key: str, data: Json) -> Iterator[Cause]:
    if key not in data:
        yield required(f"data[{key}]")
        return
    said = _unlike_json(base64.b64decode(data[key]))
    if said:
        yield wrong(f"data[{key}]", _REDACTED, said)


def _unlike_json(text: bytes) -> str:
    """What Go's decoder says of a text that is no JSON object; empty for one. null passes, as it does there."""
    try:
        value = gojson.loads(text)
    except gojson.GoJsonError as error:
        return str(error)
    if isinstance(value, dict) or value is None:
        return ""
    return f"json: cannot unmarshal {gojson.kind_of(value)} into Go value of type map[string]interface {{}}"


def _configmap(body: Json) -> Iterator[Cause]:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (body.get(field) or {}).items():
            yield from (wrong(f"{field}[{key}]", f'"{key}"', said) for said in naming.config_key(key))
            if field == "data" and key in (body.get("binaryData") or {}):
                yield wrong(f"data[{key}]", f'"{key}"', "duplicate of key present in binaryData")
            size += len(value.encode()) if field == "data" else len(base64.b64decode(value))
    if size > SIZE_LIMIT:
        yield too_long("[]", f"may not be more than {SIZE_LIMIT} bytes")


def _frozen(body: Json, old: Json) -> Iterator[Cause]:
    if old.get("immutable"):
        if not body.get("immutable"):
            yield not_allowed("immutable", _FROZEN)
        for field in ("data", "binaryData"):
            if body.get(field, {}) != old.get(field, {}):
                yield not_allowed(field, _FROZEN)


def _secret_change(body: Json, old: Json) -> Iterator[Cause]:
    if body.get("type") != old.get("type"):
        yield wrong("type", f'"{body.get("type", "")}"', "field is immutable")
    yield from _frozen(body, old)


# Roles and bindings


def _role(body: Json) -> Iterator[Cause]:
    for index, rule in enumerate(body.get("rules") or ()):
        here = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{here}.verbs")
        urls = rule.get("nonResourceURLs")
        if urls:
            shown = status.compact(urls)
            if body["kind"] == "Role":
                why = "namespaced rules cannot apply to non-resource URLs"
                yield wrong(f"{here}.nonResourceURLs", shown, why)
            if any(rule.get(name) for name in ("apiGroups", "resources", "resourceNames")):
                why = "rules cannot apply to both regular resources and non-resource URLs"
                yield wrong(f"{here}.nonResourceURLs", shown, why)
            continue
        if not rule.get("apiGroups"):
            yield required(f"{here}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{here}.resources", "resource rules must supply at least one resource")


def _binding(body: Json) -> Iterator[Cause]:
    reference = body.get("roleRef") or {}
    if reference.get("apiGroup") != RBAC:
        yield unsupported("roleRef.apiGroup", f'"{reference.get("apiGroup", "")}"', [RBAC])
    kinds = ["ClusterRole"] if body["kind"] == "ClusterRoleBinding" else ["Role", "ClusterRole"]
    if reference.get("kind") not in kinds:
        yield unsupported("roleRef.kind", f'"{reference.get("kind", "")}"', kinds)
    if not reference.get("name"):
        yield required("roleRef.name")
    else:
        yield from (wrong("roleRef.name", f'"{reference["name"]}"', said) for said in naming.path(reference["name"]))
    for index, subject in enumerate(body.get("subjects") or ()):
        yield from _subject(subject, f"subjects[{index}]", namespaced=body["kind"] == "RoleBinding")


def _subject(subject: Json, here: str, *, namespaced: bool) -> Iterator[Cause]:
    kind, group = subject.get("kind", ""), subject.get("apiGroup", "")
    if not subject.get("name"):
        yield required(f"{here}.name")
    if kind == "ServiceAccount":
        if subject.get("name"):
            yield from (
                wrong(f"{here}.name", f'"{subject["name"]}"', said) for said in naming.subdomain(subject["name"])
            )
        if group:
            yield unsupported(f"{here}.apiGroup", f'"{group}"', [""])
        if not namespaced and not subject.get("namespace"):
            yield required(f"{here}.namespace")
    elif kind in ("User", "Group"):
        if group != RBAC:
            yield unsupported(f"{here}.apiGroup", f'"{group}"', [RBAC])
    else:
        yield unsupported(f"{here}.kind", f'"{kind}"', ["ServiceAccount", "User", "Group"])


def _binding_change(body: Json, old: Json) -> Iterator[Cause]:
    if body.get("roleRef") != old.get("roleRef"):
        reference = body.get("roleRef") or {}
        named = (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))
        ordered = {shown: reference.get(name, "") for shown, name in named}
        yield wrong("roleRef", status.compact(ordered), "field is immutable")


_CONTENT: dict[str, Callable[[Json], Iterator[Cause]]] = {
    "Secret": _secret,
    "ConfigMap": _configmap,
    "Deployment": workloads.deployment,
    "CronJob": workloads.cron_job,
    "Job": workloads.job,
    "Pod": workloads.pod,
    "Service": workloads.service,
    "ResourceQuota": workloads.quota,
    "Namespace": lambda body: podsecurity.check_labels(body["metadata"].get("labels", {})),
    "ValidatingWebhookConfiguration": registrations.webhooks,
    "ValidatingAdmissionPolicy": registrations.policy,
    "ValidatingAdmissionPolicyBinding": registrations.policy_binding,
    "Role": _role,
    "ClusterRole": _role,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}
_CHANGE: dict[str, Callable[[Json, Json], Iterator[Cause]]] = {
    "Secret": _secret_change,
    "ConfigMap": _frozen,
    "Deployment": workloads.deployment_change,
    "Job": workloads.job_change,
    "RoleBinding": _binding_change,
    "ClusterRoleBinding": _binding_change,
}
