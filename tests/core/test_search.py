"""What a list of namespaces makes of the status of a cluster, where two runs or two wishes meet."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from pullkeeper.errors import ClusterUnreachable
from pullkeeper.fleet.status import Search, Status, TargetStatus
from pullkeeper.model import Cluster, ClusterId, SelectorTarget, Target
from pullkeeper.refresh.search import Listing, _match, apply_search
from tests.world import MINUTE

_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SELECTOR: Final = SelectorTarget.parse({"namespaceSelector": {"matchLabels": {"pull": "yes"}}})
_CLUSTER: Final = Cluster(
    cluster=ClusterId("00000000-0000-0000-0000-000000005eed", "fleet", "aks-1"), hub="main", targets=(_SELECTOR,)
)
_NAME: Final = "team-a/ar-pull-secret"


def _listing(found: Iterable[str], ending: Iterable[str] = (), at: datetime = _NOW) -> Listing:
    return Listing(at, dict.fromkeys(found, "uid"), frozenset(ending))


def test_a_list_that_is_older_than_the_last_one_counts_no_more() -> None:
    """Another run was quicker to list, or to record."""
    newer = apply_search(Status(), _CLUSTER, _listing([_NAME]), _NOW)
    assert apply_search(newer, _CLUSTER, _listing([], at=_NOW - MINUTE), _NOW) == newer


def test_a_list_that_fails_leaves_the_time_of_the_last_complete_one() -> None:
    status, failure = apply_search(Status(), _CLUSTER, _listing([_NAME]), _NOW), ClusterUnreachable("no response")
    for _ in range(2):
        status = apply_search(status, _CLUSTER, failure, _NOW + MINUTE)
    assert status.search == Search(
        listed_at=_NOW,
        next_due=_NOW + 1.5 * MINUTE,
        failures=2,
        category=failure.category,
        detail=failure.detail,
        remedy=failure.remedy,
    )


@pytest.mark.parametrize(("found", "idle"), [([_NAME], "a=1 nor b=1"), ([_NAME, "t/a", "t/b"], None)])
def test_each_selector_that_finds_nothing_is_named(found: list[str], idle: str | None) -> None:
    others = [{"namespaceSelector": {"matchLabels": {name: "1"}}, "secret": name} for name in "ab"]
    cluster = _CLUSTER.model_copy(update={"targets": (_SELECTOR, *map(SelectorTarget.parse, others))})
    search = apply_search(Status(), cluster, _listing(found), _NOW).search
    assert search
    assert search.note == (idle and f"no namespace has the labels {idle}")


def test_a_named_target_keeps_its_status_while_its_namespace_is_being_deleted() -> None:
    named = _CLUSTER.model_copy(update={"targets": (Target(namespace="team-a"), _SELECTOR)})
    before = Status(targets={_NAME: TargetStatus(category="namespace_terminating", failures=3)})
    assert apply_search(before, named, _listing([], ending=[_NAME]), _NOW).targets == before.targets


def test_a_target_that_was_named_may_be_found() -> None:
    before = Status(targets={_NAME: TargetStatus(uid="u", category="quota_exceeded")})
    assert apply_search(before, _CLUSTER, _listing([_NAME]), _NOW).of(_NAME).found


@pytest.mark.parametrize(
    ("labels", "is_found"), [({"a": "b"}, True), ({"pull": "no"}, False), ({}, True), (None, True), ("none", False)]
)
def test_a_namespace_without_labels_lacks_the_one_that_a_selector_excludes(labels: Any, *, is_found: bool) -> None:
    """What is no mapping has no labels to look at."""
    expression = {"key": "pull", "operator": "DoesNotExist"}
    selector = SelectorTarget.parse({"namespaceSelector": {"matchExpressions": [expression]}})
    assert bool(list(_match([selector], {"name": "team-a", "uid": "uid", "labels": labels}))) is is_found
