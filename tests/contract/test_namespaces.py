"""Namespaces that are missing or terminating."""

import uuid

from local.azure.entra import Identity
from tests.contract.conversation import Caller, Json, auths, bare, owned, pull_secret, recorded, settled


async def test_reading_from_a_missing_namespace(admin: Caller) -> None:
    """Reading asks the store, not the namespace."""
    one = await admin.get("/api/v1/namespaces/gone/secrets/ar-pull-secret")
    every = await admin.get("/api/v1/namespaces/gone/secrets")

    assert one.status == 404
    assert one.body == recorded("not-found")
    assert every.status == 200
    assert every.body["items"] == []


async def test_a_missing_namespace_looks_like_a_missing_role(app: Caller, identity: Identity) -> None:
    answer = await app.apply("/api/v1/namespaces/gone/secrets/ar-pull-secret", pull_secret())

    assert answer.status == 403
    assert answer.body == recorded("forbidden", user=identity.principal_id, namespace="gone")


async def test_a_terminating_namespace_takes_updates_and_nothing_new(
    admin: Caller, namespace: str, secrets: str
) -> None:
    await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    deleted = await admin.delete(f"/api/v1/namespaces/{namespace}")
    updated = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))
    created = await admin.apply(f"{secrets}/new", pull_secret("new"))

    assert deleted.status == 200
    assert deleted.body["status"] == {"phase": "Terminating"}
    assert "deletionTimestamp" in deleted.body["metadata"]
    assert updated.status == 200
    assert updated.body["data"] == {".dockerconfigjson": auths("two")}
    assert created.status == 403
    assert created.body == recorded("namespace-terminating", name="new", namespace=namespace)


async def test_the_look_into_a_terminating_namespace(admin: Caller, namespace: str, secrets: str) -> None:
    await admin.delete(f"/api/v1/namespaces/{namespace}")
    seen = await admin.apply(f"{secrets}/new", bare("new"), manager="pullkeeper-diagnosis", dryRun="All")

    assert seen.status == 403
    assert seen.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"


async def test_a_new_namespace_has_its_name_as_a_label(admin: Caller) -> None:
    name = f"t-{uuid.uuid4().hex[:12]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    created = await admin.apply(f"/api/v1/namespaces/{name}", body)

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


async def test_the_second_apply_of_a_bare_namespace_writes_once_more(admin: Caller) -> None:
    """It has values without an owner, so the server records one for them. Only the third apply changes nothing."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    first, second, third = [await admin.apply(f"/api/v1/namespaces/{name}", body) for _ in range(3)]

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
