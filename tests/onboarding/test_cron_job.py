"""A cluster that runs the guide's CronJob: its secret is adopted, and the job suspended when it is not needed."""

from collections.abc import Sequence
from typing import Any

import pytest

from local.administrator import Administrator
from local.cloud import LocalCluster
from pullkeeper.errors import Forbidden
from pullkeeper.fleet.table import Member
from pullkeeper.model import Target
from pullkeeper.onboarding.phases import register
from pullkeeper.onboarding.work import Work
from pullkeeper.refresh.refresh import Refresher
from tests.onboarding.conftest import MERGE, NAMESPACE, Onboarding, create_namespace, describe, step

pytestmark = pytest.mark.servers
PATH = "/apis/batch/v1/namespaces/deepintshield/cronjobs/refresh-ar-secret"


@pytest.fixture
async def cluster(onboarding: Onboarding) -> LocalCluster:
    cluster = await onboarding.cluster("aks-1")
    await with_cron_job(cluster)
    return cluster


async def with_cron_job(cluster: LocalCluster, namespace: str = NAMESPACE) -> None:
    await create_namespace(cluster, namespace)
    await cluster.admin.create_secret(namespace, "ar-pull-secret", '{"auths":{}}')
    pod = {"containers": [{"name": "refresh", "image": "google/cloud-sdk:slim"}], "restartPolicy": "OnFailure"}
    job = {
        "metadata": {"name": "refresh-ar-secret"},
        "spec": {"schedule": "*/45 * * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}},
    }
    await cluster.admin.call("POST", f"/apis/batch/v1/namespaces/{namespace}/cronjobs", job)


async def is_suspended(cluster: LocalCluster) -> bool:
    return bool((await cluster.admin.call("GET", PATH))["spec"].get("suspend"))


async def test_the_secret_is_adopted_and_the_job_suspended_if_asked(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True, "retireCronJob": True})
    assert ended.status == "Succeeded", describe(ended)
    assert "adopted from kubectl-create" in (step(ended, "pull secret").detail or "")
    assert step(ended, "retire").detail == f"suspended {PATH}"
    assert await is_suspended(cluster)
    assert (await onboarding.world.read_token(cluster)).startswith("ya29.")


async def test_a_job_that_is_not_to_be_retired_keeps_running_and_is_reported(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True})
    assert step(ended, "retire").detail == (f"{PATH} still runs beside Pullkeeper: send retireCronJob to suspend it")
    assert not await is_suspended(cluster)


async def test_the_job_keeps_running_if_the_first_secret_cannot_be_written_or_the_cluster_cannot_join(
    onboarding: Onboarding, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"cluster": str(cluster.id), "hub": "main", "retireCronJob": True}
    ended = await onboarding.run(body)
    assert (ended.status, step(ended, "pull secret").category) == ("Failed", "secret_conflict")
    assert not await is_suspended(cluster)

    async def fail(work: Work) -> str:
        raise Forbidden(str(work.cluster))

    monkeypatch.setattr(register, "do", fail)
    ended = await onboarding.run({**body, "adopt": True})
    assert (ended.status, step(ended, "register").status) == ("Failed", "failed")
    assert not await is_suspended(cluster)


