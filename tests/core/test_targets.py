"""Targets: named and by selector, their service accounts, and how many there may be."""

from datetime import timedelta
from typing import Any

import pytest

from pullkeeper.errors import InvalidRequest
from pullkeeper.fleet.status import NEVER, Found, Status, TargetStatus
from pullkeeper.model import Cluster, SelectorTarget, Target
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.service_accounts import ServiceAccount

_CLUSTER = (
    "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/rg-prod"
    "/providers/Microsoft.ContainerService/managedClusters/aks-1"
)
_SELECTOR: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}


def _cluster(*targets: dict[str, Any]) -> Cluster:
    return Cluster.parse({"cluster": _CLUSTER, "hub": "main", "targets": targets})


def _onboarding(*targets: dict[str, Any], **fields: Any) -> Onboarding:
    return Onboarding.parse({"cluster": _CLUSTER, "hub": "main", "targets": targets, **fields})


def _team(number: int, **fields: Any) -> dict[str, Any]:
    return {"namespace": f"team-{number}", **fields}


# Selectors


def test_a_selector_matches_namespaces_that_are_neither_excluded_nor_reserved() -> None:
    target = SelectorTarget.parse({**_SELECTOR, "exclude": ["shop-test"]})
    names = ["shop", "shop-test", "kube-system", "kube-public", "kube-node-lease", "gatekeeper-system", "aks-command"]
    names += ["shop/../bank", "Shop", ""]

    assert [name for name in names if target.matches(name, {"team": "shop"})] == ["shop"]
    assert not target.matches("shop", {"team": "bank"})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"namespaceSelector": {}}, "targets.0.namespaceSelector: an empty selector would match every namespace"),
        ({**_SELECTOR, "namespace": "a"}, "targets.0: give either namespace, or namespaceSelector with exclude"),
        ({"namespace": "a", "prune": True}, "targets.0: give either namespace, or namespaceSelector with exclude"),
        ({"exclude": ["a"]}, "targets.0: give either namespace, or namespaceSelector with exclude"),
        ({**_SELECTOR, "prune": "yes"}, "targets.0.prune: Input should be a valid boolean"),
        ({**_SELECTOR, "exclude": ["a.b"]}, "targets.0.exclude.0: String should match pattern"),
        ({**_SELECTOR, "exclude": [f"a{n}" for n in range(501)]}, "targets.0.exclude: Tuple should have at most 500"),
        (
            {**_SELECTOR, "serviceAccounts": [{"name": "a", "federate": True}]},
            "targets.0.serviceAccounts: federate needs a namespace: a federated credential names one",
        ),
        (1, "targets.0: Input should be a valid dictionary"),
        (["prune"], "targets.0: Input should be a valid dictionary"),
    ],
)
def test_a_target_that_is_neither_named_nor_selected_is_refused(target: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        _cluster(target)
    assert raised.value.detail.startswith(message)


def test_a_secret_has_one_selector() -> None:
    other = {"namespaceSelector": {"matchLabels": {"team": "bank"}}}
    with pytest.raises(InvalidRequest, match="targets: two selectors for one secret: combine them in one"):
        _cluster(_SELECTOR, other)
    assert len(_cluster(_SELECTOR, {**other, "secret": "bank-pull"}).selectors) == 2


def test_ten_selectors_are_the_most() -> None:
    many = [{**_SELECTOR, "secret": f"pull-{number}"} for number in range(11)]
    with pytest.raises(InvalidRequest, match="targets: a cluster can have 10 namespaceSelectors at most, not 11"):
        _cluster(*many)
    assert len(_cluster(*many[:10]).selectors) == 10


def test_found_namespaces_become_targets_of_their_own() -> None:
    """After the named ones. Where the selector is gone, the service accounts are not known."""
    cluster = _cluster({**_SELECTOR, "serviceAccounts": ["app"]}, {"namespace": "bank"}, {"namespace": "shop-1"})
    found = ["shop-2/dropped", "shop-1/ar-pull-secret", "shop-2/ar-pull-secret", "bank/ar-pull-secret"]

    targets = cluster.list_targets(found)

    assert targets == (
        Target(namespace="bank"),
        Target(namespace="shop-1"),
        Target(namespace="shop-2", service_accounts=(ServiceAccount(name="app"),)),
        Target(namespace="shop-2", secret="dropped"),
    )
    by_selector = TargetStatus(found=Found(namespace="1", added_at=NEVER))
    assert Status(targets=dict.fromkeys(found, by_selector)).targets_of(cluster) == targets
    assert Status(targets=dict.fromkeys(found, TargetStatus())).targets_of(cluster) == cluster.named


def test_a_cluster_whose_selectors_have_found_nothing_is_due() -> None:
    assert Status().next_due(_cluster(_SELECTOR)) == NEVER


def test_the_shortest_life_of_a_clusters_tokens_counts() -> None:
    """Its hub may have changed, and some of its secrets may still have a token of the old one."""
    hour = timedelta(hours=1)
    lives = {"old": hour, "new": hour / 4, "never written": None}
    written = {name: TargetStatus(issued_at=NEVER, expires_at=life and NEVER + life) for name, life in lives.items()}
    assert Status(targets=written).life == hour / 4


def test_a_selector_survives_its_json() -> None:
    expression = {"key": "tier", "operator": "NotIn", "values": ["test"]}
    target = {
        "namespaceSelector": {"matchLabels": {"team": "shop"}, "matchExpressions": [expression]},
        "exclude": ["b", "a"],
        "prune": True,
        "secret": "pull",
        "serviceAccounts": ["app"],
    }
    cluster = _cluster(target, {"namespace": "bank"})

    assert Cluster.parse(cluster.to_json()) == cluster
    assert cluster.model_dump(by_alias=True, mode="json", exclude_defaults=True)["targets"][0] == target


# Service accounts


def test_an_account_is_a_name_or_an_object() -> None:
    target = Target.parse({"serviceAccounts": ["a", {"name": "b"}, {"name": "c", "federate": True}]})

    assert target.service_accounts == (
        ServiceAccount(name="a"),
        ServiceAccount(name="b"),
        ServiceAccount(name="c", federate=True),
    )
    assert target.account_names == ("a", "b", "c")
    assert target.to_json() == '{"serviceAccounts":["a","b",{"name":"c","federate":true}]}'


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        (["a", {"name": "a", "federate": True}], "serviceAccounts: the same service account is named twice"),
        ([{"federate": True}], "serviceAccounts.0.name: Field required"),
        ([{"name": "a", "federate": "yes"}], "serviceAccounts.0.federate: Input should be a valid boolean"),
        ([{"name": "a", "federated": True}], "serviceAccounts.0.federated: Extra inputs are not permitted"),
        ([1], "serviceAccounts.0: Input should be a valid dictionary"),
        ([f"{'a' * 62}.b"], "serviceAccounts.0.name: String should have at most 63 characters"),
        ([f"a{n}" for n in range(21)], "serviceAccounts: Tuple should have at most 20 items"),
    ],
)
def test_an_invalid_account_is_refused(accounts: list[Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Target.parse({"serviceAccounts": accounts})
    assert raised.value.detail.startswith(message)


def test_without_targets_the_guides_account_is_federated() -> None:
    request = Onboarding.parse({"cluster": _CLUSTER})

    assert [*map(str, request.targets)] == ["deepintshield/ar-pull-secret"]
    assert request.federated_accounts == (("deepintshield", "deepintshield-sa"),)


_ASKS = {"name": "b", "federate": True}


@pytest.mark.parametrize(
    ("fields", "federated"),
    [
        ({}, [("team-0", "b")]),
        ({"refresher": "in-cluster"}, [("team-0", "a"), ("team-0", "b"), ("team-1", "a")]),
    ],
    ids=["central", "in-cluster"],
)
def test_accounts_are_federated_that_ask_and_those_of_in_cluster_jobs(
    fields: dict[str, Any], federated: list[tuple[str, str]]
) -> None:
    first, second = _team(0, serviceAccounts=["a", _ASKS]), _team(1, serviceAccounts=["a", "c"])
    again = {**first, "secret": "another"}

    assert [*_onboarding(first, second, again, **fields).federated_accounts] == federated


def test_more_accounts_than_an_identity_can_trust_are_refused() -> None:
    """Only those that ask for it count."""
    asking = [_team(number, serviceAccounts=["a", _ASKS]) for number in range(21)]
    with pytest.raises(InvalidRequest, match="21 service accounts to federate, and an identity can have 20 federated"):
        _onboarding(*asking)
    assert len(_onboarding(*asking[:20]).federated_accounts) == 20
    plain = [_team(number, serviceAccounts=["a"]) for number in range(21)]
    assert _onboarding(*plain).federated_accounts == ()
    with pytest.raises(InvalidRequest, match="21 service accounts to federate"):
        _onboarding(*plain, refresher="in-cluster")


# Requests


def test_five_hundred_targets_are_the_most() -> None:
    many = [_team(number) for number in range(501)]

    assert len(_onboarding(*many[:500]).targets) == 500
    with pytest.raises(InvalidRequest, match="targets: Tuple should have at most 500 items after validation"):
        _onboarding(*many)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"refresher": "in-cluster"}, "refresher in-cluster needs named namespaces: its jobs run there, so no"),
        ({"workload": {"image": "registry.example/image"}}, "workload needs a target with a namespace"),
    ],
)
def test_what_needs_a_namespace_is_refused_with_a_selector(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        _onboarding({**_SELECTOR, "serviceAccounts": ["app"]}, **fields)
    assert raised.value.detail.startswith(message)
