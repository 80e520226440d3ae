"""A cluster where the guide's own CronJob is at work: its secret adopted, the job suspended once it is not needed."""

from typing import Any

import pytest

from local.administrator import Administrator
from local.cloud import LocalCluster
from pullkeeper.fleet.table import Member
from pullkeeper.refresh.refresh import Refresher
from tests.onboarding.conftest import MERGE, Onboarding, create_namespace, describe, step

pytestmark = pytest.mark.servers
PATH = "/apis/batch/v1/namespaces/deepintshield/cronjobs/refresh-ar-secret"


@pytest.fixture
async def cluster(onboarding: Onboarding) -> LocalCluster:
    cluster = await onboarding.cluster("aks-1")
    await with_cron_job(cluster)
    return cluster


async def with_cron_job(cluster: LocalCluster) -> None:
    await create_namespace(cluster)
    await cluster.admin.create_secret("deepintshield", "ar-pull-secret", '{"auths":{}}')
    pod = {"containers": [{"name": "refresh", "image": "google/cloud-sdk:slim"}], "restartPolicy": "OnFailure"}
    job = {
        "metadata": {"name": "refresh-ar-secret"},
        "spec": {"schedule": "*/45 * * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}},
    }
    await cluster.admin.call("POST", "/apis/batch/v1/namespaces/deepintshield/cronjobs", job)


async def suspended(cluster: LocalCluster) -> bool:
    return bool((await cluster.admin.call("GET", PATH))["spec"].get("suspend"))


async def test_its_secret_is_adopted_and_it_is_suspended_when_asked(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True, "retireCronJob": True})
    assert ended.status == "Succeeded", describe(ended)
    assert "adopted from kubectl-create" in (step(ended, "pull secret").detail or "")
    assert step(ended, "retire").detail == f"suspended {PATH}"
    assert await suspended(cluster)
    assert (await onboarding.world.read_token(cluster)).startswith("ya29.")


async def test_not_asked_for_it_still_runs_and_that_is_told(onboarding: Onboarding, cluster: LocalCluster) -> None:
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True})
    assert step(ended, "retire").detail == (f"{PATH} still runs beside Pullkeeper: send retireCronJob to suspend it")
    assert not await suspended(cluster)


async def test_it_runs_on_where_the_first_secret_does_not_come_about(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "retireCronJob": True})
    assert (ended.status, step(ended, "pull secret").category) == ("Failed", "secret_conflict")
    assert not await suspended(cluster)


async def test_a_dry_run_names_it(onboarding: Onboarding, cluster: LocalCluster) -> None:
    body = {"cluster": str(cluster.id), "hub": "main", "adopt": True, "dryRun": True}
    asked = await onboarding.run({**body, "retireCronJob": True})
    assert step(asked, "retire").detail == f"would suspend {PATH}"
    not_asked = await onboarding.run(body)
    assert step(not_asked, "retire").detail == f"would leave {PATH}"
    assert not await suspended(cluster)


async def test_offboarding_tells_that_it_is_suspended(onboarding: Onboarding, cluster: LocalCluster) -> None:
    await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True, "retireCronJob": True})
    ended = await onboarding.offboard(cluster)
    assert ended.result is not None
    resume = """kubectl patch cronjob refresh-ar-secret -n deepintshield -p '{"spec":{"suspend":false}}'"""
    assert f"{PATH}: suspended by Pullkeeper. To resume it: {resume}" in ended.result.left
    assert await suspended(cluster)


async def test_what_a_person_has_suspended_is_nobody_elses_business(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    await cluster.admin.call("PATCH", PATH, {"spec": {"suspend": True}}, content_type=MERGE)
    before = await cluster.admin.call("GET", PATH)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True, "retireCronJob": True})
    assert step(ended, "retire").detail == "no earlier refresher found"
    gone = await onboarding.offboard(cluster)
    assert gone.result is not None
    assert [one for one in gone.result.left if "refresh-ar-secret" in one] == []
    assert await cluster.admin.call("GET", PATH) == before


async def test_the_guides_role_is_told_as_left(onboarding: Onboarding, cluster: LocalCluster) -> None:
    """Whoever has it may delete every secret of the namespace, ours among them; it is not ours to take away."""
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "delete"]}]
    role = {"metadata": {"name": "secret-manager"}, "rules": rules}
    await cluster.admin.call("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/deepintshield/roles", role)
    ended = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "adopt": True, "retireCronJob": True})
    assert ended.result is not None
    [left] = ended.result.left
    assert left.startswith("Role deepintshield/secret-manager: created by the guide; it may delete every secret there.")
    assert "role/secret-manager -n deepintshield" in left


async def test_where_the_cluster_refreshes_itself_it_runs_on_until_the_successor_has_written(
    onboarding: Onboarding, cluster: LocalCluster
) -> None:
    body = {"refresher": "in-cluster", "adopt": True, "retireCronJob": True}
    ended = await onboarding.onboard(cluster, **body)
    assert "the cluster's own refresher has not written yet" in (step(ended, "retire").detail or "")
    assert not await suspended(cluster)
    await cluster.admin.edit_secret("deepintshield", "ar-pull-secret", '{"auths":{"new":{}}}', manager="pullkeeper")
    ended = await onboarding.onboard(cluster, **body)
    assert step(ended, "retire").detail == f"suspended {PATH}"
    assert await suspended(cluster)


async def test_a_job_of_ours_with_its_name_is_never_suspended(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    targets = [{"secret": "ar-secret", "serviceAccounts": ["deepintshield-sa"]}]
    body = {"refresher": "in-cluster", "retireCronJob": True, "targets": targets}
    await onboarding.onboard(cluster, **body)
    await cluster.admin.create_secret("deepintshield", "ar-secret", '{"auths":{}}', manager="pullkeeper")
    await onboarding.onboard(cluster, **body)
    assert not await suspended(cluster)


async def test_its_last_run_at_the_wrong_moment_costs_a_try(
    onboarding: Onboarding, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It deletes the secret and makes it anew, just after ours was written."""
    write, runs = Refresher.write_first, [cluster.admin]

    async def then_it_runs(self: Refresher, member: Member) -> Any:
        written = await write(self, member)
        if runs:
            await run(runs.pop())
        return written

    async def run(admin: Administrator) -> None:
        await admin.delete_secret("deepintshield", "ar-pull-secret")
        await admin.create_secret("deepintshield", "ar-pull-secret", '{"auths":{}}')

    monkeypatch.setattr(Refresher, "write_first", then_it_runs)
    await onboarding.onboard(cluster, adopt=True, retireCronJob=True)
    assert await suspended(cluster)
    assert (await onboarding.world.read_token(cluster)).startswith("ya29.")
