"""A cluster with a namespace selector: what matches is written, and offboarding removes all that has ever matched."""

from typing import Any, Final

import pytest

from local.cloud import LocalCluster
from local.kubernetes import recordings
from tests.onboarding.conftest import Onboarding, list_objects, step
from tests.refresh.test_selector import create, label, named, tick

pytestmark = pytest.mark.servers
_TARGETS: Final[list[dict[str, Any]]] = [
    {"namespaceSelector": {"matchLabels": {"pull": "yes"}}, "serviceAccounts": ["default"]}
]


async def _secrets(cluster: LocalCluster) -> list[str]:
    return [path.split("/")[4] for path in await list_objects(cluster) if "/secrets/" in path]


async def _onboard(onboarding: Onboarding) -> LocalCluster:
    """A cluster with a secret in `a`, which has lost its label since, and one in `b`, which a tick has found."""
    cluster = await onboarding.cluster("aks-1")
    await create(cluster, "a", pull="yes")
    done = await onboarding.onboard(cluster, targets=_TARGETS)
    assert step(done, "pull secret").detail == "1 secrets written and verified"
    assert named(onboarding.world, "target.added") == ["a/ar-pull-secret"]
    await label(cluster, "a", pull="no")
    await create(cluster, "b", pull="yes")
    await tick(onboarding.world)
    assert await _secrets(cluster) == ["a", "b"]
    return cluster


async def test_offboarding_removes_all_that_a_selector_has_ever_found(onboarding: Onboarding) -> None:
    cluster = await _onboard(onboarding)
    await create(cluster, "c", pull="yes")  # found by no tick that is recorded
    await cluster.admin.create_secret("c", "ar-pull-secret", "{}", manager="pullkeeper")
    await onboarding.offboard(cluster)
    assert await _secrets(cluster) == []
    account = await cluster.admin.call("GET", "/api/v1/namespaces/a/serviceaccounts/default")
    assert not account.get("imagePullSecrets")


async def test_onboarding_again_writes_nothing_where_the_label_is_lost(onboarding: Onboarding) -> None:
    cluster = await _onboard(onboarding)
    writes = cluster.part.journal.count("PATCH", "/namespaces/a/secrets/")
    await onboarding.onboard(cluster, targets=_TARGETS)
    assert writes == cluster.part.journal.count("PATCH", "/namespaces/a/secrets/")


async def test_what_was_found_is_forgotten_with_the_cluster(onboarding: Onboarding) -> None:
    cluster = await _onboard(onboarding)
    await onboarding.offboard_fully(cluster)
    await onboarding.onboard(cluster)
    assert await onboarding.world.services.runner._operations.add_found(cluster.id, []) == frozenset()


async def test_a_further_offboarding_knows_what_the_first_one_left(onboarding: Onboarding) -> None:
    """The cluster is out of the fleet by then, and no status is left."""
    cluster = await _onboard(onboarding)
    cluster.part.faults.add(recordings.fault("forbidden", method="PATCH"))
    await onboarding.offboard(cluster)
    assert await _secrets(cluster) == ["a", "b"]
    cluster.part.faults.clear()
    await onboarding.offboard(cluster)
    assert await _secrets(cluster) == []


async def test_what_a_selector_found_in_a_stopped_cluster_is_reported_as_left(onboarding: Onboarding) -> None:
    cluster = await _onboard(onboarding)
    onboarding.azure(cluster).power_state = "Stopped"
    left = await onboarding.offboard_fully(cluster)
    secrets = [line.partition(":")[0] for line in left if line.startswith("Secret ")]
    assert sorted(secrets) == ["Secret a/ar-pull-secret", "Secret b/ar-pull-secret"]


