"""Selectors of namespaces: validated and matched as Kubernetes does."""

from typing import Any

import pytest

from pullkeeper.errors import InvalidRequest
from pullkeeper.selector import NamespaceSelector


def _parse(*expressions: dict[str, Any], **labels: str) -> NamespaceSelector:
    return NamespaceSelector.parse({"matchLabels": labels, "matchExpressions": expressions})


def _express(operator: str, *values: str, key: str = "tier") -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": values} if values else {"key": key, "operator": operator}


@pytest.mark.parametrize(
    ("selector", "query", "matching", "others"),
    [
        (_parse(team="shop"), "team=shop", [{"team": "shop"}, {"team": "shop", "x": ""}], [{}, {"team": "bank"}]),
        (_parse(team=""), "team=", [{"team": ""}], [{}, {"team": "shop"}]),
        (_parse(_express("In", "b", "a")), "tier in (a,b)", [{"tier": "a"}, {"tier": "b"}], [{}, {"tier": "c"}]),
        (_parse(_express("In", "a")), "tier=a", [{"tier": "a"}], [{}]),
        (_parse(_express("In", "", "a")), "tier in (,a)", [{"tier": ""}, {"tier": "a"}], [{}, {"tier": "b"}]),
        (_parse(_express("In", "", "")), "tier=", [{"tier": ""}], [{}]),
        (_parse(_express("NotIn", "a", "b")), "tier notin (a,b)", [{}, {"tier": "c"}], [{"tier": "a"}]),
        (_parse(_express("NotIn", "")), "tier!=", [{}, {"tier": "c"}], [{"tier": ""}]),
        (_parse(_express("Exists")), "tier", [{"tier": ""}], [{}]),
        (_parse(_express("DoesNotExist", key="a.example/tier")), "!a.example/tier", [{}], [{"a.example/tier": "x"}]),
        (
            _parse(_express("Exists"), team="shop"),
            "team=shop,tier",
            [{"team": "shop", "tier": "a"}],
            [{"team": "shop"}, {"tier": "a"}],
        ),
    ],
    ids=str,
)
def test_a_selector_matches_labels_and_writes_its_query(
    selector: NamespaceSelector, query: str, matching: list[dict[str, str]], others: list[dict[str, str]]
) -> None:
    assert str(selector) == query
    assert [labels for labels in [*matching, *others] if selector.matches(labels)] == matching


_LONG = "a" * 63


@pytest.mark.parametrize("key", ["a", "A_b.c-D", _LONG, f"{'p' * 253}/{_LONG}", "x.example/a", "in", "notin"])
@pytest.mark.parametrize("value", ["", "0", "A_b.c-D", _LONG])
def test_labels_that_kubernetes_accepts_are_accepted(key: str, value: str) -> None:
    assert _parse(**{key: value}).matches({key: value})


@pytest.mark.parametrize(
    "key",
    [
        "", "-a", "a-", "a b", "a/b/c", "/a", "a/", "A.example/a", "x_y/a", "a,b", "a=b", "a\n", "ä", "!a",
        f"{_LONG}a", f"{'p' * 254}/a",
    ],
)  # fmt: skip
def test_a_key_that_kubernetes_refuses_is_refused(key: str) -> None:
    for document in ({"matchLabels": {key: "x"}}, {"matchExpressions": [_express("Exists", key=key)]}):
        with pytest.raises(InvalidRequest):
            NamespaceSelector.parse(document)


@pytest.mark.parametrize("value", ["-a", "a-", "a b", "a,b", "a)", "a\n", "ä", f"{_LONG}a", 1, True, None, ["a"]])
def test_a_value_that_kubernetes_refuses_is_refused(value: Any) -> None:
    expression = {"key": "tier", "operator": "In", "values": [value]}
    for document in ({"matchLabels": {"tier": value}}, {"matchExpressions": [expression]}):
        with pytest.raises(InvalidRequest):
            NamespaceSelector.parse(document)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "an empty selector would match every namespace: give matchLabels or matchExpressions"),
        ({"matchLabels": {}, "matchExpressions": []}, "an empty selector would match every namespace: give"),
        ({"matchExpressions": [_express("In")]}, "matchExpressions.0: operators In and NotIn need values"),
        ({"matchExpressions": [_express("NotIn")]}, "matchExpressions.0: operators In and NotIn need values"),
        ({"matchExpressions": [_express("Exists", "a")]}, "matchExpressions.0: operators In and NotIn need values"),
        ({"matchExpressions": [_express("DoesNotExist", "a")]}, "matchExpressions.0: operators In and NotIn need"),
        ({"matchExpressions": [_express("Gt", "1")]}, "matchExpressions.0.operator: Input should be 'In', 'NotIn'"),
        ({"matchExpressions": [{"operator": "Exists"}]}, "matchExpressions.0.key: Field required"),
        ({"matchNames": ["a"]}, "matchNames: Extra inputs are not permitted"),
        ({"matchLabels": {f"a{n}": "b" for n in range(21)}}, "matchLabels: Dictionary should have at most 20 items"),
        ({"matchExpressions": [_express("Exists")] * 21}, "matchExpressions: Tuple should have at most 20 items"),
        ({"matchExpressions": [_express("In", *map(str, range(51)))]}, "matchExpressions.0.values: Tuple should have"),
    ],
)
def test_an_invalid_selector_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        NamespaceSelector.parse(document)
    assert raised.value.detail.startswith(message)


def test_the_largest_selector_is_accepted() -> None:
    largest = [_express("In", *map(str, range(50)))] * 20
    selector = NamespaceSelector.parse({"matchLabels": {f"a{n}": "b" for n in range(20)}, "matchExpressions": largest})
    assert len(selector.expressions) == 40
