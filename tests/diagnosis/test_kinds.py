"""Clusters of every kind: in-cluster, with local accounts, without federation, namespaces by label; and hubs alone."""

import asyncio
import base64
from dataclasses import replace
from datetime import datetime

import pytest

from local.azure.arm import CLUSTER_USER
from local.breaks import change
from local.cloud import LocalCluster
from local.serving import Authority
from pullkeeper.diagnosis.diagnostics import Diagnostics
from pullkeeper.diagnosis.report import HopName
from pullkeeper.errors import InvalidSetting, NotInFleet, UnknownHub
from pullkeeper.fleet.table import Member
from pullkeeper.model import ClusterId
from tests.diagnosis.conftest import Doctor, find_hop, format_hops, list_hops
from tests.onboarding.conftest import IDENTITY, federated
from tests.world import World

pytestmark = pytest.mark.servers


async def test_a_cluster_that_refreshes_itself_has_no_chain_of_the_app(doctor: Doctor) -> None:
    """Its job refreshes with an identity of its own, which the app cannot ask."""
    targets = [{"namespace": "deepintshield", "serviceAccounts": ["deepintshield-sa"]}]
    cluster = await doctor.onboard(refresher="in-cluster", targets=targets)
    diagnosis = await doctor.examine(cluster)
    states = {hop.name: hop.state for hop in diagnosis.hops}
    skipped = [name for name, state in states.items() if state == "skipped"]
    assert skipped == [
        "entra-token",
        "token-exchange",
        "impersonation",
        "registry-permission",
        "probe-image",
        "permission",
    ], format_hops(diagnosis)
    ask = "kubectl auth can-i patch secret/ar-pull-secret -n deepintshield --as=system:serviceaccount:deepintshield:"
    assert ask in find_hop(diagnosis, "permission").detail
    assert doctor.world.cloud.google.exchanges == 0
    secret = find_hop(diagnosis, "secret")
    assert (secret.state, secret.category) == ("failed", "object_drifted")
    with change(doctor.onboarding.azure(cluster), oidc_issuer="https://oidc.example/other/"):
        trust = find_hop(await doctor.examine(cluster), "federated-credential")
    assert (trust.state, trust.category) == ("failed", "federated_credential_mismatch")


async def test_without_federation_neither_issuer_nor_identity_is_missed(doctor: Doctor) -> None:
    targets = [{"namespace": "deepintshield", "serviceAccounts": ["deepintshield-sa"]}]
    cluster = await doctor.onboarding.cluster("aks-1")
    azure = doctor.onboarding.azure(cluster)
    azure.oidc_issuer, azure.workload_identity = None, False
    await doctor.onboarding.onboard(cluster, targets=targets)
    diagnosis = await doctor.examine(cluster)
    assert diagnosis.state == "ok", format_hops(diagnosis)
    for name in ("oidc-issuer", "federated-credential"):
        assert find_hop(diagnosis, name).detail == "not needed: no service account is federated"
    assert find_hop(diagnosis, "oidc-issuer").evidence == {"issuer": "off", "workload identity": "off"}
    assert find_hop(diagnosis, "service-account").detail == "it names the secret"


async def test_local_accounts_are_administrators_by_certificate(world: World) -> None:
    cluster = await world.join("aks-1", local_accounts=True)
    await world.refresh(cluster)
    diagnosis = await world.services.diagnostics.examine_cluster(cluster.id)
    assert "client certificate" in find_hop(diagnosis, "authentication").detail
    assert find_hop(diagnosis, "permission").detail == "the identity that refreshes is an administrator of the cluster"
    config = find_hop(diagnosis, "credential-config")
    assert (config.state, config.category) == ("failed", "object_drifted"), format_hops(diagnosis)
    other, app = await world.join("aks-2", local_accounts=True), world.cloud.app.principal_id
    world.cloud.arm.unassign(app, str(other.id), CLUSTER_USER)
    refused = find_hop(await world.services.diagnostics.examine_cluster(other.id), "authentication")
    assert refused.category == "arm_denied"
    assert f"--assignee-object-id {app} " in str(refused.remedy)


