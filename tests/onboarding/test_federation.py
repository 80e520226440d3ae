"""The publisher's side: the handover, and onboarding in two steps, before and after the publisher's answer."""

import runpy
import shlex
from dataclasses import replace

import pytest

from local.azure.entra import Resource
from pullkeeper.onboarding.handover import build_handover
from pullkeeper.publisher.hub import Hub
from tests.apiserver import at_hand
from tests.onboarding.conftest import Onboarding, describe, list_content, step

pytestmark = pytest.mark.servers


async def test_without_a_hub_it_ends_with_the_handover_and_completes_once_it_has_one(
    onboarding: Onboarding,
) -> None:
    world, cluster = onboarding.world, await onboarding.cluster("aks-1")
    app, entra = world.cloud.app, world.cloud.entra

    first = await onboarding.run({"cluster": str(cluster.id)})

    assert first.status == "AwaitingFederation", describe(first)
    assert first.result is not None
    handover = first.result.handover
    assert handover is not None
    assert (handover.tenant_id, handover.client_id, handover.object_id) == (
        entra.tenant,
        app.client_id,
        app.principal_id,
    )
    assert (handover.issuer, handover.subject) == (entra.issuer_v2, app.principal_id)
    assert handover.audience == "fb60f99c-7a34-4190-8149-302f77469936"
    [create_provider] = [command for command in handover.commands if " create-oidc " in command]
    assert f"--issuer-uri={entra.issuer_v2} --allowed-audiences={handover.audience} " in create_provider
    assert await onboarding.fleet() == set()
    assert not [path for path in await list_content(cluster) if "deepintshield" in path]

    hub = world.cloud.hubs["main"].document
    answer = {name: hub[name] for name in ("credentialConfig", "registries", "probe")}
    second = await onboarding.run({"cluster": str(cluster.id), **answer})

    assert second.status == "Succeeded", describe(second)
    assert second.result is not None
    assert second.result.handover is not None
    assert second.result.handover.subject == handover.subject
    assert (await world.read_token(cluster)).startswith("ya29.")
    [name] = onboarding.credentials()
    assert name.startswith("deepintshield-federated-credential-")


