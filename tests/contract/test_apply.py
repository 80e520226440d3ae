"""Server-side apply: what it creates, updates and leaves alone, and the requests that it cannot make sense of."""

import pytest

from tests.contract.conversation import (
    APPLIED_FIELDS,
    APPLY,
    MERGE,
    Caller,
    Json,
    auths,
    cause,
    failure,
    owned,
    pull_secret,
    settled,
)


async def test_apply_creates(human: Caller, namespace: str, secrets: str) -> None:
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(labels={"l": "x"}, annotations={"a": "1"}))

    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json"
    fields = APPLIED_FIELDS | {"f:metadata": {"f:annotations": {"f:a": {}}, "f:labels": {"f:l": {}}}}
    assert settled(answer.body) == {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {
            "name": "ar-pull-secret",
            "namespace": namespace,
            "uid": "...",
            "resourceVersion": "...",
            "creationTimestamp": "...",
            "labels": {"l": "x"},
            "annotations": {"a": "1"},
            "managedFields": [owned("pullkeeper", fields)],
        },
        "data": {".dockerconfigjson": auths("one")},
        "type": "kubernetes.io/dockerconfigjson",
    }


async def test_apply_updates_in_place(human: Caller, secrets: str) -> None:
    created = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    updated = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))

    assert updated.status == 200
    assert updated.uid == created.uid
    assert int(updated.version) > int(created.version)
    assert updated.body["metadata"]["creationTimestamp"] == created.body["metadata"]["creationTimestamp"]
    assert updated.body["data"] == {".dockerconfigjson": auths("two")}


async def test_apply_that_changes_nothing_writes_nothing(human: Caller, secrets: str) -> None:
    created = await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    again = await human.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert again.status == 200
    assert again.body == created.body


async def test_apply_takes_away_what_the_manager_no_longer_says(human: Caller, secrets: str) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret(labels={"l": "x"}, annotations={"a": "1", "b": "2"}))
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(annotations={"b": "2"}))

    assert answer.body["metadata"]["annotations"] == {"b": "2"}
    assert "labels" not in answer.body["metadata"]


async def test_two_managers_own_what_each_of_them_said(human: Caller, secrets: str) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    label = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ar-pull-secret", "labels": {"o": "1"}}}
    answer = await human.apply(f"{secrets}/ar-pull-secret", label, manager="other")

    assert answer.status == 200
    assert answer.body["data"] == {".dockerconfigjson": auths("one")}
    assert settled(answer.body)["metadata"]["managedFields"] == [
        owned("other", {"f:metadata": {"f:labels": {"f:o": {}}}}),
        owned("pullkeeper", APPLIED_FIELDS),
    ]


async def test_apply_of_string_data_is_stored_as_data_but_owned_as_string_data(human: Caller, secrets: str) -> None:
    body = pull_secret()
    del body["data"]
    answer = await human.apply(
        f"{secrets}/ar-pull-secret", body | {"stringData": {".dockerconfigjson": '{"auths":{}}'}}
    )

    assert answer.status == 201
    assert answer.body["data"] == {".dockerconfigjson": "eyJhdXRocyI6e319"}
    assert "stringData" not in answer.body
    assert settled(answer.body)["metadata"]["managedFields"] == [
        owned("pullkeeper", {"f:stringData": {"f:.dockerconfigjson": {}}, "f:type": {}})
    ]


async def test_apply_takes_yaml(human: Caller, secrets: str) -> None:
    answer = await human.apply(
        f"{secrets}/plain", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: plain\ndata: {a: eA==}\n"
    )

    assert answer.status == 201
    assert answer.body["data"] == {"a": "eA=="}
    assert answer.body["type"] == "Opaque"


async def test_dry_run_of_a_creation_shows_it_and_stores_nothing(human: Caller, secrets: str) -> None:
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(), dryRun="All")

    assert answer.status == 201
    assert "resourceVersion" not in answer.body["metadata"]
    assert "uid" in answer.body["metadata"]
    assert (await human.get(f"{secrets}/ar-pull-secret")).status == 404


async def test_dry_run_of_an_update_shows_it_and_stores_nothing(human: Caller, secrets: str) -> None:
    created = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"), dryRun="All")

    assert answer.status == 200
    assert answer.version == created.version
    assert answer.body["data"] == {".dockerconfigjson": auths("two")}
    assert (await human.get(f"{secrets}/ar-pull-secret")).body == created.body


UNTYPED = "failed to create typed patch object (/ar-pull-secret; /v1, Kind=Secret)"


@pytest.mark.parametrize("validation", ["Ignore", "Warn", "Strict"])
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"spec": {}}, ".spec: field not declared in schema"),
        ({"data": "x"}, ".data: expected map, got &{x}"),
        ({"type": 1}, ".type: expected string, got &value.valueUnstructured{Value:1}"),
        (
            {"metadata": {"name": "ar-pull-secret", "owner": "me"}},
            ".metadata.owner: field not declared in schema",
        ),
        (
            {"metadata": {"name": "ar-pull-secret", "annotations": {"a": 1}}},
            ".metadata.annotations.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
    ],
)
async def test_apply_of_a_field_that_the_schema_does_not_have(
    human: Caller, secrets: str, wrong: Json, complaint: str, validation: str
) -> None:
    """A 500 that no retry helps, and it looks the same whatever `fieldValidation` says."""
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret() | wrong, fieldValidation=validation)

    assert answer.status == 500
    assert answer.body == failure(500, None, f"{UNTYPED}: {complaint}")


