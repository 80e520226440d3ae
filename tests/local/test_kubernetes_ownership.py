"""Laws of ownership and merging in the stand-in for API servers, whatever the objects."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.kubernetes import fields, kinds, ownership, typed
from local.kubernetes.kinds import Kind
from local.kubernetes.ownership import OwnershipConflict, Share, Shares, Writer

Json = dict[str, Any]


def kind(plural: str) -> Kind:
    return next(one for one in kinds.KINDS if one.plural == plural)


SECRET = kind("secrets").type
ACCOUNT = kind("serviceaccounts").type
NOW = datetime(2026, 11, 24, tzinfo=UTC)

elements = st.sampled_from(["f:data", "f:.dockerconfigjson", 'k:{"name":"a"}', 'v:"a/b"', "i:0", "f:a:b"])
field_sets = st.frozensets(st.lists(elements, min_size=1, max_size=4).map(tuple), min_size=1)

texts = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["", "aaaa", "bbbb"]), max_size=4)


def secrets() -> st.SearchStrategy[Json]:
    meta = st.fixed_dictionaries({}, optional={"labels": texts, "annotations": texts})
    return st.fixed_dictionaries({"metadata": meta}, optional={"data": texts, "type": st.sampled_from(["a", "b"])})


def applied(live: Json, config: Json, shares: Shares, name: str, *, force: bool = True) -> tuple[Json, Shares]:
    return ownership.apply(kind("secrets"), name, live, config, shares, forced=force, now=NOW)


@given(field_sets)
def test_a_field_set_survives_the_wire(paths: fields.FieldSet) -> None:
    assert fields.decode(fields.encode(paths)) == paths


@given(secrets(), secrets())
def test_an_applied_configuration_is_in_the_object(live: Json, config: Json) -> None:
    merged, shares = applied(live, config, {}, "a")

    assert typed.merge(SECRET, merged, config) == merged
    assert set(shares) <= {Writer("a", "Apply", "v1")}


@given(secrets(), secrets())
def test_applying_twice_changes_nothing(live: Json, config: Json) -> None:
    once, shares = applied(live, config, {}, "a")
    twice, again = applied(once, config, shares, "a", force=False)

    assert twice == once
    assert again == shares


@given(secrets(), secrets(), secrets())
def test_what_an_applier_leaves_out_is_removed_unless_another_applies_it(
    first: Json, second: Json, other: Json
) -> None:
    live, shares = applied({"metadata": {}}, first, {}, "a")
    live, shares = applied(live, other, shares, "b")
    live, _ = applied(live, second, shares, "a")
    left = typed.field_set(SECRET, live) - typed.field_set(SECRET, second) - typed.field_set(SECRET, other)

    assert left & typed.field_set(SECRET, first) == frozenset()


@given(secrets(), secrets())
def test_without_force_no_one_loses_what_they_own(mine: Json, theirs: Json) -> None:
    live, shares = applied({"metadata": {}}, mine, {}, "a")
    with contextlib.suppress(OwnershipConflict):
        merged, after = applied(live, theirs, shares, "b", force=False)
        share = shares.get(Writer("a", "Apply", "v1"))
        assert after.get(Writer("a", "Apply", "v1")) == share
        assert typed.merge(SECRET, merged, mine) == merged


def test_an_entry_without_a_known_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="Guess"):
        ownership.read([{"manager": "a", "operation": "Guess", "apiVersion": "v1", "fieldsV1": {}}])


def test_entries_are_sorted_as_the_server_sorts_them() -> None:
    share = Share(frozenset({("f:data",)}), "2026-11-24T00:00:00Z")
    later = Share(frozenset({("f:type",)}), "2026-11-24T00:00:01Z")
    shares = {Writer("z", "Update", "v1"): share, Writer("b", "Apply", "v1"): later, Writer("c", "Apply", "v1"): share}

    assert [entry["manager"] for entry in ownership.encode(shares)] == ["c", "b", "z"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("f:data", "f:.dockerconfigjson"), ".data..dockerconfigjson"),
        (("f:spec", 'k:{"containerPort":80,"protocol":"TCP"}'), '.spec[containerPort=80,protocol="TCP"]'),
        (("f:metadata", "f:finalizers", 'v:"a/b"'), '.metadata.finalizers[="a/b"]'),
    ],
)
def test_paths_are_shown_as_conflicts_show_them(path: fields.Path, shown: str) -> None:
    assert fields.render(path) == shown


@pytest.mark.parametrize(
    ("live", "config", "merged"),
    [
        ("abc", "ca", "cab"),
        ("abc", "xb", "axbc"),
        ("", "ab", "ab"),
        ("ab", "", "ab"),
        ("abc", "cba", "cba"),
    ],
)
def test_keyed_lists_take_the_order_of_what_is_applied(live: str, config: str, merged: str) -> None:
    def account(names: str) -> Json:
        return {"secrets": [{"name": name} for name in names]}

    assert typed.merge(ACCOUNT, account(live), account(config)) == account(merged)
