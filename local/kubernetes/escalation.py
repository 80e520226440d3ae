"""Nobody grants what they do not have, unless they may `escalate` a role or `bind` one."""

import json
from collections.abc import Iterator
from typing import Any

from local.kubernetes import status
from local.kubernetes.authn import MASTERS
from local.kubernetes.authz import Rbac, covers
from local.kubernetes.calls import Call
from local.kubernetes.kinds import RBAC
from local.kubernetes.routing import Attributes

Json = dict[str, Any]

_ROLES = ("Role", "ClusterRole")
_FOR_COLLECTION = ("ownerReferences", "finalizers", "managedFields", "resourceVersion")


def check(rbac: Rbac, call: Call, body: Json, old: Json | None) -> None:
    """Raises ApiError 403, and 404 for a binding to a role that does not exist."""
    if call.kind.group != RBAC or MASTERS in call.user.groups or (old and _collects(body, old)):
        return
    if call.kind.name in _ROLES:
        if rbac.decide(call.user, _special("escalate", call, call.kind.plural, call.attributes.name)).allowed:
            return
        granted = body.get("rules") or []
    else:
        reference = body.get("roleRef") or {}
        plural = f"{reference.get('kind', '').lower()}s"
        name = reference.get("name", "")
        if rbac.decide(call.user, _special("bind", call, plural, name)).allowed:
            return
        found = rbac.referenced(reference, call.namespace)
        if found is None:
            raise status.not_found(call.kind.plural, name, RBAC)
        granted = found
    missing = list(_missing(rbac.rules_of(call.user, call.namespace), granted))
    if missing:
        groups = " ".join(json.dumps(group) for group in call.user.groups)
        lines = "\n".join(sorted({_shown(rule) for rule in _compact(missing)}))
        who = f'user "{call.user.name}" (groups=[{groups}])'
        why = f"{who} is attempting to grant RBAC permissions not currently held:\n{lines}"
        raise status.forbidden(call.kind.plural, body["metadata"].get("name", ""), why, RBAC)


def _collects(body: Json, old: Json) -> bool:
    """Whether a write only serves garbage collection."""

    def rest(one: Json) -> Json:
        meta = {name: value for name, value in one["metadata"].items() if name not in _FOR_COLLECTION}
        return one | {"metadata": meta}

    return rest(body) == rest(old)


def _special(verb: str, call: Call, plural: str, name: str) -> Attributes:
    return Attributes(verb, "", RBAC, "*", call.namespace, plural, "", name)


def _missing(held: list[Json], granted: list[Json]) -> Iterator[Json]:
    """Single permissions among the granted that no held rule covers. A star is covered by nothing but a star."""
    for rule in granted:
        for wanted, single in _singles(rule):
            if not any(covers(one, wanted) for one in held):
                yield single


def _singles(rule: Json) -> Iterator[tuple[Attributes, Json]]:
    verbs = rule.get("verbs") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            plural, _, part = resource.partition("/")
            for verb in verbs:
                base = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                for name in rule.get("resourceNames") or ("",):
                    single = base | ({"resourceNames": [name]} if name else {})
                    yield Attributes(verb, "", group, "v1", "", plural, part, name), single
    for path in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield Attributes(verb, path), {"nonResourceURLs": [path], "verbs": [verb]}


def _compact(rules: list[Json]) -> list[Json]:
    """Rules that differ in their verb alone become one."""
    merged: dict[str, Json] = {}
    for rule in rules:
        same = json.dumps({name: value for name, value in rule.items() if name != "verbs"})
        if same in merged:
            merged[same] = merged[same] | {"verbs": [*merged[same]["verbs"], *rule["verbs"]]}
        else:
            merged[same] = rule
    return list(merged.values())


def _shown(rule: Json) -> str:
    named = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    )
    parts = [
        f"{shown}:[{' '.join(json.dumps(value) for value in rule[name])}]" for shown, name in named if rule.get(name)
    ]
    return "{" + ", ".join(parts) + "}"