@pytest.mark.parametrize(("value", "position"), [("%%%", 0), ("e30", 0), ("e30=%", 4)])
async def test_apply_of_what_is_not_base64(human: Caller, secrets: str, value: str, position: int) -> None:
    """Another 500 that no retry helps."""
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret() | {"data": {".dockerconfigjson": value}})

    assert answer.status == 500
    assert answer.body == failure(
        500,
        None,
        "failed to convert new object (/ar-pull-secret; /v1, Kind=Secret) to proper version: unable to convert "
        "unstructured object to /v1, Kind=Secret: error decoding from json: illegal base64 data at input byte "
        f"{position}",
    )


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"kind": "ConfigMap"}, "invalid object type: /v1, Kind=ConfigMap"),
        ({"apiVersion": "v2"}, "invalid object type: /v2, Kind=Secret"),
        (
            {"metadata": {"name": "other"}},
            "the name of the object (other) does not match the name on the URL (ar-pull-secret)",
        ),
        (
            {"metadata": {"name": "ar-pull-secret", "namespace": "default"}},
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            {"metadata": {}},
            "the name of the object (ar-pull-secret based on URL) was undeterminable: name must be provided",
        ),
        (
            {"metadata": {"name": "ar-pull-secret", "managedFields": []}},
            "metadata.managedFields must be nil",
        ),
    ],
)
async def test_apply_of_another_object_than_the_address_says(
    human: Caller, secrets: str, changed: Json, complaint: str
) -> None:
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret() | changed)

    assert answer.status == 400
    assert answer.body == failure(400, "BadRequest", complaint)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("", "invalid object type: /, Kind="),
        (
            "{",
            "error decoding patch: error converting YAML to JSON: yaml: line 1: did not find expected node content",
        ),
        (
            "[]",
            (
                "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array "
                "into Go value of type map[string]interface {}"
            ),
        ),
    ],
)
async def test_apply_of_a_broken_body(human: Caller, secrets: str, minor: int, body: str, complaint: str) -> None:
    answer = await human.apply(f"{secrets}/ar-pull-secret", body)

    if minor < 37:
        complaint = complaint.replace("decoding patch", "decoding YAML")
    assert answer.status == 400
    assert answer.body == failure(400, "BadRequest", complaint)


@pytest.mark.parametrize(
    ("query", "field", "reason", "complaint"),
    [
        ({"fieldManager": ""}, "fieldManager", "FieldValueRequired", "Required value: is required for apply patch"),
        (
            {"fieldManager": "m" * 129},
            "fieldManager",
            "FieldValueTooLong",
            "Too long: may not be more than 128 bytes",
        ),
        (
            {"dryRun": "Some"},
            "dryRun",
            "FieldValueNotSupported",
            'Unsupported value: ["Some"]: supported values: "All"',
        ),
        (
            {"fieldValidation": "Loud"},
            "fieldValidation",
            "FieldValueNotSupported",
            'Unsupported value: "Loud": supported values: "", "Ignore", "Strict", "Warn"',
        ),
    ],
)
async def test_apply_with_an_option_that_there_is_not(
    human: Caller, secrets: str, *, query: dict[str, str], field: str, reason: str, complaint: str
) -> None:
    answer = await human.send(
        "PATCH",
        f"{secrets}/ar-pull-secret",
        pull_secret(),
        content_type=APPLY,
        **{"fieldManager": "pullkeeper", **query},
    )

    assert answer.status == 422
    assert answer.body == failure(
        422,
        "Invalid",
        f'PatchOptions.meta.k8s.io "" is invalid: {field}: {complaint}',
        group="meta.k8s.io",
        kind="PatchOptions",
        causes=[cause(reason, complaint, field)],
    )


async def test_force_is_for_apply_alone(human: Caller, secrets: str) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    answer = await human.send("PATCH", f"{secrets}/ar-pull-secret", {}, content_type=MERGE, force="true")

    assert answer.status == 422
    assert answer.body["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch'
    )


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_patch_of_a_content_type_that_there_is_not(human: Caller, secrets: str, content_type: str) -> None:
    answer = await human.send(
        "PATCH", f"{secrets}/ar-pull-secret", pull_secret(), content_type=content_type, fieldManager="pullkeeper"
    )

    assert answer.status == 415
    assert answer.body == failure(415, "UnsupportedMediaType", "415: Unsupported Media Type") | {"details": {}}


async def test_apply_with_an_old_resource_version(human: Caller, secrets: str) -> None:
    old = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="three", resourceVersion=old.version))

    assert answer.status == 409
    assert answer.body == failure(
        409,
        "Conflict",
        'Operation cannot be fulfilled on secrets "ar-pull-secret": the object has been modified; please apply '
        "your changes to the latest version and try again",
        name="ar-pull-secret",
        kind="secrets",
    )


STRANGE_UID = "11111111-1111-1111-1111-111111111111"


async def test_apply_with_another_uid(human: Caller, secrets: str, minor: int) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(uid=STRANGE_UID))

    complaint = f'Invalid value: "{STRANGE_UID}": field is immutable'
    assert answer.status == 422
    assert answer.body == failure(
        422,
        "Invalid",
        f'Secret "ar-pull-secret" is invalid: metadata.uid: {complaint}',
        name="ar-pull-secret",
        kind="Secret",
        causes=[cause("FieldValueInvalid", complaint, "metadata.uid")] * (1 if minor >= 37 else 2),
    )


async def test_apply_with_a_uid_creates_nothing(human: Caller, secrets: str) -> None:
    """How to say: only if it is still the one that I know."""
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(uid=STRANGE_UID))

    assert answer.status == 409
    assert answer.body == failure(
        409,
        "Conflict",
        'Operation cannot be fulfilled on secrets "ar-pull-secret": uid mismatch: the provided object specified '
        f"uid {STRANGE_UID}, and no existing object was found",
        name="ar-pull-secret",
        kind="secrets",
    )
