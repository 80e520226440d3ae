"""The older CronJob: how it is put to sleep."""

import pytest_asyncio

from tests.contract.conversation import MERGE, Caller, Json, cause, failure

SLEEP: Json = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "refresh"},
    "spec": {"suspend": True},
}


@pytest_asyncio.fixture(loop_scope="session")
async def path(human: Caller, namespace: str) -> str:
    """A CronJob that somebody made with kubectl, awake."""
    container = {"name": "refresh", "image": "google/cloud-sdk"}
    pod = {"restartPolicy": "Never", "containers": [container]}
    spec = {"schedule": "*/30 * * * *", "suspend": False, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    jobs = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    answer = await human.post(jobs, SLEEP | {"spec": spec}, fieldManager="kubectl-create")
    assert answer.status == 201
    return f"{jobs}/refresh"


async def test_a_merge_puts_it_to_sleep(human: Caller, path: str) -> None:
    before = await human.get(path)
    answer = await human.send("PATCH", path, {"spec": {"suspend": True}}, content_type=MERGE, fieldManager="pullkeeper")

    assert answer.status == 200
    assert answer.uid == before.uid
    assert answer.body["spec"]["suspend"] is True
    assert answer.body["spec"]["schedule"] == "*/30 * * * *"


async def test_apply_without_force_finds_who_woke_it(human: Caller, path: str) -> None:
    answer = await human.apply(path, SLEEP)

    assert answer.status == 409
    assert answer.body == failure(
        409,
        "Conflict",
        'Apply failed with 1 conflict: conflict with "kubectl-create" using batch/v1: .spec.suspend',
        causes=[cause("FieldManagerConflict", 'conflict with "kubectl-create" using batch/v1', ".spec.suspend")],
    )


async def test_apply_with_force_puts_it_to_sleep(human: Caller, path: str) -> None:
    answer = await human.apply(path, SLEEP, force="true")

    assert answer.status == 200
    assert answer.body["spec"]["suspend"] is True
    assert answer.body["spec"]["schedule"] == "*/30 * * * *"


async def test_one_that_is_not_there(human: Caller, path: str) -> None:
    answer = await human.send("PATCH", f"{path}-not", {"spec": {"suspend": True}}, content_type=MERGE)

    assert answer.status == 404
    assert answer.body == failure(
        404, "NotFound", 'cronjobs.batch "refresh-not" not found', name="refresh-not", group="batch", kind="cronjobs"
    )


async def test_deleted_it_says_so(human: Caller, path: str) -> None:
    uid = (await human.get(path)).uid
    answer = await human.delete(path, propagationPolicy="Background")

    assert answer.status == 200
    assert answer.body["status"] == "Success"
    assert answer.body["details"] == {"name": "refresh", "group": "batch", "kind": "cronjobs", "uid": uid}
