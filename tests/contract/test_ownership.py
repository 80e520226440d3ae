"""Who owns a field: how a plain apply tells drift and foreign secrets from our own, and how to look without reading."""

import pytest

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
    cause,
    failure,
    owned,
    pull_secret,
    settled,
)

DATA = ".data..dockerconfigjson"


def conflict(message: str, *causes: tuple[str, str]) -> Json:
    """A refusal whose causes are given as (manager as the message has it, field)."""
    return failure(
        409,
        "Conflict",
        f"Apply failed with {message}",
        causes=[cause("FieldManagerConflict", f"conflict with {who}", field) for who, field in causes],
    )


async def look(caller: Caller, path: str, name: str = "ar-pull-secret", **more: str) -> Answer:
    """A dry-run apply of the name alone, under a manager that owns nothing, asking for no content."""
    return await caller.apply(
        path, bare(name) | more, manager="pullkeeper-diagnosis", dryRun="All", accept=METADATA_ONLY
    )


async def test_apply_stops_at_what_somebody_else_made(human: Caller, secrets: str) -> None:
    await human.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="ours"))

    assert answer.status == 409
    assert answer.body == conflict(
        f'1 conflict: conflict with "kubectl-create" using v1: {DATA}', ('"kubectl-create" using v1', DATA)
    )


async def test_apply_stops_at_a_foreign_type_too(human: Caller, secrets: str) -> None:
    theirs = bare() | {"data": {".dockerconfigjson": auths("theirs")}}
    await human.post(secrets, theirs, fieldManager="kubectl-create")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="ours"))

    assert answer.status == 409
    assert answer.body == conflict(
        f'2 conflicts: conflicts with "kubectl-create" using v1:\n- .type\n- {DATA}',
        ('"kubectl-create" using v1', ".type"),
        ('"kubectl-create" using v1', DATA),
    )


async def test_equal_values_do_not_conflict_but_are_shared(human: Caller, secrets: str) -> None:
    await human.post(secrets, pull_secret(), fieldManager="kubectl-create")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 200
    shared = owned("pullkeeper", APPLIED_FIELDS)
    del shared["time"]  # an apply that changes no value has no time
    assert settled(answer.body)["metadata"]["managedFields"] == [
        shared,
        owned("kubectl-create", PULL_SECRET_FIELDS, operation="Update"),
    ]


async def test_force_takes_the_field_and_keeps_the_uid(human: Caller, secrets: str) -> None:
    theirs = await human.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="ours"), force="true")

    assert answer.status == 200
    assert answer.uid == theirs.uid
    assert answer.body["data"] == {".dockerconfigjson": auths("ours")}
    assert settled(answer.body)["metadata"]["managedFields"] == [
        owned("pullkeeper", APPLIED_FIELDS),
        owned("kubectl-create", {"f:data": {}, "f:type": {}}, operation="Update"),
    ]


async def test_after_force_a_plain_apply_suffices(human: Caller, secrets: str) -> None:
    await human.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"), force="true")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))

    assert answer.status == 200
    assert answer.body["data"] == {".dockerconfigjson": auths("two")}


async def test_a_human_edit_is_named(human: Caller, secrets: str) -> None:
    secret = (await human.apply(f"{secrets}/ar-pull-secret", pull_secret())).body
    secret["data"] = {".dockerconfigjson": auths("edited")}
    edited = await human.put(f"{secrets}/ar-pull-secret", secret, fieldManager="kubectl-edit")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))

    assert edited.status == 200
    assert settled(edited.body)["metadata"]["managedFields"] == [
        owned("pullkeeper", {"f:type": {}}),
        owned("kubectl-edit", {"f:data": {"f:.dockerconfigjson": {}}}, operation="Update"),
    ]
    assert answer.status == 409
    assert answer.body == conflict(
        f'1 conflict: conflict with "kubectl-edit" using v1: {DATA}', ('"kubectl-edit" using v1', DATA)
    )


