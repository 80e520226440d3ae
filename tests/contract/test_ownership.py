"""Who owns a field: how a plain apply tells drift and foreign secrets from our own, and how to look without reading."""

from tests.contract.conversation import (
    APPLIED_FIELDS,
    JSON_PATCH,
    MERGE,
    METADATA_ONLY,
    PULL_SECRET_FIELDS,
    Answer,
    Caller,
    Json,
    auths,
    bare,
    owned,
    pull_secret,
    recorded,
    settled,
)

DATA = ".data..dockerconfigjson"


def conflict(message: str, *causes: tuple[str, str]) -> Json:
    """A refusal whose causes are given as (writer as the message has it, field)."""
    each = [recorded("apply-conflict", writer=writer, path=path) for writer, path in causes]
    found = [cause for one in each for cause in one["details"]["causes"]]
    return each[0] | {"message": f"Apply failed with {message}", "details": {"causes": found}}


async def look(caller: Caller, path: str, name: str = "ar-pull-secret", **more: str) -> Answer:
    """A dry-run apply of the name alone, under a manager that owns nothing, asking for no content."""
    return await caller.apply(
        path, bare(name) | more, manager="pullkeeper-diagnosis", dryRun="All", accept=METADATA_ONLY
    )


async def test_apply_conflicts_with_the_type_of_another_manager_too(admin: Caller, secrets: str) -> None:
    theirs = bare() | {"data": {".dockerconfigjson": auths("theirs")}}
    await admin.post(secrets, theirs, fieldManager="kubectl-create")
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="ours"))

    assert answer.status == 409
    assert answer.body == conflict(
        f'2 conflicts: conflicts with "kubectl-create" using v1:\n- .type\n- {DATA}',
        ('"kubectl-create" using v1', ".type"),
        ('"kubectl-create" using v1', DATA),
    )


async def test_equal_values_do_not_conflict_but_are_shared(admin: Caller, secrets: str) -> None:
    await admin.post(secrets, pull_secret(), fieldManager="kubectl-create")
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 200
    shared = owned("pullkeeper", APPLIED_FIELDS)
    del shared["time"]  # an apply that changes no value has no time
    assert settled(answer.body)["metadata"]["managedFields"] == [
        shared,
        owned("kubectl-create", PULL_SECRET_FIELDS, operation="Update"),
    ]


async def test_force_takes_the_field_and_keeps_the_uid(admin: Caller, secrets: str) -> None:
    theirs = await admin.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="ours"), force="true")

    assert answer.status == 200
    assert answer.uid == theirs.uid
    assert answer.body["data"] == {".dockerconfigjson": auths("ours")}
    assert settled(answer.body)["metadata"]["managedFields"] == [
        owned("pullkeeper", APPLIED_FIELDS),
        owned("kubectl-create", {"f:data": {}, "f:type": {}}, operation="Update"),
    ]


async def test_after_force_a_plain_apply_suffices(admin: Caller, secrets: str) -> None:
    await admin.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"), force="true")
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))

    assert answer.status == 200
    assert answer.body["data"] == {".dockerconfigjson": auths("two")}


async def test_another_applier_is_named_without_a_version(admin: Caller, secrets: str) -> None:
    await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    await admin.apply(
        f"{secrets}/ar-pull-secret", pull_secret(token="theirs"), manager="argocd-controller", force="true"
    )
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))

    assert answer.status == 409
    assert answer.body == conflict(
        f'1 conflict: conflict with "argocd-controller": {DATA}', ('"argocd-controller"', DATA)
    )


