"""What the identity that refreshes may do in a cluster: roles by namespace, and where targets select namespaces by
label, a cluster role that an admission policy narrows down to these namespaces.

Names of cluster-wide objects end with the identity's object id: a cluster may have Pullkeepers with an identity each.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pullkeeper.cluster.manifests import load
from pullkeeper.errors import InvalidRequest
from pullkeeper.model import RESERVED_NAMESPACE, SelectorTarget, Target, Wish, named_in, selectors_in

_LONGEST: Final = 90_000
"""Characters of a CEL expression. Kubernetes allows 100,000."""
_NAMES: Final = 100
"""Of a group, whose namespaces are 500 at most."""


def admission_policy(targets: Iterable[Wish], principal: str, *, adopt: bool = False) -> list[dict[str, Any]]:
    """Return the policy and its binding, in the order to apply them. Apply them before `access`.

    principal: the object id of the identity that refreshes. adopt: it may take over secrets of other owners.
    """
    wishes = tuple(targets)
    policy, binding = load("refresher-policy"), load("refresher-policybinding")
    name = policy["metadata"]["name"] = binding["metadata"]["name"] = _name(principal)
    binding["spec"]["policyName"] = name
    spec = policy["spec"]
    spec["matchConditions"][0]["expression"] = f"request.userInfo.username == {json.dumps(principal)}"
    values = _policy_values(named_in(wishes), selectors_in(wishes)) | {"adopt": adopt}
    others = [variable for variable in spec["variables"] if variable["name"] not in values]
    spec["variables"] = [variable for name, value in values.items() for variable in _variables(name, value)] + others
    return [policy, binding]


def access(targets: Iterable[Wish], principal: str) -> list[dict[str, Any]]:
    """Return the roles and their bindings, in the order to apply them. principal: as in `admission_policy`."""
    wishes = tuple(targets)
    selectors = selectors_in(wishes)
    by_namespace: dict[str, list[Target]] = defaultdict(list)
    for target in named_in(wishes):
        by_namespace[target.namespace].append(target)
    cluster_wide = [_cluster_role(selectors, principal), _cluster_binding(principal)] if selectors else []
    roles = ((_role(namespace, within), _binding(namespace, principal)) for namespace, within in by_namespace.items())
    return [*cluster_wide, *(manifest for pair in roles for manifest in pair)]


def _policy_values(named: Sequence[Target], selectors: Sequence[SelectorTarget]) -> dict[str, Any]:
    """Return the values of the policy's variables, by their names."""
    excluded = ((namespace, one.secret) for one in selectors for namespace in one.exclude)
    return {
        "named": _group((target.namespace, target.secret) for target in named),
        "namedAccounts": _group((target.namespace, name) for target in named for name in target.account_names),
        "excluded": _group(excluded),
        "selectors": {
            one.secret: [
                {"key": [each.key], "operator": [each.operator], "values": list(each.values)}
                for each in one.namespace_selector.expressions
            ]
            for one in selectors
        },
        "selectedAccounts": {one.secret: [account.name for account in one.service_accounts] for one in selectors},
        "pruned": [one.secret for one in selectors if one.prune],
        "reserved": f"^({RESERVED_NAMESPACE.pattern})$",
    }


def _group(pairs: Iterable[tuple[str, str]]) -> list[dict[str, list[str]]]:
    """Group namespaces that have the same names. No group is too long for an expression."""
    by_namespace: dict[str, set[str]] = defaultdict(set)
    for namespace, name in pairs:
        by_namespace[namespace].add(name)
    by_names: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for namespace, names in by_namespace.items():
        by_names[tuple(sorted(names))].append(namespace)
    return [
        {"namespaces": namespaces, "names": list(names[first : first + _NAMES])}
        for names, namespaces in by_names.items()
        for first in range(0, len(names), _NAMES)
    ]


def _variables(name: str, value: Any) -> Iterator[dict[str, str]]:
    """Yield a variable with the value, and before it, where that is too long for one expression, variables with parts
    of it. Raises InvalidRequest where it has no parts.
    """
    expression = json.dumps(value)
    if len(expression) <= _LONGEST:
        yield {"name": name, "expression": expression}
        return
    if not isinstance(value, list):
        raise InvalidRequest(f"the namespaceSelectors have {len(expression)} characters: {_LONGEST} is the limit")
    middle = len(value) // 2
    parts = {f"{name}1": value[:middle], f"{name}2": value[middle:]}
    for part, content in parts.items():
        yield from _variables(part, content)
    yield {"name": name, "expression": " + ".join(f"variables.{part}" for part in parts)}


def _cluster_role(selectors: Sequence[SelectorTarget], principal: str) -> dict[str, Any]:
    manifest = load("refresher-clusterrole")
    manifest["metadata"]["name"] = _name(principal)
    namespaces, *by_name = manifest["rules"]
    accounts = {account.name for selector in selectors for account in selector.service_accounts}
    names = {one.secret for one in selectors}, accounts, {one.secret for one in selectors if one.prune}
    manifest["rules"] = [namespaces, *_name_rules(by_name, names)]
    return manifest


def _cluster_binding(principal: str) -> dict[str, Any]:
    manifest = load("refresher-clusterrolebinding")
    manifest["metadata"]["name"] = manifest["roleRef"]["name"] = _name(principal)
    manifest["subjects"][0]["name"] = principal
    return manifest


def _role(namespace: str, targets: list[Target]) -> dict[str, Any]:
    manifest = load("refresher-role")
    manifest["metadata"]["namespace"] = namespace
    accounts = {name for target in targets for name in target.account_names}
    manifest["rules"] = list(_name_rules(manifest["rules"], ({target.secret for target in targets}, accounts)))
    return manifest


def _binding(namespace: str, principal: str) -> dict[str, Any]:
    manifest = load("refresher-rolebinding")
    manifest["metadata"]["namespace"] = namespace
    manifest["subjects"][0]["name"] = principal
    return manifest


def _name_rules(rules: Iterable[dict[str, Any]], names: Iterable[set[str]]) -> Iterator[dict[str, Any]]:
    """Put each rule's names into it. A rule without names is left out: it would allow every name."""
    for rule, allowed in zip(rules, names, strict=True):
        if allowed:
            yield {**rule, "resourceNames": sorted(allowed)}


def _name(principal: str) -> str:
    return f"pullkeeper-refresher-{principal}"
