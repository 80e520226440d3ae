"""What a cluster refuses affects as little as possible: the rest continues, and the refusal is reported."""

import pytest

from local.kubernetes import recordings
from local.serving import Fault
from tests.onboarding.conftest import (
    SECRET,
    Onboarding,
    create_namespace,
    create_service_account,
    describe,
    list_objects,
    step,
)

pytestmark = pytest.mark.servers
BY_POLICY = "the cluster refused (admission_denied: "
BINDING = "/apis/rbac.authorization.k8s.io/v1/rolebindings/deepintshield/pullkeeper-refresher"


@pytest.mark.parametrize(
    ("method", "path", "names", "stays"),
    [
        ("DELETE", "/rolebindings/", ["RoleBinding deepintshield/pullkeeper-refresher"], {BINDING}),
        (
            "PATCH",
            "/serviceaccounts/",
            ["Secret deepintshield/ar-pull-secret", "ServiceAccount deepintshield/deepintshield-sa"],
            {SECRET},
        ),
    ],
    ids=["a delete", "a change of another's object"],
)
async def test_what_a_policy_keeps_is_reported_and_the_rest_is_removed(
    onboarding: Onboarding, method: str, path: str, names: list[str], stays: set[str]
) -> None:
    cluster = await onboarding.cluster("aks-1")
    await create_namespace(cluster)
    await create_service_account(cluster)
    before = set(await list_objects(cluster))
    await onboarding.onboard(cluster)
    cluster.part.faults.add(recordings.fault("webhook-denies", method=method, path=path))

    left = await onboarding.offboard_fully(cluster)

    refused = [one for one in left if BY_POLICY in one]
    assert [one.partition(":")[0] for one in refused] == names
    assert set(await list_objects(cluster)) - before == stays
    assert onboarding.identity() is None
    cluster.part.faults.clear()
    await onboarding.offboard_fully(cluster)
    assert set(await list_objects(cluster)) == before


@pytest.mark.parametrize("kind", ["onboard", "offboard"])
async def test_one_bad_response_of_the_api_server_does_not_make_the_cluster_unreachable(
    onboarding: Onboarding, kind: str
) -> None:
    cluster, onboarder = await onboarding.cluster("aks-1"), onboarding.world.services.onboarder
    wanted = {"cluster": str(cluster.id), "hub": "main", "refresher": "in-cluster"}
    if kind == "onboard":
        begun = await onboarding.begin(wanted)
    else:
        await onboarding.run(wanted)
        begun = await onboarder.offboard(cluster.id, keep_workload=False)
    cluster.part.faults.add(Fault(path="selfsubjectaccessreviews", status=503))
    between = await onboarding.deliver(begun.id)
    assert step(between, "cluster access").category == "cluster_unreachable"
    cluster.part.faults.clear()

    ended = await onboarding.process(begun.id)

    assert ended.status == "Succeeded", describe(ended)
    assert step(ended, "manifests").status == "done"
    assert ended.result is not None
    assert ended.result.manifests is None
    jobs = [path for path in await list_objects(cluster) if "/cronjobs/" in path]
    assert len(jobs) == (1 if kind == "onboard" else 0)