async def test_several_managers_are_named(admin: Caller, secrets: str) -> None:
    ours: Json = {"labels": {"app": "pullkeeper"}, "annotations": {"pullkeeper.dev/issued-at": "1"}}
    theirs = {"labels": {"app": "me"}, "annotations": {"pullkeeper.dev/issued-at": "9"}}
    path = f"{secrets}/ar-pull-secret"
    await admin.apply(path, pull_secret(**ours))
    await admin.send("PATCH", path, {"metadata": theirs}, content_type=MERGE, fieldManager="kubectl-label")
    replace = [{"op": "add", "path": "/data/.dockerconfigjson", "value": auths("theirs")}]
    await admin.send("PATCH", path, replace, content_type=JSON_PATCH, fieldManager="kubectl-patch")
    answer = await admin.apply(path, pull_secret(token="two", **ours))

    assert answer.status == 409
    body = answer.body
    body["details"]["causes"].sort(key=lambda found: found["message"])  # the server gives them in no order
    assert body == conflict(
        '3 conflicts: conflicts with "kubectl-label" using v1:\n- .metadata.annotations.pullkeeper.dev/issued-at\n'
        f'- .metadata.labels.app\nconflicts with "kubectl-patch" using v1:\n- {DATA}',
        ('"kubectl-label" using v1', ".metadata.annotations.pullkeeper.dev/issued-at"),
        ('"kubectl-label" using v1', ".metadata.labels.app"),
        ('"kubectl-patch" using v1', DATA),
    )


async def test_an_annotation_that_was_removed_is_applied_again_without_conflict(admin: Caller, secrets: str) -> None:
    """A removal leaves no owner behind, so nothing conflicts."""
    path = f"{secrets}/ar-pull-secret"
    await admin.apply(path, pull_secret(annotations={"a": "1"}))
    removal = {"metadata": {"annotations": {"a": None}}}
    removed = await admin.send("PATCH", path, removal, content_type=MERGE, fieldManager="kubectl-annotate")
    answer = await admin.apply(path, pull_secret(annotations={"a": "1"}))

    assert settled(removed.body)["metadata"]["managedFields"] == [owned("pullkeeper", APPLIED_FIELDS)]
    assert answer.status == 200
    assert answer.body["metadata"]["annotations"] == {"a": "1"}


async def test_a_deleted_secret_comes_back_with_another_uid(admin: Caller, secrets: str) -> None:
    created = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret())
    deleted = await admin.delete(f"{secrets}/ar-pull-secret")
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert deleted.status == 200
    assert deleted.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": "ar-pull-secret", "kind": "secrets", "uid": created.uid},
    }
    assert answer.status == 201
    assert answer.uid != created.uid


async def test_the_answer_to_a_write_can_leave_the_token_out(admin: Caller, namespace: str, secrets: str) -> None:
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(annotations={"a": "1"}), accept=METADATA_ONLY)

    assert answer.status == 201
    assert settled(answer.body) == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            "name": "ar-pull-secret",
            "namespace": namespace,
            "uid": "...",
            "resourceVersion": "...",
            "creationTimestamp": "...",
            "annotations": {"a": "1"},
            "managedFields": [owned("pullkeeper", APPLIED_FIELDS | {"f:metadata": {"f:annotations": {"f:a": {}}}})],
        },
    }


async def test_a_refusal_is_a_status_whatever_was_asked_for(admin: Caller, secrets: str) -> None:
    await admin.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="ours"), accept=METADATA_ONLY)

    assert answer.status == 409
    assert answer.body["kind"] == "Status"
    assert answer.body == recorded("apply-conflict", writer='"kubectl-create" using v1', path=DATA)


async def test_the_look_shows_ours(admin: Caller, secrets: str) -> None:
    written = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret(annotations={"a": "1"}), accept=METADATA_ONLY)
    seen = await look(admin, f"{secrets}/ar-pull-secret")

    assert seen.status == 200
    assert seen.body == written.body


async def test_the_look_shows_who_owns_a_foreign_secret(admin: Caller, secrets: str) -> None:
    await admin.post(secrets, pull_secret(), fieldManager="kubectl-create")
    seen = await look(admin, f"{secrets}/ar-pull-secret")

    assert seen.status == 200
    assert seen.body["kind"] == "PartialObjectMetadata"
    assert settled(seen.body)["metadata"]["managedFields"] == [
        owned("kubectl-create", PULL_SECRET_FIELDS, operation="Update")
    ]