async def test_namespaces_by_label_are_looked_at_as_found(doctor: Doctor) -> None:
    """One right for all namespaces is asked for once."""
    cluster = await doctor.onboarding.cluster("aks-1")
    for name in ("team-a", "team-b"):
        namespace = {"metadata": {"name": name, "labels": {"pull": "yes"}}}
        await cluster.admin.call("POST", "/api/v1/namespaces", namespace)
    await doctor.onboarding.onboard(cluster, targets=[{"namespaceSelector": {"matchLabels": {"pull": "yes"}}}])
    diagnosis = await doctor.examine(cluster)
    assert diagnosis.state == "ok", format_hops(diagnosis)
    assert [hop.subject for hop in list_hops(diagnosis, "secret")] == ["team-a/ar-pull-secret", "team-b/ar-pull-secret"]
    assert find_hop(diagnosis, "credential-config").detail == "there are no credential configurations"
    accounts = "no target names a service account: pods name the secret themselves"
    assert find_hop(diagnosis, "service-account").detail == accounts
    permission = find_hop(diagnosis, "permission")
    assert (permission.subject, permission.evidence["missing"]) == ("all namespaces", "nothing")
    assert (
        permission.evidence["needed"] == "list namespaces, patch secrets/ar-pull-secret, create secrets/ar-pull-secret"
    )


@pytest.mark.parametrize(
    "changed", [{"server": "https://gone.invalid:443"}, {"ca": Authority().pem}], ids=["address", "authority"]
)
async def test_a_cluster_that_has_moved_is_found_as_a_refresh_finds_it(doctor: Doctor, changed: dict[str, str]) -> None:
    cluster = await doctor.onboard()
    known = cluster.member.endpoint
    gone = known.model_copy(update={**changed, "read_at": doctor.world.clock()})
    member = await doctor.world.services.fleet.member(cluster.id)
    await doctor.world.services.fleet.put(Member(member.cluster, gone))
    diagnosis = await doctor.examine(cluster)
    server = find_hop(diagnosis, "api-server")
    assert (server.state, server.evidence["server"]) == ("warning", known.server)
    assert server.evidence["earlier server"] == gone.server
    assert {hop.name for hop in diagnosis.hops if hop.state != "ok"} == {"api-server"}, format_hops(diagnosis)
    await doctor.world.refresh(cluster)
    assert find_hop(await doctor.examine(cluster), "api-server").state == "ok", "the refresh has recorded it"


