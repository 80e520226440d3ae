"""Who may do what: RBAC, evaluated from the role and binding objects that the server itself stores."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from local.kubernetes.authentication import MASTERS, User
from local.kubernetes.calls import Attributes, Call
from local.kubernetes.kinds import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RBAC, ROLE_BINDINGS, ROLES
from local.kubernetes.refusals import not_played
from local.kubernetes.store import Store

Json = dict[str, Any]


class Rbac:
    def __init__(self, store: Store) -> None:
        self._store = store

    def allows(self, user: User, wanted: Attributes) -> bool:
        return MASTERS in user.groups or any(_covers(rule, wanted) for rule in self._rules(user, wanted.namespace))

    def check(self, call: Call, *, verb: str = "") -> None:
        """verb: another than the call's own, for an apply that creates. Raises Refusal 403."""
        wanted = replace(call.attributes, verb=verb or call.attributes.verb)
        if self.allows(call.user, wanted):
            return
        case = "forbidden" if wanted.name else "forbidden-unnamed"
        scope = "" if wanted.namespace else "-in-cluster"
        raise call.refuse(f"{case}{scope}", verb=wanted.verb, namespace=wanted.namespace)

    def check_grant(self, call: Call, made: Json, old: Json | None) -> None:
        """Whether the caller may give out these rights. The real server also lets callers give out what they have
        themselves; to compare rules is left to it. Raises Refusal 501.
        """
        if call.kind in (ROLES, CLUSTER_ROLES):
            given, verb, plural, name = "rules", "escalate", call.kind.plural, call.name
        elif call.kind in (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
            given, verb = "subjects", "bind"
            plural, name = f"{made['roleRef']['kind'].lower()}s", made["roleRef"]["name"]
        else:
            return
        if old and (old.get(given), old.get("roleRef")) == (made.get(given), made.get("roleRef")):
            return
        if not self.allows(call.user, Attributes(verb, RBAC, plural, call.namespace, name)):
            raise not_played(f"a {call.kind.name} of a caller who may not {verb} {plural}")

    def _rules(self, user: User, namespace: str) -> Iterator[Json]:
        """All that reach the user in a namespace; in "" those of the whole cluster."""
        for kind in (CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS) if namespace else (CLUSTER_ROLE_BINDINGS,):
            for binding in self._store.view(kind, namespace if kind.namespaced else ""):
                if any(_is_meant(subject, user) for subject in binding.get("subjects") or ()):
                    yield from self._rules_of(binding["roleRef"], namespace)

    def _rules_of(self, reference: Json, namespace: str) -> list[Json]:
        cluster_wide = reference["kind"] == "ClusterRole"
        kind = CLUSTER_ROLES if cluster_wide else ROLES
        role = self._store.get(kind, "" if cluster_wide else namespace, reference["name"])
        return (role or {}).get("rules") or []


def _is_meant(subject: Json, user: User) -> bool:
    kind, name = subject["kind"], subject["name"]
    if kind == "Group":
        return name in user.groups
    account = f"system:serviceaccount:{subject.get('namespace')}:{name}"
    return user.name == (account if kind == "ServiceAccount" else name)


def _covers(rule: Json, wanted: Attributes) -> bool:
    """Whether one rule allows the request."""
    resource = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    names = rule.get("resourceNames")
    return (
        _has(rule.get("verbs"), wanted.verb)
        and _has(rule.get("apiGroups"), wanted.group)
        and _has(rule.get("resources"), resource)
        and (not names or wanted.name in names)
    )


def _has(values: Iterable[str] | None, wanted: str) -> bool:
    return any(value in ("*", wanted) for value in values or ())