async def test_a_dry_run_names_what_a_selector_finds(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    nothing = await onboarding.onboard(cluster, targets=_TARGETS, dryRun=True)
    assert step(nothing, "pull secret").detail == "no namespace matches yet"
    for name in ("a", "b"):
        await create(cluster, name, pull="yes")
    planned = await onboarding.onboard(cluster, targets=[*_TARGETS, {"namespace": "a"}], dryRun=True)
    expected = "would create a/ar-pull-secret; would create b/ar-pull-secret"
    assert step(planned, "pull secret").detail == expected, "each once, though one is named too"


async def test_a_selector_that_finds_nothing_yet_is_no_failure(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    done = await onboarding.onboard(cluster, targets=_TARGETS)
    assert step(done, "pull secret").detail == "0 secrets written and verified"


async def test_a_found_namespace_that_refuses_keeps_no_cluster_from_the_fleet(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    for name in ("a", "b"):
        await create(cluster, name, pull="yes")
    cluster.part.faults.add(recordings.fault("quota", method="PATCH", path="/namespaces/a/secrets/"))
    done = await onboarding.onboard(cluster, targets=_TARGETS)
    assert step(done, "pull secret").detail == "1 secrets written and verified; a/ar-pull-secret: quota_exceeded"


async def test_a_found_namespace_waits_until_the_api_server_knows_the_role(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    for name in ("a", "b"):
        await create(cluster, name, pull="yes")
    denied = recordings.fault("forbidden", method="PATCH", path="/namespaces/a/secrets/")
    denied.times = 1
    cluster.part.faults.add(denied)
    done = await onboarding.onboard(cluster, targets=_TARGETS)
    assert denied.times == 0
    assert step(done, "pull secret").detail == "2 secrets written and verified"
    writes = [one for one in cluster.part.journal.requests if one.method == "PATCH" and "dryRun" not in one.query]
    written = sorted(one.path.split("/")[4] for one in writes if "/secrets/" in one.path)
    assert written == ["a", "a", "b"], "only what was denied, a second time"
    targets = (await onboarding.world.services.overview.one(cluster.id)).targets
    assert [(one.target, one.state) for one in targets] == [(f"{name}/ar-pull-secret", "fresh") for name in "ab"]


async def test_a_name_that_others_use_where_no_label_matches_is_refused_before_any_right(
    onboarding: Onboarding,
) -> None:
    """An API server quotes an existing secret to whoever may patch its name."""
    cluster = await onboarding.cluster("aks-1")
    await create(cluster, "a", pull="yes")
    for number in range(11):
        await create(cluster, f"theirs-{number:02}", pull="no")
        await cluster.admin.create_secret(f"theirs-{number:02}", "ar-pull-secret", "{}")
    targets = [{**_TARGETS[0], "secret": "another"}, *_TARGETS]
    body = {"cluster": str(cluster.id), "hub": "main", "targets": targets, "adopt": True}
    planned = await onboarding.run({**body, "dryRun": True})
    ended = await onboarding.run(body)
    for refused in (step(planned, "refresher"), step(ended, "refresher")):
        assert refused.category == "secret_conflict"
        assert (refused.detail or "").startswith("11 namespaces that no target covers have a secret ar-pull-secret")
        assert (refused.detail or "").endswith("theirs-08, theirs-09"), "the first ten"
        assert (refused.remedy or "").startswith(
            "kubectl get secret ar-pull-secret -n theirs-00 --show-managed-fields shows the owner; choose another name "
            "in the target, or delete that secret. Then onboard again: "
        )
    assert not [path for path in await list_objects(cluster) if "pullkeeper-refresher" in path]


async def test_a_name_that_others_use_where_the_label_matches_can_be_adopted(onboarding: Onboarding) -> None:
    """Or where the namespace is named. One that is being deleted refuses nothing."""
    cluster = await onboarding.cluster("aks-1")
    for name, pull in (("a", "yes"), ("b", "no"), ("ending", "yes")):
        await create(cluster, name, pull=pull)
        await cluster.admin.create_secret(name, "ar-pull-secret", "{}")
    await cluster.admin.call("DELETE", "/api/v1/namespaces/ending")
    await create(cluster, "theirs", pull="no")
    await cluster.admin.create_secret("theirs", "of-another-name", "{}")
    targets = [*_TARGETS, {"namespace": "b"}]
    done = await onboarding.onboard(cluster, targets=targets, adopt=True)
    for name in ("a", "b"):
        assert f"{name}/ar-pull-secret adopted from kubectl-create" in (step(done, "pull secret").detail or "")
    assert (await onboarding.onboard(cluster, targets=targets)).status == "Succeeded"
