"""Namespaces that are not there, that go, and that took a role with them."""

import uuid

import pytest

from local.azure.entra import Identity
from tests.contract.cluster import Cluster
from tests.contract.conversation import (
    Answer,
    Caller,
    Json,
    auths,
    bare,
    cause,
    failure,
    owned,
    pull_secret,
    settled,
    until,
)

NAMED = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ar-pull-secret"]}


async def delete_namespace(human: Caller, namespace: str) -> None:
    """Delete it to the end. The real server alone would leave it Terminating, as no controller empties it."""
    path = f"/api/v1/namespaces/{namespace}"
    answer = await human.delete(path)
    assert answer.status == 200
    body = answer.body
    body["spec"]["finalizers"] = []
    assert (await human.put(f"{path}/finalize", body)).status == 200
    assert (await human.get(path)).status == 404


def forbidden(identity: Identity, verb: str, namespace: str, name: str = "ar-pull-secret") -> Json:
    return failure(
        403,
        "Forbidden",
        f'secrets "{name}" is forbidden: User "{identity.principal_id}" cannot {verb} resource "secrets" in API '
        f'group "" in the namespace "{namespace}"',
        name=name,
        kind="secrets",
    )


@pytest.mark.parametrize("dry_run", [{}, {"dryRun": "All"}])
async def test_a_namespace_that_never_was(human: Caller, dry_run: dict[str, str]) -> None:
    answer = await human.apply("/api/v1/namespaces/gone/secrets/ar-pull-secret", pull_secret(), **dry_run)

    assert answer.status == 404
    assert answer.body == failure(404, "NotFound", 'namespaces "gone" not found', name="gone", kind="namespaces")


async def test_reading_from_a_namespace_that_never_was(human: Caller) -> None:
    """Reading asks the store, not the namespace."""
    one = await human.get("/api/v1/namespaces/gone/secrets/ar-pull-secret")
    every = await human.get("/api/v1/namespaces/gone/secrets")

    assert one.status == 404
    assert one.body == failure(
        404, "NotFound", 'secrets "ar-pull-secret" not found', name="ar-pull-secret", kind="secrets"
    )
    assert every.status == 200
    assert every.body["items"] == []


async def test_a_missing_namespace_looks_like_a_missing_role(app: Caller, identity: Identity) -> None:
    answer = await app.apply("/api/v1/namespaces/gone/secrets/ar-pull-secret", pull_secret())

    assert answer.status == 403
    assert answer.body == forbidden(identity, "patch", "gone")


async def test_a_role_that_went_with_its_namespace(
    cluster: Cluster, namespace: str, secrets: str, identity: Identity, app: Caller
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch", "create"]})
    before = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    for path in (f"{secrets}/ar-pull-secret", f"{rbac}/rolebindings/refresher", f"{rbac}/roles/refresher"):
        assert (await cluster.human.delete(path)).status == 200
    await delete_namespace(cluster.human, namespace)

    async def again() -> Answer:
        return await app.apply(f"{secrets}/ar-pull-secret", pull_secret())

    answer = await until(again, lambda answer: answer.status == 403)
    assert before.status == 201
    assert answer.body == forbidden(identity, "patch", namespace)


async def test_a_terminating_namespace_takes_updates_and_nothing_new(
    human: Caller, namespace: str, secrets: str
) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    deleted = await human.delete(f"/api/v1/namespaces/{namespace}")
    updated = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))
    created = await human.apply(f"{secrets}/new", pull_secret("new"))

    assert deleted.status == 200
    assert deleted.body["status"] == {"phase": "Terminating"}
    assert "deletionTimestamp" in deleted.body["metadata"]
    assert updated.status == 200
    assert updated.body["data"] == {".dockerconfigjson": auths("two")}
    assert created.status == 403
    assert created.body == failure(
        403,
        "Forbidden",
        f'secrets "new" is forbidden: unable to create new content in namespace {namespace} because it is being '
        "terminated",
        name="new",
        kind="secrets",
        causes=[cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")],
    )


async def test_the_look_into_a_terminating_namespace(human: Caller, namespace: str, secrets: str) -> None:
    await human.delete(f"/api/v1/namespaces/{namespace}")
    seen = await human.apply(f"{secrets}/new", bare("new"), manager="pullkeeper-diagnosis", dryRun="All")

    assert seen.status == 403
    assert seen.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"


async def test_a_namespace_is_born_with_its_name_as_a_label(human: Caller) -> None:
    name = f"t-{uuid.uuid4().hex[:12]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    created = await human.apply(f"/api/v1/namespaces/{name}", body)

    assert created.status == 201
    assert settled(created.body) == {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": "...",
            "resourceVersion": "...",
            "creationTimestamp": "...",
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


async def test_the_second_apply_of_a_bare_namespace_writes_once_more(human: Caller) -> None:
    """It has values that nobody owns, so the server makes up who had them before. Only the third finds all done."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    first, second, third = [await human.apply(f"/api/v1/namespaces/{name}", body) for _ in range(3)]

    assert (first.status, second.status, third.status) == (201, 200, 200)
    label: Json = {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}
    assert settled(second.body)["metadata"]["managedFields"] == [
        owned(
            "before-first-apply",
            {"f:metadata": label, "f:spec": {"f:finalizers": {}}},
            operation="Update",
        )
    ]
    assert second.version != first.version
    assert third.body == second.body


async def test_a_namespace_name_has_no_dots(human: Caller) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a.b"}}
    answer = await human.apply("/api/v1/namespaces/a.b", body)

    complaint = 'Invalid value: "a.b": must not contain dots'
    assert answer.status == 422
    assert answer.body == failure(
        422,
        "Invalid",
        f'Namespace "a.b" is invalid: metadata.name: {complaint}',
        name="a.b",
        kind="Namespace",
        causes=[cause("FieldValueInvalid", complaint, "metadata.name")],
    )


async def test_the_default_namespace_stays(human: Caller) -> None:
    answer = await human.delete("/api/v1/namespaces/default")

    assert answer.status == 403
    assert answer.body == failure(
        403,
        "Forbidden",
        'namespaces "default" is forbidden: this namespace may not be deleted',
        name="default",
        kind="namespaces",
    )