async def test_another_applier_is_named_without_a_version(human: Caller, secrets: str) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))
    await human.apply(
        f"{secrets}/ar-pull-secret", pull_secret(token="theirs"), manager="argocd-controller", force="true"
    )
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))

    assert answer.status == 409
    assert answer.body == conflict(
        f'1 conflict: conflict with "argocd-controller": {DATA}', ('"argocd-controller"', DATA)
    )


async def test_several_managers_are_named(human: Caller, secrets: str) -> None:
    ours: Json = {"labels": {"app": "pullkeeper"}, "annotations": {"pullkeeper.dev/issued-at": "1"}}
    theirs = {"labels": {"app": "me"}, "annotations": {"pullkeeper.dev/issued-at": "9"}}
    path = f"{secrets}/ar-pull-secret"
    await human.apply(path, pull_secret(**ours))
    await human.send("PATCH", path, {"metadata": theirs}, content_type=MERGE, fieldManager="kubectl-label")
    replace = [{"op": "replace", "path": "/data/.dockerconfigjson", "value": auths("theirs")}]
    await human.send("PATCH", path, replace, content_type=JSON_PATCH, fieldManager="kubectl-patch")
    answer = await human.apply(path, pull_secret(token="two", **ours))

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


async def test_an_annotation_that_somebody_took_away_comes_back_in_silence(human: Caller, secrets: str) -> None:
    """Taking away leaves no owner behind, so there is nobody to conflict with."""
    path = f"{secrets}/ar-pull-secret"
    await human.apply(path, pull_secret(annotations={"a": "1"}))
    removal = {"metadata": {"annotations": {"a": None}}}
    removed = await human.send("PATCH", path, removal, content_type=MERGE, fieldManager="kubectl-annotate")
    answer = await human.apply(path, pull_secret(annotations={"a": "1"}))

    assert settled(removed.body)["metadata"]["managedFields"] == [owned("pullkeeper", APPLIED_FIELDS)]
    assert answer.status == 200
    assert answer.body["metadata"]["annotations"] == {"a": "1"}


async def test_a_deleted_secret_comes_back_with_another_uid(human: Caller, secrets: str) -> None:
    created = await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    deleted = await human.delete(f"{secrets}/ar-pull-secret")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret())

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


async def test_the_answer_to_a_write_can_leave_the_token_out(human: Caller, namespace: str, secrets: str) -> None:
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(annotations={"a": "1"}), accept=METADATA_ONLY)

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


async def test_a_refusal_is_a_status_whatever_was_asked_for(human: Caller, secrets: str) -> None:
    await human.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="ours"), accept=METADATA_ONLY)

    assert answer.status == 409
    assert answer.body["kind"] == "Status"
    assert answer.body["details"]["causes"] == [
        cause("FieldManagerConflict", 'conflict with "kubectl-create" using v1', DATA)
    ]


async def test_the_look_shows_ours(human: Caller, secrets: str) -> None:
    written = await human.apply(f"{secrets}/ar-pull-secret", pull_secret(annotations={"a": "1"}), accept=METADATA_ONLY)
    seen = await look(human, f"{secrets}/ar-pull-secret")

    assert seen.status == 200
    assert seen.body == written.body


async def test_the_look_shows_who_owns_a_foreign_secret(human: Caller, secrets: str) -> None:
    await human.post(secrets, pull_secret(), fieldManager="kubectl-create")
    seen = await look(human, f"{secrets}/ar-pull-secret")

    assert seen.status == 200
    assert seen.body["kind"] == "PartialObjectMetadata"
    assert settled(seen.body)["metadata"]["managedFields"] == [
        owned("kubectl-create", PULL_SECRET_FIELDS, operation="Update")
    ]


async def test_the_look_at_nothing(human: Caller, namespace: str, secrets: str) -> None:
    seen = await look(human, f"{secrets}/ar-pull-secret")

    assert seen.status == 201
    assert settled(seen.body) == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "ar-pull-secret", "namespace": namespace, "uid": "...", "creationTimestamp": "..."},
    }
    assert (await human.get(f"{secrets}/ar-pull-secret")).status == 404


