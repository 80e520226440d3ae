"""Who may do what: RBAC, evaluated from the role and binding objects that the server itself stores."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from local.kubernetes import status
from local.kubernetes.authn import MASTERS, User
from local.kubernetes.kinds import RBAC, named
from local.kubernetes.routing import Attributes
from local.kubernetes.store import Store

Json = dict[str, Any]

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` names the bindings that point to roles which do not exist; the real server appends it to a refusal."""

    allowed: bool
    reason: str = ""


class Rbac:
    def __init__(self, store: Store) -> None:
        self._store = store

    def decide(self, user: User, wanted: Attributes) -> Decision:
        if MASTERS in user.groups:
            return Decision(allowed=True)
        missing: list[str] = []
        for rule, binding in self._rules(user, wanted.namespace, missing):
            if covers(rule, wanted):
                return Decision(allowed=True, reason=f"RBAC: allowed by {binding}")
        if not missing:
            return Decision(allowed=False)
        said = missing[0] if len(missing) == 1 else f"[{', '.join(missing)}]"
        return Decision(allowed=False, reason=f"rbac: RBAC: {said}")

    def check(self, user: User, wanted: Attributes) -> None:
        """Raises ApiError 403."""
        decision = self.decide(user, wanted)
        if not decision.allowed:
            raise denied(user, wanted, decision.reason)

    def rules_of(self, user: User, namespace: str) -> list[Json]:
        """Everything that the user is granted in a namespace ("": in all of them)."""
        if MASTERS in user.groups:
            return [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]
        return [rule for rule, _ in self._rules(user, namespace, [])]

    def referenced(self, reference: Json, namespace: str) -> list[Json] | None:
        """The rules of the role that a binding points to; None where there is no such role."""
        cluster_wide = reference["kind"] == "ClusterRole"
        kind = named("clusterroles" if cluster_wide else "roles")
        role = self._store.get(kind, "" if cluster_wide else namespace, reference["name"])
        return None if role is None else role.get("rules") or []

    def _rules(self, user: User, namespace: str, missing: list[str]) -> Iterator[tuple[Json, str]]:
        """The rules that reach the user, each with the binding it comes through; dangling bindings go to `missing`."""
        for plural in ("clusterrolebindings", "rolebindings"):
            kind = named(plural)
            if plural == "rolebindings" and not namespace:
                continue
            for binding in self._store.view(kind, namespace if kind.namespaced else ""):
                subject = _subject_for(binding, user)
                if subject is None:
                    continue
                reference = binding["roleRef"]
                rules = self.referenced(reference, namespace)
                if rules is None:
                    missing.append(f'{reference["kind"].lower()}.{RBAC} "{reference["name"]}" not found')
                    continue
                said = _describe(kind.name, binding, reference, subject)
                yield from ((rule, said) for rule in rules)


def _describe(kind: str, binding: Json, reference: Json, subject: Json) -> str:
    meta = binding["metadata"]
    name = f"{meta['name']}/{meta['namespace']}" if meta.get("namespace") else meta["name"]
    who = f'{subject["kind"]} "{subject["name"]}"'
    return f'{kind} "{name}" of {reference["kind"]} "{reference["name"]}" to {who}'


def _subject_for(binding: Json, user: User) -> Json | None:
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name")
        account = f"system:serviceaccount:{subject.get('namespace')}:{name}"
        if (
            (kind == "User" and name == user.name)
            or (kind == "Group" and name in user.groups)
            or (kind == "ServiceAccount" and account == user.name)
        ):
            return dict(subject)
    return None


def covers(rule: Json, wanted: Attributes) -> bool:
    """Whether one rule allows the request."""
    if not _has(rule.get("verbs"), wanted.verb):
        return False
    if not wanted.resource:
        return any(_path_matches(one, wanted.path) for one in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames")
    return (
        _has(rule.get("apiGroups"), wanted.group)
        and _resource_matches(rule.get("resources") or (), wanted)
        and (not names or wanted.name in names)
    )


def _has(values: Iterable[str] | None, wanted: str) -> bool:
    return any(value in ("*", wanted) for value in values or ())


def _resource_matches(resources: Iterable[str], wanted: Attributes) -> bool:
    full = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    return any(one in ("*", full) or (wanted.subresource and one == f"*/{wanted.subresource}") for one in resources)


def _path_matches(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern.rstrip("*"))
    return pattern == path


def denied(user: User, wanted: Attributes, reason: str = "") -> status.ApiError:
    who, more = f'User "{user.name}"', f": {reason}" if reason else ""
    if not wanted.resource:
        return status.forbidden("", "", f'{who} cannot {wanted.verb} path "{wanted.path}"'.translate(_HTML) + more)
    resource = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    said = f'{who} cannot {wanted.verb} resource "{resource}" in API group "{wanted.group}" {where}'
    return status.forbidden(wanted.resource, wanted.name, said.translate(_HTML) + more, wanted.group)
