"""One call instead of the eight manual steps of the installation guide."""

import pytest

from local.cloud import GROUP, SUBSCRIPTION
from pullkeeper.fleet.table import Member
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import Onboarding as Request
from pullkeeper.refresh.refresh import FirstSecrets, Refresher
from tests.onboarding.conftest import Onboarding, describe, list_content

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("accounts", ["entra", "local"])
async def test_a_cluster_is_onboarded_from_nothing(onboarding: Onboarding, accounts: str) -> None:
    cluster = await onboarding.cluster("aks-1", local_accounts=accounts == "local")
    operation = await onboarding.run({"cluster": str(cluster.id), "hub": "main"})
    assert operation.status == "Succeeded", describe(operation)
    assert {step.status for step in operation.steps} == {"done"}
    assert all(step.detail for step in operation.steps)
    azure = onboarding.azure(cluster)
    described = f"Kubernetes {azure.version} in {azure.location}, issuer {azure.oidc_issuer}"
    assert operation.steps[0].detail == described
    assert operation.steps[4].detail == f"all rights granted ({cluster.member.endpoint.server})"
    assert (await onboarding.world.read_token(cluster)).startswith("ya29.")
    assert await onboarding.fleet() == {str(cluster.id)}
    assert operation.result is not None
    took = (operation.updated_at - operation.created_at).total_seconds()
    assert operation.result.seconds == pytest.approx(took, abs=0.2)


async def test_a_cluster_that_joins_delays_no_other_of_its_shard(onboarding: Onboarding) -> None:
    world = onboarding.world
    due = await world.join("aks-1")
    await onboarding.onboard(await onboarding.cluster(world.name_beside(due)))
    assert (await world.services.scheduler.run()).queued == 1
    run = world.events.named("run.completed")[-1]
    assert (run["clusters"], run["fresh"]) == (1, 1)
    assert len(world.events.named("secret.refreshed")) == 1, "its first secret"


async def test_a_cluster_joins_while_a_run_over_its_shard_is_recorded(
    onboarding: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: the shard has been read for the first secret, and is written before that is recorded."""
    world, record = onboarding.world, Refresher.record_first
    other = await world.join("aks-1")
    cluster = await onboarding.cluster(world.name_beside(other))

    async def be_overtaken(refresher: Refresher, member: Member, first: FirstSecrets) -> None:
        await world.refresh(other)
        await record(refresher, member, first)

    monkeypatch.setattr(Refresher, "record_first", be_overtaken)
    await onboarding.onboard(cluster)
    assert [(await world.target(one)).state(world.clock()) for one in (other, cluster)] == ["fresh", "fresh"]


async def test_a_cluster_that_joins_does_not_wait_for_another_of_its_shard(onboarding: Onboarding) -> None:
    """Whose token lives longer."""
    world = onboarding.world
    world.cloud.add_hub("short", lifetime=600)
    other = await world.join("aks-1")
    await world.refresh(other)
    cluster = await onboarding.cluster(world.name_beside(other), "short")
    await onboarding.onboard(cluster, hub="short")
    [shard] = (await world.services.shards.totals()).shards
    assert shard.next_due == await world.next_due(cluster) < await world.next_due(other)


async def test_the_publishers_application_is_deployed_if_asked(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    workload = {"image": "europe-docker.pkg.dev/p/r/app:1", "replicas": 3, "configSecret": "mine"}
    operation = await onboarding.run({"cluster": str(cluster.id), "hub": "main", "workload": workload})
    assert operation.status == "Succeeded", describe(operation)
    found = await list_content(cluster)
    spec = found["/apis/apps/v1/deployments/deepintshield/deepintshield"]["spec"]
    pod = spec["template"]["spec"]
    assert (spec["replicas"], pod["containers"][0]["image"]) == (3, workload["image"])
    assert pod["imagePullSecrets"] == [{"name": "ar-pull-secret"}]
    assert pod["serviceAccountName"] == "deepintshield-sa"
    assert pod["volumes"][0]["secret"]["secretName"] == "mine"
    assert "/api/v1/services/deepintshield/deepintshield" in found
    await onboarding.onboard(cluster, workload=workload, targets=[{"namespace": "without-an-account"}], dryRun=True)


def test_image_tags_and_hub_names_may_have_capitals() -> None:
    """Hub names may be whatever the setting accepts."""
    image = "europe-docker.pkg.dev/p/r/app:1.4.2-RC1"
    body = {
        "cluster": str(ClusterId(SUBSCRIPTION, GROUP, "aks-1")),
        "hub": "Main.EU",
        "workload": {"image": image},
        "refresherImage": image,
    }
    request = Request.parse(body)
    assert (request.hub, request.refresher_image) == ("Main.EU", image)
