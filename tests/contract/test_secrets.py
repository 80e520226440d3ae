"""What a pull secret may contain and what can never be changed."""

import base64

import pytest

from tests.contract.conversation import Caller, Json, auths, bare, cause, failure, pull_secret


def invalid(name: str, field: str, reason: str, complaint: str) -> Json:
    return failure(
        422,
        "Invalid",
        f'Secret "{name}" is invalid: {field}: {complaint}',
        name=name,
        kind="Secret",
        causes=[cause(reason, complaint, field)],
    )


@pytest.mark.parametrize("force", ["false", "true"])
async def test_the_type_never_changes(human: Caller, secrets: str, force: str) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret() | {"type": "Opaque"}, force=force)

    assert answer.status == 422
    assert answer.body == invalid(
        "ar-pull-secret", "type", "FieldValueInvalid", 'Invalid value: "Opaque": field is immutable'
    )


async def test_force_does_not_overcome_a_foreign_type(human: Caller, secrets: str) -> None:
    await human.post(secrets, bare() | {"data": {"a": ""}}, fieldManager="kubectl-create")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(), force="true")

    assert answer.status == 422
    assert answer.body == invalid(
        "ar-pull-secret",
        "type",
        "FieldValueInvalid",
        'Invalid value: "kubernetes.io/dockerconfigjson": field is immutable',
    )


@pytest.mark.parametrize("data", [{}, {"x": "eA=="}])
async def test_a_pull_secret_without_its_key(human: Caller, secrets: str, data: Json) -> None:
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret() | {"data": data})

    assert answer.status == 422
    assert answer.body == invalid("ar-pull-secret", "data[.dockerconfigjson]", "FieldValueRequired", "Required value")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("not json", "invalid character 'o' in literal null (expecting 'u')"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ('"x"', "json: cannot unmarshal string into Go value of type map[string]interface {}"),
        ("3", "json: cannot unmarshal number into Go value of type map[string]interface {}"),
    ],
)
async def test_a_pull_secret_that_is_no_json_object(human: Caller, secrets: str, content: str, complaint: str) -> None:
    data = {".dockerconfigjson": base64.b64encode(content.encode()).decode()}
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret() | {"data": data})

    assert answer.status == 422
    assert answer.body == invalid(
        "ar-pull-secret",
        "data[.dockerconfigjson]",
        "FieldValueInvalid",
        f'Invalid value: "<secret contents redacted>": {complaint}',
    )


@pytest.mark.parametrize("content", ["{}", "null", '{"auths":[]}'])
async def test_any_json_object_passes_for_a_pull_secret(human: Caller, secrets: str, content: str) -> None:
    """The server does not look further: an empty pull secret is nobody's mistake but ours."""
    data = {".dockerconfigjson": base64.b64encode(content.encode()).decode()}
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret() | {"data": data})

    assert answer.status == 201


async def test_several_complaints_come_at_once(human: Caller, secrets: str) -> None:
    answer = await human.apply(f"{secrets}/tls", bare("tls") | {"type": "kubernetes.io/tls", "data": {}})

    assert answer.status == 422
    assert answer.body == failure(
        422,
        "Invalid",
        'Secret "tls" is invalid: [data[tls.crt]: Required value, data[tls.key]: Required value]',
        name="tls",
        kind="Secret",
        causes=[
            cause("FieldValueRequired", "Required value", "data[tls.crt]"),
            cause("FieldValueRequired", "Required value", "data[tls.key]"),
        ],
    )


async def test_a_secret_holds_one_mebibyte(human: Caller, secrets: str) -> None:
    fits = base64.b64encode(b"x" * 1024 * 1024).decode()
    exceeds = base64.b64encode(b"x" * (1024 * 1024 + 1)).decode()
    answer = await human.apply(f"{secrets}/large", bare("large") | {"data": {"x": fits}})
    refused = await human.apply(f"{secrets}/larger", bare("larger") | {"data": {"x": exceeds}})

    assert answer.status == 201
    assert refused.status == 422
    assert refused.body == invalid(
        "larger", "data", "FieldValueTooLong", "Too long: may not be more than 1048576 bytes"
    )


