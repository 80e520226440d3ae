"""The list of pull secrets of a service account: one atomic list, so whoever writes it writes all of it."""

import pytest

from tests.contract.conversation import JSON_PATCH, MERGE, STRATEGIC, Caller, Json, cause, failure, owned, settled


@pytest.fixture
def path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/serviceaccounts/app"


def account(*names: str, **metadata: Json) -> Json:
    body: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", **metadata}}
    return body | ({"imagePullSecrets": [{"name": name} for name in names]} if names else {})


async def made_by_human(human: Caller, path: str, *names: str) -> None:
    answer = await human.post(path.removesuffix("/app"), account(*names), fieldManager="kubectl-create")
    assert answer.status == 201


def names(body: Json) -> list[str]:
    return [entry["name"] for entry in body.get("imagePullSecrets", [])]


REJECTED = failure(422, "Invalid", "the server rejected our request due to an error in our request") | {"details": {}}


async def test_apply_stops_at_a_list_that_somebody_else_made(human: Caller, path: str) -> None:
    await made_by_human(human, path, "theirs")
    answer = await human.apply(path, account("ar-pull-secret"))

    assert answer.status == 409
    assert answer.body == failure(
        409,
        "Conflict",
        'Apply failed with 1 conflict: conflict with "kubectl-create" using v1: .imagePullSecrets',
        causes=[cause("FieldManagerConflict", 'conflict with "kubectl-create" using v1', ".imagePullSecrets")],
    )


async def test_apply_with_force_replaces_the_whole_list(human: Caller, path: str) -> None:
    await made_by_human(human, path, "theirs")
    answer = await human.apply(path, account("ar-pull-secret"), force="true")

    assert answer.status == 200
    assert names(answer.body) == ["ar-pull-secret"]
    assert settled(answer.body)["metadata"]["managedFields"] == [owned("pullkeeper", {"f:imagePullSecrets": {}})]


@pytest.mark.parametrize("content_type", [MERGE, STRATEGIC])
async def test_a_merge_replaces_the_whole_list(human: Caller, path: str, content_type: str) -> None:
    await made_by_human(human, path, "theirs")
    patch = {"imagePullSecrets": [{"name": "ar-pull-secret"}]}
    answer = await human.send("PATCH", path, patch, content_type=content_type, fieldManager="pullkeeper")

    assert answer.status == 200
    assert names(answer.body) == ["ar-pull-secret"]


async def test_a_merge_with_the_version_read_adds_one_name(human: Caller, path: str) -> None:
    await made_by_human(human, path, "theirs")
    read = await human.get(path)
    patch = {
        "metadata": {"resourceVersion": read.version},
        "imagePullSecrets": [*read.body["imagePullSecrets"], {"name": "ar-pull-secret"}],
    }
    first = await human.send("PATCH", path, patch, content_type=MERGE, fieldManager="pullkeeper")
    late = await human.send("PATCH", path, patch, content_type=MERGE, fieldManager="pullkeeper")

    assert first.status == 200
    assert names(first.body) == ["theirs", "ar-pull-secret"]
    assert settled(first.body)["metadata"]["managedFields"] == [
        owned("pullkeeper", {"f:imagePullSecrets": {}}, operation="Update")
    ]
    assert late.status == 409
    assert late.body == failure(
        409,
        "Conflict",
        'Operation cannot be fulfilled on serviceaccounts "app": the object has been modified; please apply your '
        "changes to the latest version and try again",
        name="app",
        kind="serviceaccounts",
    )


async def test_a_json_patch_appends_to_a_list(human: Caller, path: str) -> None:
    await made_by_human(human, path, "theirs")
    patch = [{"op": "add", "path": "/imagePullSecrets/-", "value": {"name": "ar-pull-secret"}}]
    answer = await human.send("PATCH", path, patch, content_type=JSON_PATCH, fieldManager="pullkeeper")

    assert answer.status == 200
    assert names(answer.body) == ["theirs", "ar-pull-secret"]


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "add", "path": "/imagePullSecrets/-", "value": {"name": "ar-pull-secret"}}],
        [{"op": "remove", "path": "/imagePullSecrets/0"}],
    ],
)
async def test_a_json_patch_of_a_list_that_is_not_there(human: Caller, path: str, patch: list[Json]) -> None:
    await made_by_human(human, path)
    answer = await human.send("PATCH", path, patch, content_type=JSON_PATCH)

    assert answer.status == 422
    assert answer.body == REJECTED


async def test_a_json_patch_removes_what_it_first_tested(human: Caller, path: str) -> None:
    await made_by_human(human, path, "ar-pull-secret", "theirs")
    patch = [
        {"op": "test", "path": "/imagePullSecrets/0/name", "value": "ar-pull-secret"},
        {"op": "remove", "path": "/imagePullSecrets/0"},
    ]
    removed = await human.send("PATCH", path, patch, content_type=JSON_PATCH)
    again = await human.send("PATCH", path, patch, content_type=JSON_PATCH)

    assert removed.status == 200
    assert names(removed.body) == ["theirs"]
    assert again.status == 422
    assert again.body == REJECTED


async def test_a_merge_with_null_takes_the_list_away(human: Caller, path: str) -> None:
    await made_by_human(human, path, "ar-pull-secret")
    answer = await human.send("PATCH", path, {"imagePullSecrets": None}, content_type=MERGE)

    assert answer.status == 200
    assert "imagePullSecrets" not in answer.body


async def test_a_patch_of_an_account_that_is_not_there(human: Caller, path: str) -> None:
    answer = await human.send("PATCH", path, account("a"), content_type=MERGE)

    assert answer.status == 404
    assert answer.body == failure(
        404, "NotFound", 'serviceaccounts "app" not found', name="app", kind="serviceaccounts"
    )


async def test_a_merge_of_an_unknown_field_warns(human: Caller, path: str) -> None:
    await made_by_human(human, path, "theirs")
    answer = await human.send("PATCH", path, {"nope": 1}, content_type=MERGE)

    assert answer.status == 200
    assert answer.headers["warning"] == '299 - "unknown field \\"nope\\""'


async def test_labels_and_annotations_leave_the_list_alone(human: Caller, path: str) -> None:
    """What onboarding applies for workload identity."""
    await made_by_human(human, path, "theirs")
    answer = await human.apply(
        path,
        account(
            annotations={"azure.workload.identity/client-id": "an-id"},
            labels={"azure.workload.identity/use": "true"},
        ),
    )

    assert answer.status == 200
    assert names(answer.body) == ["theirs"]
    assert answer.body["metadata"]["annotations"] == {"azure.workload.identity/client-id": "an-id"}
