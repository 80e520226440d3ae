"""In-cluster refreshers: what the cluster gets, what the app does not get, and whom the publisher trusts."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from local.azure.entra import Resource
from local.cloud import GROUP, SUBSCRIPTION
from pullkeeper.errors import InvalidRequest
from pullkeeper.fleet.table import Member
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import Onboarding as Request
from tests.onboarding.conftest import WORKLOAD, Onboarding, brought, list_objects, step

pytestmark = pytest.mark.servers
_ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/deepintshield/roles"


async def test_the_cluster_gets_a_refresher_and_the_app_no_role(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    image = "mirror.example/python:3.13"
    operation = await onboarding.onboard(cluster, refresher="in-cluster", refresherImage=image, adopt=True)
    [job] = (await cluster.admin.call("GET", "/apis/batch/v1/namespaces/deepintshield/cronjobs"))["items"]
    assert job["metadata"]["name"] == "refresh-ar-pull-secret"
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    path = "/api/v1/namespaces/deepintshield/configmaps/refresh-ar-pull-secret"
    assert json.loads((await cluster.admin.call("GET", path))["data"]["settings.json"])["adopt"] is True
    roles = await cluster.admin.call("GET", _ROLES)
    assert "pullkeeper-refresher" not in {role["metadata"]["name"] for role in roles["items"]}
    identity = onboarding.world.cloud.entra.identities
    assert operation.result is not None
    assert operation.result.handover is not None
    assert operation.result.handover.client_id in identity
    assert operation.result.handover.object_id != onboarding.world.cloud.app.principal_id


async def test_it_joins_without_a_refresh_of_others_in_its_shard(onboarding: Onboarding) -> None:
    world = onboarding.world
    beside = world.name_beside(await world.join("aks-1"))
    await onboarding.onboard(await onboarding.cluster(beside), refresher="in-cluster")
    assert world.events.named("secret.refreshed") == []


async def test_the_chain_kubernetes_hands_over_the_clusters_issuer(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    body = {"cluster": str(cluster.id), "hub": "main", "refresher": "in-cluster", "chain": "kubernetes"}
    operation = await onboarding.run(body)
    assert operation.result is not None
    handed = operation.result.handover
    assert handed is not None
    assert handed.issuer == "https://oidc.example/aks-1/"
    assert handed.subject == "system:serviceaccount:deepintshield:deepintshield-sa"
    [create_provider] = [command for command in handed.commands if " create-oidc " in command]
    assert "--issuer-uri=https://oidc.example/aks-1/ --allowed-audiences=api://AzureADTokenExchange " in create_provider


async def test_the_handover_lists_the_identities_of_clusters_that_refresh_themselves(onboarding: Onboarding) -> None:
    """Not those that the publisher need not trust: of central clusters, other hubs and clusters that have left."""
    onboarding.world.cloud.add_hub("other")
    bodies: dict[str, dict[str, Any]] = {
        "aks-central": {},
        "aks-1": {"refresher": "in-cluster"},
        "aks-2": {"refresher": "in-cluster"},
        "aks-kubernetes": {"refresher": "in-cluster", "chain": "kubernetes"},
        "aks-other": {"refresher": "in-cluster", "hub": "other"},
        "aks-brought": {"refresher": "in-cluster", **brought(onboarding)},
        "aks-gone": {"refresher": "in-cluster"},
    }
    clusters = {name: await onboarding.cluster(name) for name in bodies}
    ended = {name: await onboarding.onboard(clusters[name], **body) for name, body in bodies.items()}
    await onboarding.offboard_fully(clusters["aks-gone"])

    handover = await onboarding.world.services.handover("main")

    results = [ended[name].result for name in ("aks-1", "aks-2", "aks-brought")]
    handed = [one.handover for one in results if one and one.handover]
    ids = {one.object_id for one in handed}
    assert len(ids) == 3
    assert set(handover.identities) == ids
    members = {command.rpartition("/subject/")[2] for command in handover.commands if "workloadIdentityUser" in command}
    assert members == {handover.subject, *ids}
    [condition] = {
        command.partition("--attribute-condition=")[2]
        for commands in (handover.commands, *(one.commands for one in handed))
        for command in commands
        if " create-oidc " in command
    }
    assert condition == f"\"assertion.tid=='{handover.tenant_id}'\""

    del onboarding.world.cloud.hubs["other"]
    await onboarding.restart()
    assert await onboarding.world.services.handover("main") == handover


async def test_the_handover_has_the_same_order_at_each_start_of_the_app(onboarding: Onboarding) -> None:
    """So that a publisher who compares it sees what is new."""
    cluster, services = await onboarding.cluster("aks-0"), onboarding.world.services
    expected = tuple(f"identity-{number}" for number in range(9))
    for number, identity in enumerate(expected):
        changes = {"cluster": ClusterId(SUBSCRIPTION, GROUP, f"aks-{number}"), "refresher": "in-cluster"}
        member = Member(cluster.member.cluster.model_copy(update=changes), cluster.member.endpoint, identity)
        await services.fleet.register(member)
    assert (await services.handover("main")).identities == expected


async def test_a_cluster_that_the_app_cannot_reach_gets_manifests_for_its_pipeline(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    await cluster.server.stop()
    targets = [{"namespace": f"team-{n}", "serviceAccounts": ["puller"]} for n in range(4)]
    body = {"cluster": str(cluster.id), "hub": "main", "refresher": "in-cluster", "targets": targets}
    ended = await onboarding.run(body)
    assert ended.status == "Succeeded", ended.to_json()
    # As a caller reads it: longer than one property of a table can be.
    operation = await onboarding.world.services.onboarder.get_operation(ended.id)
    assert operation.result is not None
    kinds = [manifest["kind"] for manifest in yaml.safe_load_all(operation.result.manifests or "")]
    assert kinds[0] == "Namespace"
    assert {"ServiceAccount", "ConfigMap", "Role", "RoleBinding", "CronJob"} <= set(kinds)
    view = await onboarding.world.services.overview.one(cluster.id)
    assert {target.state for target in view.targets if target.note} == {"unknown"}, "and why"
    planned = await onboarding.onboard(cluster, refresher="in-cluster", targets=targets, dryRun=True)
    assert step(planned, "retire").detail == "skipped: the app cannot reach the cluster"


async def test_with_chain_kubernetes_the_handover_names_every_job(onboarding: Onboarding) -> None:
    cluster = await onboarding.cluster("aks-1")
    shop = {"namespace": "shop", "serviceAccounts": ["a", "b"]}
    targets = [shop, {**shop, "secret": "another"}, {"namespace": "till", "serviceAccounts": ["c"]}]
    wanted = {"refresher": "in-cluster", "chain": "kubernetes", "targets": targets}
    ended = await onboarding.onboard(cluster, **wanted)
    assert ended.result is not None
    assert ended.result.handover is not None
    commands = "\n".join(ended.result.handover.commands)
    jobs = ["system:serviceaccount:shop:a", "system:serviceaccount:till:c"]
    assert f'--attribute-condition="assertion.sub in {jobs}"' in commands
    members = [line.partition("--member=")[2] for line in commands.splitlines() if "workloadIdentityUser" in line]
    assert [member.rpartition("/subject/")[2] for member in members] == jobs
    for namespace, account in (("shop", "a"), ("till", "c")):
        path = f"/api/v1/namespaces/{namespace}/configmaps/gcp-credential-config"
        description = (await cluster.admin.call("GET", path))["metadata"]["annotations"]["kubernetes.io/description"]
        assert f"that run as {account}. Google accepts" in description


async def test_a_target_without_a_service_account_is_refused(
    onboarding: Onboarding,
) -> None:
    cluster = await onboarding.cluster("aks-1")
    targets = [{"serviceAccounts": ["a"]}, {"namespace": "shop"}]
    with pytest.raises(InvalidRequest, match="refresher in-cluster needs serviceAccounts in every target"):
        await onboarding.begin({"cluster": str(cluster.id), "refresher": "in-cluster", "targets": targets})


async def test_with_an_audience_of_its_own_google_refuses_the_pods_token(onboarding: Onboarding) -> None:
    """The webhook of workload identity writes one audience into the token of every pod."""
    cluster = await onboarding.cluster("aks-1")
    hub = onboarding.world.cloud.hubs["main"]
    onboarding.world.cloud.entra.resources["api://pull"] = Resource()
    onboarding.world.cloud.hubs["main"] = replace(hub, document={**hub.document, "entraResource": "api://pull"})
    wanted = {"refresher": "in-cluster", "chain": "kubernetes"}
    await onboarding.run({"cluster": str(cluster.id), "hub": "main", **wanted})
    path = "/api/v1/namespaces/deepintshield/configmaps/gcp-credential-config"
    found = await cluster.admin.call("GET", path)
    assert "Google refuses" in found["metadata"]["annotations"]["kubernetes.io/description"]


def _body(account: str, **changes: str) -> dict[str, object]:
    target = {"namespace": "n" * 63, "serviceAccounts": [account, "b" * 63]}
    body = {
        "cluster": str(ClusterId("0b1f6471-1bf0-4dda-aec3-cb9272f09590", "shop", "aks-1")),
        "refresher": "in-cluster",
        "chain": "kubernetes",
        "targets": [target],
    }
    return {**body, **changes}


def test_with_chain_kubernetes_a_subject_that_google_cannot_hold_is_refused() -> None:
    """It would be refused at the exchange, after everything has been set up. Only the job's account is a subject."""
    fits = "a" * (127 - len("system:serviceaccount::") - 63)

    assert Request.parse(_body(fits)).named[0].account_names[0] == fits
    with pytest.raises(InvalidRequest, match="has 128 bytes for one target, and Google allows 127"):
        Request.parse(_body(f"{fits}a"))


@pytest.mark.parametrize("other", [{"chain": "entra"}, {"refresher": "central"}])
def test_where_entra_names_the_subject_the_account_may_be_longer(other: dict[str, str]) -> None:
    assert Request.parse(_body("a" * 63, **other))


async def test_offboarding_removes_what_a_pipeline_applied(onboarding: Onboarding) -> None:
    """With the field manager that the documentation names."""
    cluster = await onboarding.cluster("aks-1")
    before = set(await list_objects(cluster))
    await cluster.server.stop()
    ended = await onboarding.onboard(cluster, refresher="in-cluster", workload=WORKLOAD)
    await cluster.server.start()
    assert ended.result is not None
    for manifest in yaml.safe_load_all(ended.result.manifests or ""):
        await cluster.admin.apply(manifest, manager="pullkeeper")
    assert len(set(await list_objects(cluster)) - before) == 9
    assert await onboarding.offboard_fully(cluster) == [
        "Namespace deepintshield: kept, because it may hold other objects"
    ]
    assert set(await list_objects(cluster)) - before == {"/api/v1/namespaces//deepintshield"}