async def test_the_look_with_a_type_meets_a_wrong_type(human: Caller, secrets: str) -> None:
    await human.post(secrets, bare() | {"data": {"a": ""}}, fieldManager="kubectl-create")
    seen = await look(human, f"{secrets}/ar-pull-secret", type="kubernetes.io/dockerconfigjson")

    assert seen.status == 409
    assert seen.body == conflict(
        '1 conflict: conflict with "kubectl-create" using v1: .type', ('"kubectl-create" using v1', ".type")
    )


async def test_the_look_with_a_type_passes_the_right_one(human: Caller, secrets: str) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    seen = await look(human, f"{secrets}/ar-pull-secret", type="kubernetes.io/dockerconfigjson")

    assert seen.status == 200


async def test_an_object_that_was_applied_as_a_name_only_has_no_owners(human: Caller, namespace: str) -> None:
    """Whoever writes into it later is not recorded, and an apply that differs conflicts with nobody in particular."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/app"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}}
    await human.apply(path, account)
    written = await human.send(
        "PATCH", path, {"imagePullSecrets": [{"name": "a"}]}, content_type=MERGE, fieldManager="kubectl-patch"
    )
    answer = await human.apply(path, account | {"imagePullSecrets": [{"name": "ar-pull-secret"}]})

    assert "managedFields" not in written.body["metadata"]
    assert answer.status == 409
    assert answer.body == conflict(
        '1 conflict: conflict with "before-first-apply" using v1: .imagePullSecrets',
        ('"before-first-apply" using v1', ".imagePullSecrets"),
    )


@pytest.mark.parametrize("manager", ["pullkeeper", "kubectl-create"])
async def test_without_a_name_the_manager_is_the_program(human: Caller, secrets: str, manager: str) -> None:
    """The first word of the User-Agent, when a write names no manager; an apply must name one."""
    named = await human.post(secrets, pull_secret("named"), fieldManager=manager)
    unnamed = await human.post(secrets, pull_secret("unnamed"))

    assert named.body["metadata"]["managedFields"][0]["manager"] == manager
    assert unnamed.body["metadata"]["managedFields"][0]["manager"] == "Python"


async def test_who_drops_his_entry_holds_nothing_any_more_and_every_value_is_as_it_was(
    human: Caller, secrets: str
) -> None:
    """A merge patch of the metadata alone: what was taken over is given back without being read, or changed."""
    path = f"{secrets}/ar-pull-secret"
    await human.post(secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    taken = await human.apply(path, pull_secret(token="ours"), force="true")
    theirs = [entry for entry in taken.body["metadata"]["managedFields"] if entry["manager"] != "pullkeeper"]
    given = await rewritten(human, path, theirs)

    assert given.status == 200
    assert given.body["metadata"]["managedFields"] == theirs
    assert given.body["data"] == taken.body["data"]
    answer = await human.apply(path, pull_secret(token="newer"))
    assert answer.status == 200, "nobody holds the content: whoever edits it next will"


@pytest.mark.parametrize("nobody", [[], [{}]], ids=str)
async def test_without_any_entry_the_first_to_apply_meets_whoever_was_before(
    human: Caller, secrets: str, nobody: list[Json]
) -> None:
    path = f"{secrets}/ar-pull-secret"
    await human.apply(path, pull_secret(token="ours"))
    given = await rewritten(human, path, nobody)
    answer = await human.apply(path, pull_secret(token="newer"))

    assert "managedFields" not in given.body["metadata"]
    assert answer.status == 409
    assert answer.body == conflict(
        f'1 conflict: conflict with "before-first-apply" using v1: {DATA}', ('"before-first-apply" using v1', DATA)
    )


async def rewritten(caller: Caller, path: str, entries: list[Json]) -> Answer:
    body = {"metadata": {"managedFields": entries}}
    return await caller.send("PATCH", path, body, content_type=MERGE, fieldManager="pullkeeper")
