"""Server-side apply: what it creates, updates and leaves alone."""

from tests.contract.conversation import (
    APPLIED_FIELDS,
    Caller,
    auths,
    owned,
    pull_secret,
    settled,
)


async def test_apply_creates(admin: Caller, namespace: str, secrets: str) -> None:
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(labels={"l": "x"}, annotations={"a": "1"}))

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


async def test_apply_updates_in_place(admin: Caller, secrets: str) -> None:
    created = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    updated = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))

    assert updated.status == 200
    assert updated.uid == created.uid
    assert int(updated.version) > int(created.version)
    assert updated.body["metadata"]["creationTimestamp"] == created.body["metadata"]["creationTimestamp"]
    assert updated.body["data"] == {".dockerconfigjson": auths("two")}


async def test_apply_that_changes_nothing_writes_nothing(admin: Caller, secrets: str) -> None:
    created = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret())
    again = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert again.status == 200
    assert again.body == created.body


async def test_apply_removes_what_the_manager_leaves_out(admin: Caller, secrets: str) -> None:
    await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(labels={"l": "x"}, annotations={"a": "1", "b": "2"}))
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(annotations={"b": "2"}))

    assert answer.body["metadata"]["annotations"] == {"b": "2"}
    assert "labels" not in answer.body["metadata"]


async def test_two_managers_own_what_each_of_them_applied(admin: Caller, secrets: str) -> None:
    await admin.apply(f"{secrets}/ar-pull-secret", pull_secret())
    label = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ar-pull-secret", "labels": {"o": "1"}}}
    answer = await admin.apply(f"{secrets}/ar-pull-secret", label, manager="other")

    assert answer.status == 200
    assert answer.body["data"] == {".dockerconfigjson": auths("one")}
    assert settled(answer.body)["metadata"]["managedFields"] == [
        owned("other", {"f:metadata": {"f:labels": {"f:o": {}}}}),
        owned("pullkeeper", APPLIED_FIELDS),
    ]


async def test_dry_run_of_a_creation_shows_it_and_stores_nothing(admin: Caller, secrets: str) -> None:
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(), dryRun="All")

    assert answer.status == 201
    assert "resourceVersion" not in answer.body["metadata"]
    assert "uid" in answer.body["metadata"]
    assert (await admin.get(f"{secrets}/ar-pull-secret")).status == 404


async def test_dry_run_of_an_update_shows_it_and_stores_nothing(admin: Caller, secrets: str) -> None:
    created = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"), dryRun="All")

    assert answer.status == 200
    assert answer.version == created.version
    assert answer.body["data"] == {".dockerconfigjson": auths("two")}
    assert (await admin.get(f"{secrets}/ar-pull-secret")).body == created.body
