"""The small languages of the stand-in for API servers: Go's JSON errors, quantities, CEL, selectors, JSON patches."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.kubernetes import bodies, cel, decode, gojson, jsonpatch, kinds, protobuf, quantities, selectors
from local.kubernetes.status import ApiError

Json = dict[str, Any]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_what_is_json_to_python_is_json_to_go(value: Any) -> None:
    gojson.check(json.dumps(value).encode())


@given(st.text(alphabet='{}[]",:truefalsn0123.eE+- \\u'))
def test_what_is_no_json_to_python_is_none_to_go(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse)
        valid = True
    except ValueError:
        valid = False
    try:
        gojson.check(text.encode())
        passed = True
    except gojson.GoJsonError:
        passed = False

    assert passed == valid


def _refuse(name: str) -> None:
    raise ValueError(name)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "unexpected end of JSON input"),
        ("nul", "invalid character ' ' in literal null (expecting 'l')"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ('{"a":1} x', "invalid character 'x' after top-level value"),
        ("[1 2]", "invalid character '2' after array element"),
        ('"\n"', r"invalid character '\n' in string literal"),
        ("-", "invalid character ' ' in numeric literal"),
        ("\\", r"invalid character '\\' looking for beginning of value"),
    ],
)
def test_go_says_what_is_wrong_with_json(text: str, complaint: str) -> None:
    with pytest.raises(gojson.GoJsonError) as caught:
        gojson.check(text.encode())

    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("text", "place"),
    [("x!", 1), ("abc", 0), ("abcd=", 4), ("a", 0), ("ab==cd", 4), ("ab=x", 2), ("a===", 1)],
)
def test_go_says_where_base64_ends_being_base64(text: str, place: int) -> None:
    with pytest.raises(ValueError, match=f"^illegal base64 data at input byte {place}$"):
        decode.check_base64(text)


@given(st.binary())
def test_base64_is_base64(data: bytes) -> None:
    decode.check_base64(base64.b64encode(data).decode())


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1000m", "1"),
        ("250m", "250m"),
        ("1.5", "1500m"),
        ("0.5Gi", "512Mi"),
        ("1024Mi", "1Gi"),
        ("512Ki", "512Ki"),
        ("1500k", "1500k"),
        ("1000k", "1M"),
        (5, "5"),
        ("0", "0"),
        ("-1", "-1"),
        ("100n", "100n"),
        ("1e3", "1e3"),
        ("2Ti", "2Ti"),
    ],
)
def test_quantities_are_written_canonically(text: str | int, written: str) -> None:
    assert quantities.canonical(text) == written
    assert quantities.value_of(written) == quantities.value_of(text)


def test_what_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="quantities must match the regular expression"):
        quantities.canonical("abc")


OBJECT: Json = {"metadata": {"name": "ar-pull-secret", "labels": {"team": "a"}}, "data": {"x": "y"}, "count": 3}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("false", False),
        ("true || object.nothing", True),
        ("has(object.metadata.labels) && 'team' in object.metadata.labels", True),
        ("has(object.metadata.annotations)", False),
        ("object.metadata.labels['team'] == 'a'", True),
        ("object.metadata.name.startsWith('ar-') && !object.metadata.name.endsWith(\"x\")", True),
        ("object.metadata.name.matches('^ar-.*-secret$')", True),
        ("size(object.data) == 1 && object.metadata.name.size() > 3", True),
        ("request.operation in ['CREATE', 'UPDATE'] ? object.count >= 3 : false", True),
        ("object.count + 1 < 4 || -1 < 0", True),
        ("oldObject == null", True),
        ("'pull' in [object.metadata.name, 'push']", False),
    ],
)
def test_cel(expression: str, result: bool) -> None:  # noqa: FBT001 - an expected value
    values = {"object": OBJECT, "oldObject": None, "request": {"operation": "CREATE"}}

    assert cel.compile_expression(expression)(values) is result


@pytest.mark.parametrize(
    "expression", ["object.items.all(x, x > 1)", "params.x == 1", "1 +", "object.", "a ? b", "[1, 2", "x @ y", "1 2"]
)
def test_cel_that_is_not_known_is_not_compiled(expression: str) -> None:
    with pytest.raises(cel.CelError):
        cel.compile_expression(expression)


def test_cel_without_the_key() -> None:
    with pytest.raises(cel.CelError, match="no such key: spec"):
        cel.compile_expression("object.spec.x == 1")({"object": OBJECT})


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("", "abc"),
        ("n=1", "a"),
        ("n!=1", "bc"),
        ("n in (1,2),odd", "a"),
        ("n notin (1, 2)", "c"),
        ("!odd", "b"),
        ("n>1", "bc"),
        ("n<3,odd==yes", "a"),
        ("nothing=", ""),
    ],
)
def test_label_selectors(selector: str, names: str) -> None:
    labels = {"a": {"n": "1", "odd": "yes"}, "b": {"n": "2"}, "c": {"n": "3", "odd": "yes"}}
    matches = selectors.labels(selector)

    assert [name for name in labels if matches({"metadata": {"labels": labels[name]}})] == list(names)


@pytest.mark.parametrize(
    ("operations", "patched"),
    [
        ([{"op": "add", "path": "/a/-", "value": 4}], {"a": [1, 2, 3, 4]}),
        ([{"op": "add", "path": "/a/1", "value": 9}], {"a": [1, 9, 2, 3]}),
        ([{"op": "add", "path": "/b~1c~0", "value": 1}], {"a": [1, 2, 3], "b/c~": 1}),
        ([{"op": "remove", "path": "/a/0"}], {"a": [2, 3]}),
        ([{"op": "replace", "path": "/a", "value": []}], {"a": []}),
        (
            [{"op": "copy", "from": "/a/2", "path": "/b"}, {"op": "move", "from": "/b", "path": "/c"}],
            {"a": [1, 2, 3], "c": 3},
        ),
        ([{"op": "test", "path": "/a/0", "value": 1}, {"op": "test", "path": "/z", "value": None}], {"a": [1, 2, 3]}),
        ([{"op": "replace", "path": "", "value": {"new": 1}}], {"new": 1}),
    ],
)
def test_json_patches(operations: list[Json], patched: Json) -> None:
    document = {"a": [1, 2, 3]}

    assert jsonpatch.apply(document, operations) == patched
    assert document == {"a": [1, 2, 3]}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/missing/-", "value": 1},
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "test", "path": "/a/0", "value": 2},
        {"op": "add", "path": "/a/9", "value": 1},
        {"op": "zap", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "replace", "path": "", "value": []},
    ],
)
def test_json_patches_that_do_not_fit(operation: Json) -> None:
    with pytest.raises(ApiError) as caught:
        jsonpatch.apply({"a": [1, 2, 3]}, [operation])

    assert caught.value.code == 422


@pytest.mark.parametrize(
    ("patch", "merged"),
    [({"a": None}, {}), ({"a": {"b": None, "c": 1}}, {"a": {"c": 1}}), ({"a": [1]}, {"a": [1]}), ({}, {"a": {"b": 1}})],
)
def test_merge_patches(patch: Json, merged: Json) -> None:
    assert jsonpatch.merge({"a": {"b": 1}}, patch) == merged


def test_doubled_keys_are_named() -> None:
    body = bodies.of_json(b'{"a": {"b": 1, "b": 2}, "c": [{"d": 1, "d": 1}]}', "x")

    assert body.value == {"a": {"b": 2}, "c": [{"d": 1}]}
    assert body.doubled == ('duplicate field "a.b"', 'duplicate field "c[0].d"')


def test_yaml_is_read_as_kubernetes_reads_it() -> None:
    body = bodies.of_yaml(b"a: 2001-01-01\nb: yes\n3: x\na: again\n")

    assert body.value == {"a": "again", "b": True, "3": "x"}
    assert body.doubled == ('line 4: key "a" already set in map',)


def test_protobuf_of_a_kind_that_is_not_in_the_table_is_refused() -> None:
    envelope = protobuf.MAGIC + b"\x0a\x00\x12\x02\x0a\x00"
    with pytest.raises(ApiError) as caught:
        protobuf.written(envelope, kinds.named("deployments"))

    assert caught.value.code == 501


@pytest.mark.parametrize("text", [b"{}", protobuf.MAGIC + b"\x12\x7f", protobuf.MAGIC + b"\x12\x03\x0a\x7f\x00"])
def test_protobuf_that_is_none(text: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        protobuf.written(text, kinds.named("secrets"))

    assert caught.value.code == 400