async def test_the_job_keeps_running_in_a_namespace_that_is_no_longer_named(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    """Nothing else refreshes the secret there now."""
    await onboarding.onboard(cluster, adopt=True)
    moved = {"adopt": True, "targets": [{"namespace": "team-a"}]}
    planned = await onboarding.onboard(cluster, **moved, retireCronJob=True, dryRun=True)
    assert f"would leave {PATH}" in (step(planned, "retire").detail or "")
    for retire in (False, True):
        ended = await onboarding.onboard(cluster, **moved, retireCronJob=retire)
        assert f"{PATH} still runs, and no target names its namespace now" in (step(ended, "retire").detail or "")
    assert not await is_suspended(cluster)


async def test_a_dry_run_names_the_job(onboarding: Onboarding, cluster: LocalCluster) -> None:
    body = {"cluster": str(cluster.id), "hub": "main", "adopt": True, "dryRun": True}
    asked = await onboarding.run({**body, "retireCronJob": True})
    assert step(asked, "retire").detail == f"would suspend {PATH}"
    not_asked = await onboarding.run(body)
    assert step(not_asked, "retire").detail == f"would leave {PATH}"
    assert not await is_suspended(cluster)


@pytest.mark.parametrize("resumed", [False, True])
async def test_offboarding_reports_the_suspended_job(
    onboarding: Onboarding, cluster: LocalCluster, *, resumed: bool
) -> None:
    """In every namespace that was onboarded."""
    await with_cron_job(cluster, "team-a")
    targets = [{"namespace": namespace} for namespace in (NAMESPACE, "team-a")]
    await onboarding.onboard(cluster, adopt=True, retireCronJob=True, targets=targets)
    if resumed:
        await cluster.admin.call("PATCH", PATH, {"spec": {"suspend": False}}, content_type=MERGE)
    ended = await onboarding.offboard(cluster)
    assert ended.result is not None
    for namespace, expected in ((NAMESPACE, not resumed), ("team-a", True)):
        resume = f"""kubectl patch cronjob refresh-ar-secret -n {namespace} -p '{{"spec":{{"suspend":false}}}}'"""
        path = PATH.replace(NAMESPACE, namespace)
        assert (f"{path}: suspended by Pullkeeper. To resume it: {resume}" in ended.result.left) == expected
    assert await is_suspended(cluster) == (not resumed)


async def test_a_job_that_a_person_suspended_is_neither_touched_nor_reported(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    await cluster.admin.call("PATCH", PATH, {"spec": {"suspend": True}}, content_type=MERGE)
    before = await cluster.admin.call("GET", PATH)
    for dry_run in (True, False):
        ended = await onboarding.onboard(cluster, adopt=True, retireCronJob=True, dryRun=dry_run)
        assert step(ended, "retire").detail == "no earlier refresher found"
    gone = await onboarding.offboard(cluster)
    assert gone.result is not None
    assert [one for one in gone.result.left if "refresh-ar-secret" in one] == []
    assert await cluster.admin.call("GET", PATH) == before


async def test_the_guides_role_is_reported_as_left(onboarding: Onboarding, cluster: LocalCluster) -> None:
    """It allows deleting every secret of the namespace. It is not ours, so it is not removed."""
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "delete"]}]
    role = {"metadata": {"name": "secret-manager"}, "rules": rules}
    targets = [{"namespace": namespace} for namespace in (NAMESPACE, "team-a")]
    await create_namespace(cluster, "team-a")
    for target in targets:
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{target['namespace']}/roles"
        await cluster.admin.call("POST", path, role)
    ended = await onboarding.onboard(cluster, adopt=True, retireCronJob=True, targets=targets)
    assert ended.result is not None
    for target, line in zip(targets, ended.result.left, strict=True):
        name = target["namespace"]
        assert line.startswith(f"Role {name}/secret-manager: created by the guide; it may delete every secret there.")
        assert f"role/secret-manager -n {name}" in line


async def test_the_job_keeps_running_until_the_in_cluster_refresher_has_written(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    """Not for a secret in another namespace."""
    targets = [{"namespace": namespace, "serviceAccounts": ["default"]} for namespace in (NAMESPACE, "team-a")]
    body = {"refresher": "in-cluster", "adopt": True, "retireCronJob": True, "targets": targets}
    ended = await onboarding.onboard(cluster, **body)
    assert "the cluster's own refresher has not written yet" in (step(ended, "retire").detail or "")
    assert not await is_suspended(cluster)
    await cluster.admin.edit_secret("deepintshield", "ar-pull-secret", '{"auths":{"new":{}}}', manager="pullkeeper")
    ended = await onboarding.onboard(cluster, **body)
    assert step(ended, "retire").detail == f"suspended {PATH}"
    assert await is_suspended(cluster)


async def test_the_job_keeps_running_until_every_secret_beside_it_is_written(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    accounts = {"serviceAccounts": ["default"]}
    targets = [accounts, {"secret": "second", **accounts}]
    await cluster.admin.edit_secret("deepintshield", "ar-pull-secret", '{"auths":{"new":{}}}', manager="pullkeeper")
    await onboarding.onboard(cluster, refresher="in-cluster", adopt=True, retireCronJob=True, targets=targets)
    assert not await is_suspended(cluster)


async def test_an_in_cluster_refresher_of_the_same_name_is_never_suspended(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    targets = [{"secret": "ar-secret", "serviceAccounts": ["deepintshield-sa"]}]
    body = {"refresher": "in-cluster", "retireCronJob": True, "targets": targets}
    await onboarding.onboard(cluster, **body)
    await cluster.admin.create_secret("deepintshield", "ar-secret", '{"auths":{}}', manager="pullkeeper")
    await onboarding.onboard(cluster, **body)
    assert not await is_suspended(cluster)


@pytest.mark.parametrize("created", [True, False])
async def test_a_job_that_replaces_the_secret_right_after_the_write_costs_a_try(
    onboarding: Onboarding, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, *, created: bool
) -> None:
    """The job deletes the secret just after ours was written, and creates it again, or has not yet."""
    write, runs = Refresher.write_first, [cluster.admin]

    async def write_and_run_job(self: Refresher, member: Member, targets: Sequence[Target]) -> Any:
        written = await write(self, member, targets)
        if runs:
            await run(runs.pop())
        return written

    async def run(admin: Administrator) -> None:
        await admin.delete_secret("deepintshield", "ar-pull-secret")
        if created:
            await admin.create_secret("deepintshield", "ar-pull-secret", '{"auths":{}}')

    monkeypatch.setattr(Refresher, "write_first", write_and_run_job)
    await onboarding.onboard(cluster, adopt=True, retireCronJob=True)
    assert await is_suspended(cluster)
    assert (await onboarding.world.read_token(cluster)).startswith("ya29.")