async def test_no_step_is_left_running_when_it_waits_for_the_publisher(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.run({"cluster": str(cluster.id)})
    assert [one.status for one in ended.steps] == ["done"] * 4 + ["pending"] * 7, describe(ended)
    assert "the publisher must trust" in (step(ended, "handover").detail or "")


@pytest.mark.parametrize("resource", [None, "api://pull"])
async def test_every_cluster_has_the_handover_of_the_fleet(onboarding: Onboarding, resource: str | None) -> None:
    cluster, cloud = await onboarding.cluster("aks-1"), onboarding.world.cloud
    if resource:
        cloud.entra.resources[resource] = Resource()
        cloud.hubs["main"] = replace(
            cloud.hubs["main"], document={**cloud.hubs["main"].document, "entraResource": resource}
        )
    planned = await onboarding.onboard(cluster, dryRun=True)
    assert planned.result is not None
    assert planned.result.handover is not None
    assert planned.result.handover == await onboarding.world.services.handover("main")
    assert (planned.result.handover.audience == "fb60f99c-7a34-4190-8149-302f77469936") == (resource is None)


async def test_an_in_cluster_refresher_hands_over_the_clusters_identity(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    ended = await onboarding.run({"cluster": str(cluster.id), "refresher": "in-cluster"})
    identity = onboarding.identity()
    assert identity is not None
    assert ended.status == "AwaitingFederation"
    assert ended.result is not None
    assert ended.result.handover is not None
    assert ended.result.handover.client_id == identity.service_principal.client_id
    assert ended.result.handover.object_id == ended.result.handover.subject == identity.service_principal.principal_id


async def test_images_of_gcr_are_in_a_repository_of_that_name(onboarding: Onboarding) -> None:
    document = onboarding.world.cloud.hubs["main"].document
    body = {**document, "registries": ["eu.gcr.io"], "probe": "eu.gcr.io/acme-images/app:1"}
    hub = Hub.parse(body, trusted_hosts=onboarding.world.services.settings.trusted_hosts)
    claims = {"oid": "o", "iss": "i", "aud": "a", "tid": "t", "appid": "c"}
    commands = build_handover(claims, hub).commands
    [let_read] = [command for command in commands if " repositories " in command]
    assert "add-iam-policy-binding eu.gcr.io --project=acme-images --location=europe " in let_read
    enabled = [command.rpartition("--project=")[2] for command in commands if "services enable" in command]
    assert enabled == ["100000", "deepintshield-images", "acme-images"], "of pool, service account and images"


async def test_before_there_is_a_hub_the_handover_has_placeholders(onboarding: Onboarding) -> None:
    onboarding.world.cloud.hubs.clear()
    handover = await onboarding.world.services.handover(None)
    assert handover.object_id == onboarding.world.cloud.app.principal_id
    projects = [command.rpartition("--project=")[2] for command in handover.commands if " services enable " in command]
    assert projects == ["PROJECT_NUMBER", "PROJECT_ID"], "of the pool; of service account and images"


async def test_the_handover_enables_the_apis_in_each_project_first(onboarding: Onboarding) -> None:
    handover = await onboarding.world.services.handover("main")
    assert handover == await onboarding.world.services.handover(None), "the first hub"
    apis = "iam.googleapis.com sts.googleapis.com iamcredentials.googleapis.com artifactregistry.googleapis.com"
    assert handover.commands[:2] == (
        f"gcloud services enable {apis} --project=100000",
        f"gcloud services enable {apis} --project=deepintshield-images",
    )
    assert "services enable" not in "".join(handover.commands[2:])
    [account] = {
        command.partition(" create ")[2].partition(" ")[0]
        for command in handover.commands
        if "service-accounts create" in command
    }
    assert (
        f" --service-account={account}@deepintshield-images.iam.gserviceaccount.com --output-file="
        in handover.commands[-1]
    )


async def test_without_a_service_account_the_identities_themselves_may_read(onboarding: Onboarding) -> None:
    onboarding.world.cloud.add_hub("direct", impersonate=False)
    document = onboarding.world.cloud.hubs["direct"].document
    hub = Hub.parse(dict(document), trusted_hosts=onboarding.world.services.settings.trusted_hosts)
    claims = {"oid": "o-1", "iss": "i", "aud": "a", "tid": "t", "appid": "c"}
    commands = build_handover(claims, hub, ["o-2"]).commands
    pool = hub.credential_config.audience.removeprefix("//").partition("/providers/")[0]
    members = [one.partition("--member=")[2] for one in commands if "artifactregistry.reader" in one]
    assert members == [f"principal://{pool}/subject/o-1", f"principal://{pool}/subject/o-2"]
    everything = " ".join(commands)
    assert "service-account" not in everything
    assert "OBJECT_ID" not in everything


@pytest.mark.real
async def test_gcloud_knows_every_command_and_flag_of_the_handover(onboarding: Onboarding) -> None:
    """By the tree that it completes commands with: its help takes a second for each."""
    sdk = at_hand.program("gcloud").resolve().parents[1]
    tree = runpy.run_path(str(sdk / "data/cli/gcloud_completions.py"))["STATIC_COMPLETION_CLI_TREE"]
    world = onboarding.world
    world.cloud.add_hub("direct", impersonate=False)
    claims = {"oid": "o", "iss": "https://i.example/", "aud": "a", "tid": "t", "appid": "c"}
    for hub in ("main", "direct"):
        document = dict(world.cloud.hubs[hub].document)
        parsed = Hub.parse(document, trusted_hosts=world.services.settings.trusted_hosts)
        for command in build_handover(claims, parsed).commands:
            program, *words = shlex.split(command)
            flags = {word.partition("=")[0] for word in words if word.startswith("-")}
            known, named = tree, [word for word in words if not word.startswith("-")]
            while known.get("commands"):
                known = known["commands"][named.pop(0)]
            assert program == "gcloud"
            assert flags <= {*tree["flags"], *known["flags"]}, command
            assert len(named) == (4 if words[0] == "services" else 1), command
