"""Whether an object is as a manifest asks, judged by its values and by the fields that we own."""

from typing import Any

import pytest

from pullkeeper.cluster.ownership import is_applied, managers

MANIFEST = {
    "metadata": {"name": "one", "labels": {"a": "1"}},
    "spec": {"ports": [{"port": 80}], "rules": ["x"], "replicas": 2},
}
FIELDS: dict[str, Any] = {
    "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
    "f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}, "f:rules": {}},
}


def found(fields: Any = None, operation: str = "Apply", earlier: Any = None, **spec: Any) -> dict[str, Any]:
    """The object as a server returns it, with defaults and the fields of other managers. earlier: what we have applied
    in another version of the API.
    """
    entries = [
        {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:other": {}}}},
        {"manager": "pullkeeper", "operation": operation, "fieldsV1": fields or FIELDS},
        {"manager": "pullkeeper", "operation": "Update", "fieldsV1": {"f:imagePullSecrets": {}}},
    ]
    if earlier:
        entries.append({"manager": "pullkeeper", "operation": "Apply", "fieldsV1": earlier})
    return {
        "metadata": {"name": "one", "uid": "u", "labels": {"a": "1", "b": "2"}, "managedFields": entries},
        "spec": {"ports": [{"port": 80, "protocol": "TCP"}], "rules": ["x"], "replicas": 2, "other": 1, **spec},
    }


@pytest.mark.parametrize("rules", [{}, {'v:"x"': {}}], ids=["a list", "a set"])
def test_an_object_as_asked_needs_no_apply(rules: Any) -> None:
    fields = {**FIELDS, "f:spec": {**FIELDS["f:spec"], "f:rules": rules}}
    assert is_applied(found(fields), MANIFEST)


@pytest.mark.parametrize(
    "changed",
    [
        found(rules=["y"]),
        found(rules=["x", "y"]),
        found(ports=[]),
        found(ports=[{"protocol": "TCP"}]),
        found(ports=None),
        found({**FIELDS, "f:data": {"f:earlier": {}}}),
        found({"f:spec": {"f:ports": {'k:{"port":81}': {".": {}}}}}),
        found({"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:name": {}}}}}),
        found({"f:spec": {"f:rules": {'v:"z"': {}}}}),
        found({"f:spec": {"f:replicas": {"f:most": {}}}}),
        found({"f:spec": {"f:rules": {"i:0": {}}}}),
        found("unknown"),
        found(operation="Update"),
        found(earlier={"f:data": {"f:earlier": {}}}),
        {**MANIFEST, "metadata": {"name": "one", "uid": "u", "labels": {"a": "1"}}},
    ],
    ids=[
        "a value",
        "a further item",
        "a missing item",
        "a missing value",
        "a missing list",
        "a field of earlier",
        "an item of earlier",
        "a field of an item of earlier",
        "a set",
        "a field that has become a value",
        "an unknown kind of field",
        "an unknown form",
        "no apply",
        "another version",
        "managers that somebody has cleared",
    ],
)
def test_what_an_apply_would_change_needs_one(changed: dict[str, Any]) -> None:
    assert not is_applied(changed, MANIFEST)


def test_a_manager_of_unknown_fields_is_one_of_the_object() -> None:
    """An object with another manager than ours is not deleted."""
    entries = [
        1,
        {"manager": "theirs"},
        {"manager": "others", "fieldsV1": {"f:spec": 1}},
        {"manager": "ours", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]
    assert managers({"managedFields": entries}) == {"theirs", "others", "ours"}
    assert managers({"managedFields": entries}, "spec", "replicas") == {"ours"}
    assert managers({"managedFields": None}) == frozenset()
