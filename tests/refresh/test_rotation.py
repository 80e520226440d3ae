"""A rotation replaces the content of a secret and nothing else."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pullkeeper.fleet.shards import shard_of
from pullkeeper.model import Target
from pullkeeper.refresh.pace import next_due
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers


async def test_uid_stays_over_rotations_and_every_token_is_new(world: World) -> None:
    cluster = await world.join("aks-1")
    uids, tokens = set(), set()
    for _ in range(12):
        await world.refresh(cluster)
        secret = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
        uids.add(secret["metadata"]["uid"])
        tokens.add(await world.read_token(cluster))
        world.clock.advance(14 * MINUTE)
    assert len(uids) == 1
    assert len(tokens) == 12


async def test_no_secret_is_ever_read_listed_or_deleted(world: World) -> None:
    """The only calls are applies of one name, whatever happens to the secret."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster, "manual")
    await cluster.admin.delete_secret("deepintshield", "ar-pull-secret")
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    await cluster.admin.edit_secret("deepintshield", "ar-pull-secret", '{"auths":{}}')
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    app = [
        seen for seen in cluster.part.journal.requests if seen.query.get("fieldManager", "").startswith("pullkeeper")
    ]
    others = [
        seen
        for seen in cluster.part.journal.requests
        if seen not in app and "aiohttp" not in seen.headers["User-Agent"]
    ]
    assert others == []
    assert {"PATCH"} == {seen.method for seen in app}
    assert {"/api/v1/namespaces/deepintshield/secrets/ar-pull-secret"} == {seen.path for seen in app}


async def test_responses_have_no_content(world: World) -> None:
    """Every apply asks for metadata only."""
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    accepts = {seen.headers["Accept"] for seen in cluster.part.journal.requests if "fieldManager" in seen.query} - {
        "*/*"
    }
    assert {"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"} == accepts


async def test_the_secret_has_the_form_that_a_kubelet_needs(world: World) -> None:
    """Type, label, the token's times, and an entry for every registry of the hub."""
    world.cloud.add_hub("two", registries=2)
    cluster = await world.join("aks-1", "two")
    await world.refresh(cluster)
    secret = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    status = await world.target(cluster)
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    assert secret["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "pullkeeper"}
    assert status.issued_at
    assert status.expires_at
    assert secret["metadata"]["annotations"] == {
        "pullkeeper.dev/issued-at": status.issued_at.isoformat(timespec="seconds"),
        "pullkeeper.dev/expires-at": status.expires_at.isoformat(timespec="seconds"),
    }
    auths = await cluster.admin.read_auths("deepintshield", "ar-pull-secret")
    assert world.cloud.hubs["two"].document["registries"] == list(auths)
    assert {"oauth2accesstoken"} == {entry["username"] for entry in auths.values()}


async def test_all_targets_of_a_cluster_get_the_same_token(world: World) -> None:
    targets = [Target(namespace="one"), Target(namespace="two", secret="pull"), Target(namespace="two", secret="other")]
    cluster = await world.join("aks-1", targets=targets)
    status = await world.refresh(cluster)
    assert {str(target) for target in targets} == set(status.targets)
    found = [await cluster.admin.read_auths(target.namespace, target.secret) for target in targets]
    assert found[0] == found[1] == found[2]
    assert world.cloud.google.exchanges == 1


async def test_service_accounts_get_the_reference_once_and_keep_theirs(world: World) -> None:
    target = Target(service_accounts=("with", "without", "later", "last"))
    cluster = await world.join("aks-1", targets=[target])
    for name, theirs in {"with": [{"name": "theirs"}], "without": None}.items():
        manifest = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": "deepintshield"},
        }
        await cluster.admin.apply({**manifest, **({"imagePullSecrets": theirs} if theirs else {})})
    status = await world.refresh(cluster)
    assert status.targets[str(target)].note == "no such service account yet: later, last"
    for name in ("later", "last"):
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": "deepintshield"},
        }
        await cluster.admin.apply(account)
    for _ in range(2):
        status = await world.refresh(cluster, "manual")
    assert status.targets[str(target)].note is None
    listed = {
        name: (await cluster.admin.call("GET", f"/api/v1/namespaces/deepintshield/serviceaccounts/{name}"))[
            "imagePullSecrets"
        ]
        for name in target.account_names
    }
    ours = {"name": "ar-pull-secret"}
    assert {"with": [{"name": "theirs"}, ours], "without": [ours], "later": [ours], "last": [ours]} == listed


@pytest.mark.parametrize("lifetime", [3600, 900])
async def test_next_refresh_is_due_before_half_of_the_tokens_life(world: World, lifetime: int) -> None:
    """Also if the token was as old as it may be when it was written."""
    world.cloud.add_hub("other", lifetime=lifetime)
    first, second = await world.join("aks-1", "other"), await world.join("aks-2", "other")
    minted, life = world.clock(), timedelta(seconds=lifetime)
    await world.refresh(first)
    world.clock.advance(0.95 * life / 12)
    await world.refresh(second)
    assert world.cloud.google.exchanges == 1
    target = await world.target(second)
    assert world.clock() < target.next_due <= minted + life * 25 / 60
    assert target.issued_at
    assert target.expires_at
    assert target.last_success
    assert target.next_due == next_due(shard_of(second.id), target.expires_at - target.issued_at, target.last_success)


async def test_a_target_that_the_cluster_is_onboarded_without_is_reported_once(world: World) -> None:
    """So that no alert waits for it."""
    cluster = await world.join("aks-1", targets=(Target(), Target(namespace="other")))
    await world.tick()
    wanted = cluster.member.cluster.model_copy(update={"targets": (Target(),)})
    await world.services.fleet.register(replace(cluster.member, cluster=wanted))
    for _ in range(2):
        world.clock.advance(20 * MINUTE)
        await world.tick()
    [event] = world.events.named("target.removed")
    assert event["target"] == f"{cluster.id}/other/ar-pull-secret"
    assert event["detail"] == "the cluster was onboarded without it"