async def test_a_request_holds_three_mebibytes(human: Caller, secrets: str) -> None:
    answer = await human.apply(f"{secrets}/large", bare("large") | {"data": {"x": "e" * 3 * 1024 * 1024}})

    assert answer.status == 413
    assert answer.body == failure(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


async def test_immutable_data_stays(human: Caller, secrets: str) -> None:
    path = f"{secrets}/ar-pull-secret"
    created = await human.apply(path, pull_secret(token="one") | {"immutable": True})
    same = await human.apply(path, pull_secret(token="one") | {"immutable": True})
    labelled = await human.apply(path, pull_secret(token="one", labels={"a": "b"}) | {"immutable": True})
    changed = await human.apply(path, pull_secret(token="two") | {"immutable": True})
    freed = await human.apply(path, pull_secret(token="one"))

    assert (created.status, same.status, labelled.status) == (201, 200, 200)
    forbidden = "Forbidden: field is immutable when `immutable` is set"
    assert changed.status == 422
    assert changed.body == invalid("ar-pull-secret", "data", "FieldValueForbidden", forbidden)
    assert freed.status == 422
    assert freed.body == invalid("ar-pull-secret", "immutable", "FieldValueForbidden", forbidden)
    assert (await human.get(path)).body["data"] == {".dockerconfigjson": auths("one")}


async def test_a_name_that_is_none(human: Caller, secrets: str) -> None:
    answer = await human.apply(f"{secrets}/Bad_Name", pull_secret("Bad_Name"))

    complaint = (
        'Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
        "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex "
        r"used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )
    assert answer.status == 422
    assert answer.body == invalid("Bad_Name", "metadata.name", "FieldValueInvalid", complaint)


async def test_a_label_that_is_none(human: Caller, secrets: str) -> None:
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(labels={"x": "not valid!"}))

    complaint = (
        'Invalid value: "not valid!": a valid label must be an empty string or consist of alphanumeric characters, '
        "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
        "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    )
    assert answer.status == 422
    assert answer.body == invalid("ar-pull-secret", "metadata.labels", "FieldValueInvalid", complaint)


async def test_a_second_post_finds_the_first(human: Caller, secrets: str) -> None:
    await human.post(secrets, pull_secret())
    answer = await human.post(secrets, pull_secret())

    assert answer.status == 409
    assert answer.body == failure(
        409, "AlreadyExists", 'secrets "ar-pull-secret" already exists', name="ar-pull-secret", kind="secrets"
    )


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_secret_that_is_not_there(human: Caller, secrets: str, method: str) -> None:
    answer = await human.send(method, f"{secrets}/none")

    assert answer.status == 404
    assert answer.body == failure(404, "NotFound", 'secrets "none" not found', name="none", kind="secrets")


async def test_post_of_what_is_not_base64(human: Caller, secrets: str) -> None:
    """Where apply has no reason for its 500, POST has one."""
    answer = await human.post(secrets, pull_secret() | {"data": {".dockerconfigjson": "%%%"}})

    assert answer.status == 400
    assert answer.body == failure(
        400,
        "BadRequest",
        'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0',
    )


@pytest.mark.parametrize(
    ("validation", "status", "warning"),
    [
        ("Ignore", 201, None),
        ("Warn", 201, '299 - "unknown field \\"spec\\""'),
        ("", 201, '299 - "unknown field \\"spec\\""'),
        ("Strict", 400, None),
    ],
)
async def test_post_of_an_unknown_field(
    human: Caller, secrets: str, validation: str, status: int, warning: str | None
) -> None:
    answer = await human.post(secrets, pull_secret() | {"spec": {}}, fieldValidation=validation)

    assert answer.status == status
    assert answer.headers.get("warning") == warning
    if status == 400:
        assert answer.body == failure(
            400,
            "BadRequest",
            'Secret in version "v1" cannot be handled as a Secret: strict decoding error: unknown field "spec"',
        )
