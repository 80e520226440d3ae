"""The rights of the identity that refreshes: what is listed, and nothing else."""

import json
from typing import Any, Final

import pytest

from local.kubernetes.schema import definition
from pullkeeper.cluster.rights import access, admission_policy
from pullkeeper.errors import InvalidRequest
from pullkeeper.model import SelectorTarget, Target, Wish

_APP: Final = "66666666-7777-8888-9999-000000000000"
_WISH: Final = {
    "namespaceSelector": {
        "matchLabels": {"team": "a"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["gold"]}],
    },
    "exclude": ["team-x"],
    "secret": "found",
}
_FOUND: Final = SelectorTarget.parse(_WISH)


def _rules(targets: list[Wish], kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
    (role,) = [
        one for one in access(targets, _APP) if (one["kind"], one["metadata"].get("namespace")) == (kind, namespace)
    ]
    rules: list[dict[str, Any]] = role["rules"]
    return rules


def _secrets(*names: str, verbs: tuple[str, ...] = ("patch", "create")) -> dict[str, Any]:
    return {"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(names), "verbs": list(verbs)}


def _accounts(*names: str) -> dict[str, Any]:
    return {
        "apiGroups": [""],
        "resources": ["serviceaccounts"],
        "resourceNames": list(names),
        "verbs": ["get", "patch"],
    }


def _variables(targets: list[Wish], **options: bool) -> dict[str, Any]:
    policy, _ = admission_policy(targets, _APP, **options)
    found = {one["name"]: one["expression"] for one in policy["spec"]["variables"]}
    values = ("named", "namedAccounts", "selectors", "excluded", "selectedAccounts", "pruned", "reserved", "adopt")
    return {name: json.loads(found[name]) for name in values}


def test_a_role_has_the_names_of_its_namespace_and_no_others() -> None:
    targets: list[Wish] = [
        Target(namespace="one", secret="b", service_accounts=("app",)),
        Target(namespace="one", secret="a", service_accounts=("app", "job")),
        Target(namespace="two", secret="c"),
    ]
    assert _rules(targets, "Role", "one") == [_secrets("a", "b"), _accounts("app", "job")]
    assert _rules(targets, "Role", "two") == [_secrets("c")], "a rule without names would be one for all accounts"
    assert {one["kind"] for one in access(targets, _APP)} == {"Role", "RoleBinding"}


@pytest.mark.parametrize("accounts", [(), ("default",)])
@pytest.mark.parametrize("prune", [False, True])
def test_a_cluster_role_has_what_selectors_need(accounts: tuple[str, ...], prune: bool) -> None:  # noqa: FBT001
    selector = SelectorTarget.parse({**_WISH, "prune": prune, "serviceAccounts": list(accounts)})
    listed = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}
    assert _rules([selector, Target(namespace="one", secret="named")], "ClusterRole") == [
        listed,
        _secrets("found"),
        *([_accounts("default")] if accounts else []),
        *([_secrets("found", verbs=("delete",))] if prune else []),
    ]


def test_only_secrets_with_prune_may_be_deleted() -> None:
    other = SelectorTarget.parse({"namespaceSelector": {"matchLabels": {"a": "b"}}, "secret": "other", "prune": True})
    rules = _rules([_FOUND, other], "ClusterRole")
    assert rules[1:] == [_secrets("found", "other"), _secrets("other", verbs=("delete",))]
    assert _variables([_FOUND, other])["pruned"] == ["other"]


def test_the_policy_has_the_values_of_the_targets() -> None:
    named = Target(namespace="one", secret="named", service_accounts=("app",))
    values = _variables([_FOUND, named, Target(namespace="one", secret="another")])
    assert values == {
        "named": [{"namespaces": ["one"], "names": ["another", "named"]}],
        "namedAccounts": [{"namespaces": ["one"], "names": ["app"]}],
        "selectors": {
            "found": [
                {"key": ["team"], "operator": ["In"], "values": ["a"]},
                {"key": ["tier"], "operator": ["NotIn"], "values": ["gold"]},
            ]
        },
        "excluded": [{"namespaces": ["team-x"], "names": ["found"]}],
        "selectedAccounts": {"found": []},
        "pruned": [],
        "reserved": "^(kube-.*|gatekeeper-system|azure-arc|aks-.*|calico-system|tigera-operator)$",
        "adopt": False,
    }
    assert _variables([named], adopt=True)["adopt"] is True
    both = _variables([Target(namespace="one", secret="named"), Target(namespace="two", secret="named")])
    assert both["named"] == [{"namespaces": ["one", "two"], "names": ["named"]}]


def test_a_long_group_of_names_loses_none() -> None:
    names = {f"s{n:03}" for n in range(250)}
    groups = _variables([Target(namespace="one", secret=name) for name in names])["named"]
    assert {name for group in groups for name in group["names"]} == names
    assert max(len(group["names"]) for group in groups) == 100


def _evaluate(variables: dict[str, str], name: str) -> list[Any]:
    """Return the value of a variable, which may be the sum of others."""
    expression = variables[name]
    if expression.startswith("["):
        return list(json.loads(expression))
    parts = [part.removeprefix("variables.") for part in expression.split(" + ")]
    return [item for part in parts for item in _evaluate(variables, part)]


def test_a_long_value_of_the_policy_is_the_sum_of_its_parts() -> None:
    """Kubernetes takes 100,000 characters for an expression, and each may use variables that were there before."""
    targets: list[Wish] = [Target(namespace=f"team-{n:04}-{'x' * 50}", secret=f"s{n:04}") for n in range(1015)]
    policy, _ = admission_policy(targets, _APP)
    variables = {one["name"]: one["expression"] for one in policy["spec"]["variables"]}
    assert 100_000 < len(json.dumps(_evaluate(variables, "named"))) < 110_000
    assert max(map(len, variables.values())) <= 100_000
    names = list(variables)
    assert names.index("named1") < names.index("named2") < names.index("named")
    assert {group["names"][0] for group in _evaluate(variables, "named")} == {f"s{n:04}" for n in range(1015)}


def test_selectors_that_are_too_long_for_an_expression_are_refused() -> None:
    long = {"key": "team", "operator": "In", "values": [f"{n:03}{'x' * 60}" for n in range(50)]}
    wishes: list[Wish] = [
        SelectorTarget.parse({"namespaceSelector": {"matchExpressions": [long]}, "secret": f"s{n}"}) for n in range(30)
    ]
    with pytest.raises(InvalidRequest, match=r"the namespaceSelectors have 10[0-9]{4} characters: 90000 is the limit"):
        admission_policy(wishes, _APP)


def test_a_policy_that_is_broken_refuses() -> None:
    policy, binding = admission_policy([_FOUND], _APP)
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"]["validationActions"] == ["Deny"]


def test_cluster_wide_objects_of_two_identities_have_different_names() -> None:
    def names(principal: str) -> set[str]:
        manifests = [*admission_policy([_FOUND], principal), *access([_FOUND], principal)]
        return {one["metadata"]["name"] for one in manifests}

    assert names("one") == {"pullkeeper-refresher-one"}
    assert not names("one") & names("two")


def test_each_binding_names_what_it_binds() -> None:
    policy, binding = admission_policy([_FOUND], _APP)
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert policy["spec"]["matchConditions"][0]["expression"] == f'request.userInfo.username == "{_APP}"'
    role, role_binding = access([_FOUND], _APP)
    assert role_binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = role_binding["subjects"]
    assert subject["name"] == _APP


def test_a_secret_that_names_no_manager_is_not_deleted() -> None:
    """That all of its managers are ours would be true."""
    rules = [one["expression"] for one in admission_policy([_FOUND], _APP)[0]["spec"]["validations"]]
    (rule,) = [one for one in rules if "variables.managers.all(" in one]
    assert "variables.managers.size() > 0 && variables.managers.all(" in rule


def test_what_is_named_counts_in_its_own_namespaces() -> None:
    variables = {one["name"]: one["expression"] for one in admission_policy([_FOUND], _APP)[0]["spec"]["variables"]}
    for name, listed in (("namedHere", "named"), ("accountsHere", "namedAccounts"), ("excludedHere", "excluded")):
        assert variables[name] == f"variables.{listed}.filter(group, request.namespace in group.namespaces)"


def test_no_selector_reaches_a_reserved_namespace() -> None:
    """Neither to write a secret nor to delete one."""
    variables = {one["name"]: one["expression"] for one in admission_policy([_FOUND], _APP)[0]["spec"]["variables"]}
    for name in ("selected", "unselected"):
        assert variables[name].startswith("request.namespace.matches(variables.reserved) ? [] :")


def test_the_policy_compares_every_field_of_a_service_account() -> None:
    """Those of its metadata that mean something to others, and all others but the list of secrets."""
    (rule,) = [
        one["expression"]
        for one in admission_policy([_FOUND], _APP)[0]["spec"]["validations"]
        if "nothing but imagePullSecrets" in one["message"]
    ]
    fields = {*definition("io.k8s.api.core.v1.ServiceAccount").fields} - {"apiVersion", "kind", "metadata"}
    for field in fields - {"imagePullSecrets"}:
        assert f"object.?{field} == oldObject.?{field}" in rule
    by_the_server = {
        "name", "namespace", "uid", "generateName", "selfLink", "resourceVersion", "generation",
        "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields",
    }  # fmt: skip
    for field in {*definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").fields} - by_the_server:
        assert f"object.metadata.?{field} == oldObject.metadata.?{field}" in rule
