"""Onboarding again with other fields: what is no longer requested is retired, and offboarding removes all of it."""

import pytest

from local.kubernetes import recordings
from tests.onboarding.conftest import (
    IDENTITY,
    WORKLOAD,
    Onboarding,
    brought,
    describe,
    federated,
    left,
    list_objects,
    step,
)

pytestmark = pytest.mark.servers
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_CRON_JOB = "/apis/batch/v1/cronjobs/deepintshield/refresh-ar-pull-secret"
_IN_CLUSTER = {
    _CRON_JOB,
    f"{_RBAC}/roles/deepintshield/refresh-ar-pull-secret",
    f"{_RBAC}/rolebindings/deepintshield/refresh-ar-pull-secret",
    "/api/v1/configmaps/deepintshield/refresh-ar-pull-secret",
}
_CENTRAL = {
    f"{_RBAC}/roles/deepintshield/pullkeeper-refresher",
    f"{_RBAC}/rolebindings/deepintshield/pullkeeper-refresher",
}
_THEIRS = {
    "name": "pullkeeper-refresher",
    "namespace": "team-a",
    "labels": {"app.kubernetes.io/managed-by": "pullkeeper"},
}
_TEAM_A = [{"namespace": "team-a", "secret": "pull", "serviceAccounts": federated("one")}]


async def test_offboarding_removes_what_every_onboarding_created(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    before = set(await list_objects(cluster))
    await onboarding.onboard(cluster, workload=WORKLOAD)
    another = {"identity": "another", "federatedCredential": "another", "workload": WORKLOAD}
    await onboarding.onboard(cluster, targets=_TEAM_A, **another)
    await onboarding.onboard(cluster, refresher="in-cluster")

    remains = await onboarding.offboard_fully(cluster)

    namespaces = {"/api/v1/namespaces//deepintshield", "/api/v1/namespaces//team-a"}
    assert set(await list_objects(cluster)) - before == namespaces
    assert sorted(remains) == [
        f"Namespace {name}: kept, because it may hold other objects" for name in ("deepintshield", "team-a")
    ]
    assert (onboarding.identity(), onboarding.identity("another")) == (None, None)


async def test_a_target_that_is_no_longer_requested_loses_its_role_and_keeps_its_secret(onboarding: Onboarding) -> None:
    """The secret is kept, since pods may name it. Each operation reports that it is no longer refreshed."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=_TEAM_A)
    for _ in range(2):
        ended = await onboarding.onboard(cluster)
        assert left(ended) == [
            "Secret team-a/pull: no longer requested, so no longer refreshed; offboarding removes it"
        ]
    assert step(ended, "manifests").detail == "all objects exist"
    there = set(await list_objects(cluster))
    assert "/api/v1/secrets/team-a/pull" in there
    assert not {f"{_RBAC}/{kind}/team-a/pullkeeper-refresher" for kind in ("roles", "rolebindings")} & there
    assert there >= _CENTRAL
    await onboarding.offboard(cluster)
    assert "/api/v1/secrets/team-a/pull" not in await list_objects(cluster)


async def test_an_in_cluster_refresher_replaces_the_apps_role(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster)
    assert set(await list_objects(cluster)) >= _CENTRAL
    ended = await onboarding.onboard(cluster, refresher="in-cluster")
    assert "Role deepintshield/pullkeeper-refresher deleted" in (step(ended, "retire").detail or "")
    there = set(await list_objects(cluster))
    assert there >= _IN_CLUSTER
    assert not _CENTRAL & there
    assert "/api/v1/secrets/deepintshield/ar-pull-secret" in there


async def test_the_in_cluster_refresher_is_removed_only_after_the_app_has_written(
    onboarding: Onboarding,
) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, refresher="in-cluster")
    onboarding.world.cloud.hubs["main"].provider.condition = lambda _: False
    refused = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert (refused.status, step(refused, "pull secret").category) == ("Failed", "federation_condition")
    assert set(await list_objects(cluster)) >= _IN_CLUSTER

    onboarding.world.cloud.hubs["main"].provider.condition = lambda _: True
    await onboarding.restart()
    planned = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "dryRun": True})
    assert "would remove CronJob deepintshield/refresh-ar-pull-secret" in (step(planned, "retire").detail or "")
    await onboarding.onboard(cluster)
    there = set(await list_objects(cluster))
    assert there >= _CENTRAL
    assert not _IN_CLUSTER & there
    deleted = [request.path for request in cluster.part.journal.requests if request.method == "DELETE"]
    assert "/cronjobs/" in deleted[0], "before what its pods need"


async def test_onboardings_with_the_same_footprint_are_kept_once(onboarding: Onboarding) -> None:
    """A pipeline sends the same body with another image at every release."""
    cluster = await onboarding.cluster("aks-1")
    for number in range(3):
        await onboarding.onboard(cluster, workload={"image": f"europe-docker.pkg.dev/p/r/app:{number}"})
    await onboarding.onboard(cluster, adopt=True)
    kept = await onboarding.world.services.runner._operations.list_onboardings(cluster.id)
    assert [asked.workload.image if asked.workload else None for _, asked in kept] == [
        "europe-docker.pkg.dev/p/r/app:2",
        None,
    ]


async def test_a_complete_offboarding_forgets_earlier_requests(onboarding: Onboarding) -> None:
    """By now the namespace may belong to another owner, who also uses Pullkeeper."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=_TEAM_A)
    await onboarding.offboard(cluster)
    ours = {"metadata": {"name": "one", "labels": {"app.kubernetes.io/managed-by": "pullkeeper"}}}
    await cluster.admin.call("POST", "/api/v1/namespaces/team-a/serviceaccounts", ours)
    await onboarding.onboard(cluster)
    await onboarding.offboard(cluster)
    assert "/api/v1/serviceaccounts/team-a/one" in await list_objects(cluster)


@pytest.mark.parametrize("left_behind", ["the workload", "what is in a silent cluster"])
async def test_what_an_offboarding_kept_is_removed_by_the_next_one(onboarding: Onboarding, left_behind: str) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=_TEAM_A, workload=WORKLOAD)
    if left_behind == "the workload":
        kept = await onboarding.offboard(cluster, keep_workload=True)
        assert kept.keep_workload
    else:
        onboarding.azure(cluster).power_state = "Stopped"
        assert any("Deployment team-a/deepintshield" in one for one in await onboarding.offboard_fully(cluster))
        onboarding.azure(cluster).power_state = "Running"
    await onboarding.onboard(cluster)
    await onboarding.offboard(cluster)
    assert [path for path in await list_objects(cluster) if "/team-a/" in path] == []
    assert onboarding.identity(IDENTITY) is None