async def test_a_new_address_that_does_not_respond_either_has_failed(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    gone = cluster.member.endpoint.model_copy(update={"server": "https://gone.invalid:443"})
    member = await doctor.world.services.fleet.member(cluster.id)
    await doctor.world.services.fleet.put(Member(member.cluster, gone))
    await cluster.server.stop()
    server = find_hop(await doctor.examine(cluster), "api-server")
    assert (server.state, server.category) == ("failed", "cluster_unreachable")


async def test_every_account_has_its_credential(doctor: Doctor) -> None:
    """Of several accounts, the one that is not trusted is named, with what comes nearest. Each is shown once."""
    targets = [
        {"namespace": "deepintshield", "serviceAccounts": federated("one", "two")},
        {"namespace": "deepintshield", "secret": "second", "serviceAccounts": federated("one")},
    ]
    cluster = await doctor.onboard(targets=targets)
    arm = doctor.world.cloud.arm
    identity = doctor.onboarding.identity()
    assert identity
    (second,) = [one for one in arm.federated_credentials.find_all(identity) if one.trust.subject.endswith(":two")]
    arm.federated_credentials.remove(identity, second.name)
    found = list_hops(await doctor.examine(cluster), "federated-credential")
    hops = {hop.subject: hop for hop in found}
    assert (len(found), hops["deepintshield/one"].state) == (2, "ok")
    missing = hops["deepintshield/two"]
    assert (missing.state, missing.category) == ("failed", "federated_credential_mismatch")
    assert "has no federated credential for it" in missing.detail
    assert f"--identity-name {identity.service_principal.name}" in str(missing.remedy)


@pytest.mark.parametrize(("requested", "name"), [("shop-identity", "shop-identity"), (None, IDENTITY)])
async def test_an_identity_that_is_gone_is_named(doctor: Doctor, requested: str | None, name: str) -> None:
    """That of the latest request."""
    cluster = await doctor.onboard(identity="earlier" if requested else None)
    await doctor.onboarding.onboard(cluster, identity=requested)
    doctor.world.cloud.arm.identities.remove(doctor.onboarding.identity(name).resource_id)  # type: ignore[union-attr]
    hop = find_hop(await doctor.examine(cluster), "federated-credential")
    assert (hop.state, hop.category) == ("failed", "federated_credential_mismatch")
    assert name in hop.detail
    assert str(hop.remedy).endswith(f"--identity-name {name}")


async def test_a_hub_that_is_no_longer_configured_is_the_first_to_repair(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    del doctor.world.cloud.hubs["main"]
    await doctor.onboarding.restart()
    diagnosis = await doctor.examine(cluster)
    failed = [hop for hop in diagnosis.hops if hop.state == "failed"]
    assert [(hop.name, hop.category) for hop in failed] == [("entra-token", "invalid_request")], format_hops(diagnosis)
    assert "HUBS has no hub main" in failed[0].detail
    assert [find_hop(diagnosis, name).state for name in ("secret", "credential-config")] == ["ok", "skipped"]
    behind: tuple[HopName, ...] = ("token-exchange", "impersonation", "registry-permission", "probe-image")
    assert {find_hop(diagnosis, name).because for name in behind} == {"entra-token"}


async def test_a_cluster_may_have_a_hub_of_its_own(doctor: Doctor) -> None:
    document = doctor.world.cloud.hubs["two"].document
    own = {name: document[name] for name in ("credentialConfig", "registries", "probe")}
    cluster = await doctor.onboarding.cluster("aks-1")
    await doctor.onboarding.onboard(cluster, hub=None, **own)
    diagnosis = await doctor.examine(cluster)
    assert (diagnosis.state, diagnosis.hub) == ("ok", None), format_hops(diagnosis)
    assert len(list_hops(diagnosis, "registry-permission")) == 2


async def test_a_hub_is_examined_without_a_cluster(doctor: Doctor) -> None:
    examine = doctor.world.services.diagnostics.examine_hub
    one, diagnosis = await asyncio.gather(examine("main"), examine("two"))
    assert len(list_hops(one, "registry-permission")) == 1
    assert (diagnosis.hub, diagnosis.cluster, diagnosis.state) == ("two", None, "ok")
    assert len(list_hops(diagnosis, "registry-permission")) == 2
    evidence = find_hop(diagnosis, "entra-token").evidence
    assert {"iss", "sub", "aud", "exp"} <= evidence.keys()
    assert evidence["exp"].endswith("+00:00"), "readers do not count seconds since 1970"
    with pytest.raises(UnknownHub):
        await examine("other")


async def test_the_registry_of_the_probe_is_the_one_that_counts(world: World) -> None:
    hub = world.cloud.add_hub("two", registries=2)
    probe = f"{hub.document['registries'][1]}/{hub.image}:latest"
    for name, image in (("two", probe), ("untagged", probe.removesuffix(":latest"))):
        world.cloud.hubs[name] = replace(hub, document={**hub.document, "probe": image})
    world.cloud.registries[0].revoke(hub.repository, hub.reader)
    diagnosis = await world.services.diagnostics.examine_hub("two")
    assert diagnosis.state == "warning", format_hops(diagnosis)
    assert find_hop(diagnosis, "probe-image").detail == "the registry has the hub's probe image"
    untagged = find_hop(await world.services.diagnostics.examine_hub("untagged"), "probe-image")
    assert (untagged.state, untagged.subject) == ("ok", probe.removesuffix(":latest"))
    assert untagged.detail == "not asked for: the hub's probe names no tag"


async def test_a_hub_without_impersonation_uses_the_federated_token(world: World) -> None:
    hub = world.cloud.add_hub("plain", impersonate=False)
    diagnosis = await world.services.diagnostics.examine_hub("plain")
    assert diagnosis.state == "ok", format_hops(diagnosis)
    assert find_hop(diagnosis, "impersonation").detail == "not needed: the hub has no service account"
    world.cloud.registries[0].revoke(hub.repository, hub.reader)
    denied = find_hop(await world.services.diagnostics.examine_hub("plain"), "registry-permission")
    assert f"--member={hub.principal}" in str(denied.remedy)


async def test_a_system_assigned_identity_that_is_gone_is_named_as_such(world: World) -> None:
    world.settings["AZURE_CLIENT_ID"] = ""
    world.cloud.identity.unassign(world.cloud.app)
    gone = find_hop(await world.services.diagnostics.examine_hub("main"), "managed-identity")
    assert (gone.state, gone.evidence) == ("failed", {"client id": "that of the system-assigned identity"})


async def test_a_wrong_hub_is_an_invalid_setting(world: World) -> None:
    world.settings["HUBS"] = '{"wrong": {}}'
    with pytest.raises(InvalidSetting, match="wrong"):
        await world.services.diagnostics.examine_hub("wrong")


async def test_a_cluster_that_is_not_in_the_fleet_is_not_found(world: World) -> None:
    with pytest.raises(NotInFleet):
        await world.services.diagnostics.examine_cluster(
            ClusterId.of("0" * 8 + "-0000-0000-0000-" + "0" * 12, "g", "n")
        )


async def test_an_expired_secret_has_the_reason_of_its_last_refresh(doctor: Doctor) -> None:
    """The cause is the hop before it; the secret is named too, because pods cannot pull."""
    cluster = await doctor.onboard()
    world = doctor.world
    annotations = (await cluster.admin.read_secret("deepintshield", "ar-pull-secret"))["metadata"]["annotations"]
    expires = datetime.fromisoformat(annotations["pullkeeper.dev/expires-at"])
    world.clock.advance(expires - world.clock())
    at_its_expiry = Diagnostics(replace(world.services.diagnostics._tools, clock=lambda: expires))
    secret = find_hop(await at_its_expiry.examine_cluster(cluster.id), "secret")
    assert (secret.state, secret.category, secret.subject) == ("failed", "refresh_stopped", str(cluster.target))
    assert str(secret.runbook).endswith("/refresh_stopped.md")
    await cluster.server.stop()
    await world.refresh(cluster)
    await cluster.server.start()
    secret = find_hop(await doctor.examine(cluster), "secret")
    assert (secret.state, secret.category) == ("failed", "cluster_unreachable")
    assert int(secret.evidence["minutes left"]) <= 0
    assert secret.evidence["last failure"] == "cluster_unreachable"


async def test_an_expired_secret_at_which_the_app_may_not_look_has_the_remedy_of_its_job(doctor: Doctor) -> None:
    """The identity that onboards may."""
    cluster = await doctor.onboard(refresher="in-cluster")
    assert (await doctor.world.target(cluster)).unobserved
    times = {
        "pullkeeper.dev/issued-at": "2020-01-01T00:00:00+00:00",
        "pullkeeper.dev/expires-at": "2020-01-01T01:00:00+00:00",
    }
    metadata = {"name": "ar-pull-secret", "namespace": "deepintshield", "annotations": times}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/dockerconfigjson"}
    data = {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()}
    await cluster.admin.apply({**secret, "data": data}, manager="pullkeeper")
    hop = find_hop(await doctor.examine(cluster), "secret")
    assert (hop.state, hop.category) == ("failed", "refresh_stopped")
    assert hop.detail.endswith("its token has expired: no refresh since 2020-01-01 00:00:00+00:00")
    assert "kubectl get cronjobs,jobs -n deepintshield" in str(hop.remedy)


async def test_a_terminating_namespace_is_named(doctor: Doctor) -> None:
    """It can no longer be refreshed once the secret is gone."""
    cluster: LocalCluster = await doctor.onboard()
    await cluster.admin.call("DELETE", "/api/v1/namespaces/deepintshield")
    diagnosis = await doctor.examine(cluster)
    hop = find_hop(diagnosis, "namespace")
    assert (hop.state, hop.category, hop.subject) == ("failed", "namespace_terminating", "deepintshield")
    others = [one for one in diagnosis.hops if one.name != "namespace" and one.state != "ok"]
    assert {one.because for one in others} == {"namespace"}, format_hops(diagnosis)
    assert {one.name: one.subject for one in others} == {
        "permission": "deepintshield",
        "service-account": "deepintshield/deepintshield-sa",
        "credential-config": "deepintshield/gcp-credential-config",
        "secret": "deepintshield/ar-pull-secret",
        "pods": "deepintshield",
    }