async def test_the_look_at_nothing(admin: Caller, namespace: str, secrets: str) -> None:
    seen = await look(admin, f"{secrets}/ar-pull-secret")

    assert seen.status == 201
    assert settled(seen.body) == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "ar-pull-secret", "namespace": namespace, "uid": "...", "creationTimestamp": "..."},
    }
    assert (await admin.get(f"{secrets}/ar-pull-secret")).status == 404


async def test_the_look_with_another_type_conflicts(admin: Caller, secrets: str) -> None:
    await admin.post(secrets, bare() | {"data": {"a": ""}}, fieldManager="kubectl-create")
    seen = await look(admin, f"{secrets}/ar-pull-secret", type="kubernetes.io/dockerconfigjson")

    assert seen.status == 409
    assert seen.body == conflict(
        '1 conflict: conflict with "kubectl-create" using v1: .type', ('"kubectl-create" using v1', ".type")
    )


async def test_the_look_with_the_same_type_succeeds(admin: Caller, secrets: str) -> None:
    await admin.apply(f"{secrets}/ar-pull-secret", pull_secret())
    seen = await look(admin, f"{secrets}/ar-pull-secret", type="kubernetes.io/dockerconfigjson")

    assert seen.status == 200


async def test_an_object_that_was_applied_as_a_name_only_has_no_owners(admin: Caller, namespace: str) -> None:
    """Later writers are not recorded, and an apply that differs conflicts with a manager that the server makes up."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/app"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}}
    await admin.apply(path, account)
    written = await admin.send(
        "PATCH", path, {"imagePullSecrets": [{"name": "a"}]}, content_type=MERGE, fieldManager="kubectl-patch"
    )
    answer = await admin.apply(path, account | {"imagePullSecrets": [{"name": "ar-pull-secret"}]})

    assert "managedFields" not in written.body["metadata"]
    assert answer.status == 409
    assert answer.body == conflict(
        '1 conflict: conflict with "before-first-apply" using v1: .imagePullSecrets',
        ('"before-first-apply" using v1', ".imagePullSecrets"),
    )


async def test_a_manager_that_drops_its_entry_owns_nothing_and_no_value_changes(admin: Caller, secrets: str) -> None:
    """A merge patch of the metadata alone: what was taken over is given back without being read, or changed."""
    path = f"{secrets}/ar-pull-secret"
    await admin.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    taken = await admin.apply(path, pull_secret(token="ours"), force="true")
    theirs = [entry for entry in taken.body["metadata"]["managedFields"] if entry["manager"] != "pullkeeper"]
    given = await rewrite_entries(admin, path, theirs)

    assert given.status == 200
    assert given.body["metadata"]["managedFields"] == theirs
    assert given.body["data"] == taken.body["data"]
    answer = await admin.apply(path, pull_secret(token="newer"))
    assert answer.status == 200


async def test_without_any_entry_the_first_apply_conflicts_with_before_first_apply(admin: Caller, secrets: str) -> None:
    path = f"{secrets}/ar-pull-secret"
    await admin.apply(path, pull_secret(token="ours"))
    given = await rewrite_entries(admin, path, [])
    answer = await admin.apply(path, pull_secret(token="newer"))

    assert "managedFields" not in given.body["metadata"]
    assert answer.status == 409
    assert answer.body == conflict(
        f'1 conflict: conflict with "before-first-apply" using v1: {DATA}', ('"before-first-apply" using v1', DATA)
    )


async def rewrite_entries(caller: Caller, path: str, entries: list[Json]) -> Answer:
    body = {"metadata": {"managedFields": entries}}
    return await caller.send("PATCH", path, body, content_type=MERGE, fieldManager="pullkeeper")
