"""The CronJob of the publisher's guide: how it is suspended."""

import pytest_asyncio

from tests.contract.conversation import MERGE, Caller, Json, recorded

SUSPENDED: Json = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "refresh"},
    "spec": {"suspend": True},
}


@pytest_asyncio.fixture(loop_scope="session")
async def path(admin: Caller, namespace: str) -> str:
    """A CronJob that was made with kubectl and is not suspended."""
    container = {"name": "refresh", "image": "google/cloud-sdk"}
    pod = {"restartPolicy": "Never", "containers": [container]}
    spec = {"schedule": "*/30 * * * *", "suspend": False, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    jobs = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    answer = await admin.post(jobs, SUSPENDED | {"spec": spec}, fieldManager="kubectl-create")
    assert answer.status == 201
    return f"{jobs}/refresh"


async def test_a_merge_suspends_it(admin: Caller, path: str) -> None:
    before = await admin.get(path)
    answer = await admin.send("PATCH", path, {"spec": {"suspend": True}}, content_type=MERGE, fieldManager="pullkeeper")

    assert answer.status == 200
    assert answer.uid == before.uid
    assert answer.body["spec"]["suspend"] is True
    assert answer.body["spec"]["schedule"] == "*/30 * * * *"


async def test_apply_without_force_conflicts_with_who_resumed_it(admin: Caller, path: str) -> None:
    answer = await admin.apply(path, SUSPENDED)

    assert answer.status == 409
    writer = '"kubectl-create" using batch/v1'
    assert answer.body == recorded("apply-conflict", writer=writer, path=".spec.suspend")


async def test_apply_with_force_suspends_it(admin: Caller, path: str) -> None:
    answer = await admin.apply(path, SUSPENDED, force="true")

    assert answer.status == 200
    assert answer.body["spec"]["suspend"] is True
    assert answer.body["spec"]["schedule"] == "*/30 * * * *"