async def no_longer_allowed(onboarding: Onboarding) -> None:
    onboarding.world.settings["TRUSTED_GOOGLE_HOSTS"] = ""
    onboarding.world.cloud.hubs.clear()
    await onboarding.restart()


async def test_a_hub_that_is_no_longer_allowed_does_not_prevent_offboarding(onboarding: Onboarding) -> None:
    """A hub that was sent in the body, with a host that the settings no longer trust."""
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.onboard(cluster, refresher="in-cluster", **brought(onboarding))
    await no_longer_allowed(onboarding)
    assert await onboarding.world.services.onboarder.get_operation(ended.id) == ended
    await onboarding.offboard(cluster)
    assert [path for path in await list_objects(cluster) if "/deepintshield/" in path] == []


async def test_an_onboarding_whose_hub_is_no_longer_allowed_fails(onboarding: Onboarding) -> None:
    """It was accepted before the settings were changed."""
    cluster = await onboarding.cluster("aks-1")
    begun = await onboarding.begin({"cluster": str(cluster.id), **brought(onboarding)})
    await no_longer_allowed(onboarding)
    ended = await onboarding.deliver(begun.id)
    assert (ended.status, ended.steps[0].category) == ("Failed", "invalid_request"), describe(ended)
    assert onboarding.world.cloud.arm.writes == []


@pytest.mark.parametrize("between", [{}, {"dry_run": True}, {"keep_workload": True}], ids=str)
async def test_after_a_complete_offboarding_no_object_counts_as_ours(
    onboarding: Onboarding, between: dict[str, bool]
) -> None:
    """Offboarding again, dry or not, neither removes nor remembers what another owner has created since."""
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=_TEAM_A)
    await onboarding.offboard_fully(cluster)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": _THEIRS}
    await cluster.admin.apply(role, manager="pullkeeper")
    await onboarding.offboard(cluster, **between)
    await onboarding.onboard(cluster)
    await onboarding.offboard_fully(cluster)
    assert f"{_RBAC}/roles/team-a/pullkeeper-refresher" in await list_objects(cluster)


async def test_what_the_cluster_refused_to_remove_is_removed_by_the_next_operation(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=_TEAM_A)
    cluster.part.faults.add(recordings.fault("webhook-denies", method="DELETE", path="/roles/"))
    gone = await onboarding.offboard(cluster)
    assert gone.result is not None
    assert (gone.status, gone.result.complete) == ("Succeeded", False), describe(gone)
    cluster.part.faults.clear()
    await onboarding.onboard(cluster)
    assert f"{_RBAC}/roles/team-a/pullkeeper-refresher" not in await list_objects(cluster)
    last = await onboarding.offboard(cluster)
    assert last.result is not None
    assert last.result.complete


async def test_a_dry_run_does_not_promise_to_remove_what_another_owner_has_created_since(
    onboarding: Onboarding,
) -> None:
    cluster = await onboarding.cluster("aks-1")
    await onboarding.onboard(cluster, targets=_TEAM_A)
    await onboarding.onboard(cluster)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": _THEIRS}
    await cluster.admin.apply(role)
    planned = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "dryRun": True})
    assert step(planned, "retire").detail == "no earlier refresher found"
    expected = "Secret team-a/pull: no longer requested, so no longer refreshed; offboarding removes it"
    assert left(planned) == [expected]
    await cluster.admin.delete_secret("team-a", "pull")
    await cluster.admin.create_secret("team-a", "pull", "{}")
    assert left(await onboarding.run({"cluster": str(cluster.id), "hub": "main", "dryRun": True})) == []
