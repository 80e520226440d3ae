"""The list of pull secrets of a service account: one atomic list, so each writer writes all of it."""

import pytest

from tests.contract.conversation import JSON_PATCH, MERGE, Caller, Json, owned, recorded, settled


@pytest.fixture
def path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/serviceaccounts/app"


def account(*names: str, **metadata: Json) -> Json:
    body: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", **metadata}}
    return body | ({"imagePullSecrets": [{"name": name} for name in names]} if names else {})


async def made_by_kubectl(admin: Caller, path: str, *names: str) -> None:
    answer = await admin.post(path.removesuffix("/app"), account(*names), fieldManager="kubectl-create")
    assert answer.status == 201


def names(body: Json) -> list[str]:
    return [entry["name"] for entry in body.get("imagePullSecrets", [])]


async def test_apply_with_force_replaces_the_whole_list(admin: Caller, path: str) -> None:
    await made_by_kubectl(admin, path, "theirs")
    answer = await admin.apply(path, account("ar-pull-secret"), force="true")

    assert answer.status == 200
    assert names(answer.body) == ["ar-pull-secret"]
    assert settled(answer.body)["metadata"]["managedFields"] == [owned("pullkeeper", {"f:imagePullSecrets": {}})]


async def test_a_merge_replaces_the_whole_list(admin: Caller, path: str) -> None:
    await made_by_kubectl(admin, path, "theirs")
    patch = {"imagePullSecrets": [{"name": "ar-pull-secret"}]}
    answer = await admin.send("PATCH", path, patch, content_type=MERGE, fieldManager="pullkeeper")

    assert answer.status == 200
    assert names(answer.body) == ["ar-pull-secret"]


async def test_a_merge_with_the_version_read_adds_one_name(admin: Caller, path: str) -> None:
    await made_by_kubectl(admin, path, "theirs")
    read = await admin.get(path)
    patch = {
        "metadata": {"resourceVersion": read.version},
        "imagePullSecrets": [*read.body["imagePullSecrets"], {"name": "ar-pull-secret"}],
    }
    first = await admin.send("PATCH", path, patch, content_type=MERGE, fieldManager="pullkeeper")
    late = await admin.send("PATCH", path, patch, content_type=MERGE, fieldManager="pullkeeper")

    assert first.status == 200
    assert names(first.body) == ["theirs", "ar-pull-secret"]
    assert settled(first.body)["metadata"]["managedFields"] == [
        owned("pullkeeper", {"f:imagePullSecrets": {}}, operation="Update")
    ]
    assert late.status == 409
    assert late.body == recorded("modified", resource="serviceaccounts", qualified="serviceaccounts", name="app")


async def test_a_json_patch_appends_to_a_list(admin: Caller, path: str) -> None:
    await made_by_kubectl(admin, path, "theirs")
    patch = [{"op": "add", "path": "/imagePullSecrets/-", "value": {"name": "ar-pull-secret"}}]
    answer = await admin.send("PATCH", path, patch, content_type=JSON_PATCH, fieldManager="pullkeeper")

    assert answer.status == 200
    assert names(answer.body) == ["theirs", "ar-pull-secret"]


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "add", "path": "/imagePullSecrets/-", "value": {"name": "ar-pull-secret"}}],
        [{"op": "remove", "path": "/imagePullSecrets/0"}],
    ],
)
async def test_a_json_patch_of_a_list_that_is_not_there(admin: Caller, path: str, patch: list[Json]) -> None:
    await made_by_kubectl(admin, path)
    answer = await admin.send("PATCH", path, patch, content_type=JSON_PATCH)

    assert answer.status == 422
    assert answer.body == recorded("json-patch-unfit")


async def test_a_json_patch_removes_what_it_first_tested(admin: Caller, path: str) -> None:
    await made_by_kubectl(admin, path, "ar-pull-secret", "theirs")
    patch = [
        {"op": "test", "path": "/imagePullSecrets/0/name", "value": "ar-pull-secret"},
        {"op": "remove", "path": "/imagePullSecrets/0"},
    ]
    removed = await admin.send("PATCH", path, patch, content_type=JSON_PATCH)
    again = await admin.send("PATCH", path, patch, content_type=JSON_PATCH)

    assert removed.status == 200
    assert names(removed.body) == ["theirs"]
    assert again.status == 422
    assert again.body == recorded("json-patch-unfit")


async def test_a_merge_with_null_removes_the_list(admin: Caller, path: str) -> None:
    await made_by_kubectl(admin, path, "ar-pull-secret")
    answer = await admin.send("PATCH", path, {"imagePullSecrets": None}, content_type=MERGE)

    assert answer.status == 200
    assert "imagePullSecrets" not in answer.body


async def test_labels_and_annotations_leave_the_list_alone(admin: Caller, path: str) -> None:
    """What onboarding applies for workload identity."""
    await made_by_kubectl(admin, path, "theirs")
    answer = await admin.apply(
        path,
        account(
            annotations={"azure.workload.identity/client-id": "an-id"},
            labels={"azure.workload.identity/use": "true"},
        ),
    )

    assert answer.status == 200
    assert names(answer.body) == ["theirs"]
    assert answer.body["metadata"]["annotations"] == {"azure.workload.identity/client-id": "an-id"}
