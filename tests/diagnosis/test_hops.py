"""Promise 9: whatever breaks, the diagnosis names that hop and blames no other."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final, get_args
from unittest.mock import ANY

import pytest
import pytest_asyncio

from local.azure.entra import EXCHANGE, EXCHANGE_ID, Entra
from local.azurite import Azurite
from local.cloud import LocalCluster
from local.hops import HOPS, break_hop, find_break
from local.serving import Authority
from pullkeeper.diagnosis.report import HopName
from tests.diagnosis.conftest import Doctor, build_doctor, find_hop, format_hops
from tests.onboarding.conftest import ACCOUNT, AUDIENCE, IDENTITY, NAMESPACE, SUBJECT
from tests.world import open_world

pytestmark = pytest.mark.servers
WAYS = [(hop, variant) for hop, ways in HOPS.items() for variant in ways]
WARNINGS = {("registry-permission", "second-registry"), ("probe-image", "deleted"), ("secret", "edited")}
"""What harms no refresh, or is repaired by the next one."""
SHOWN: Final[Mapping[tuple[HopName, str], set[str]]] = {
    ("managed-identity", "removed"): {"client id"},
    ("entra-token", "resource"): {"resource"},
    ("impersonation", "binding"): {"service account", "principal"},
    ("federated-credential", "missing"): {"identity", "client id", "object id", "issuer", "subject", "audience"},
    ("authentication", "tenant"): set(),
    ("service-account", "missing"): set(),
    ("credential-config", "missing"): set(),
    ("credential-config", "audience"): {
        "type",
        "audience",
        "subject_token_type",
        "token_url",
        "service_account_impersonation_url",
        "credential_source",
        "universe_domain",
    },
    ("secret", "conflict"): {"uid", "field managers"},
    ("secret", "deleted"): set(),
    ("pods", "without-secret"): {"since", "images", "imagePullSecrets", "service account", "owner"},
    ("pods", "with-secret"): {"since", "images", "imagePullSecrets", "service account", "owner"},
}
"""What is shown of a hop that is broken in this way, if that is not what is shown of one that is well. Left out: what
was expected, and where the difference is.
"""
SEEN: Final[Mapping[tuple[HopName, str], str]] = {
    ("managed-identity", "removed"): "client id: {client_id}",
    ("entra-token", "resource"): "resource: api://AzureADTokenExchange",
    ("token-exchange", "audience"): "address: https://",
    ("impersonation", "binding"): "principal: {principal}",
    ("oidc-issuer", "workload-identity"): "\nworkload identity off\nissuer: https://",
    ("federated-credential", "subject"): "subject difference: character 25: system:serviceaccount:de[f]ault",
    ("federated-credential", "audience"): "most like it, has another audience\n",
    ("service-account", "annotation"): "imagePullSecrets: ar-pull-secret\n",
    ("service-account", "client-id"): "client-id difference: character ",
    ("credential-config", "audience"): "audience difference: character ",
    ("secret", "conflict"): "field managers: kubectl-create",
    ("secret", "edited"): "\nkubectl-edit has written its content",
}
"""A part of detail and evidence of a broken hop."""
_NAMES = "cluster|subscription|group|name|identity|namespace|secret|object|principal|account|pod"
_BLANK = re.compile(f"<(?:{_NAMES}|resource|project|pool|provider|audience|issuer|service_account|host|untagged)>")
"""In a remedy: a name that the diagnosis knows and has not given."""


async def test_all_hops_of_a_healthy_cluster_are_ok(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    diagnosis = await doctor.examine(cluster)
    assert (diagnosis.state, {hop.state for hop in diagnosis.hops}) == ("ok", {"ok"}), format_hops(diagnosis)
    assert (diagnosis.cluster, diagnosis.hub) == (cluster.id, "main")
    assert tuple(hop.name for hop in diagnosis.hops) == get_args(HopName)
    assert {hop.name: hop.evidence for hop in diagnosis.hops} == await _list_evidence(doctor, cluster)
    image, account = find_hop(diagnosis, "registry-permission").evidence["image"], f"{NAMESPACE}/{ACCOUNT}"
    assert {hop.name: hop.subject for hop in diagnosis.hops if hop.subject} == {
        "registry-permission": image.partition("/")[0],
        "probe-image": image,
        "federated-credential": account,
        "permission": NAMESPACE,
        "namespace": NAMESPACE,
        "service-account": account,
        "credential-config": f"{NAMESPACE}/gcp-credential-config",
        "secret": str(cluster.target),
        "pods": NAMESPACE,
    }
    details = [find_hop(diagnosis, name).detail for name in ("impersonation", "service-account")]
    giver = doctor.world.cloud.hubs["main"].service_account
    assert details == [f"Google gives a token of {giver}", "it names the secret, and the identity of its pods"]


async def _list_evidence(doctor: Doctor, cluster: LocalCluster) -> dict[HopName, dict[str, object]]:
    """Return what is shown of each hop of a cluster that is well."""
    cloud, app, identity = doctor.world.cloud, doctor.world.cloud.app, doctor.onboarding.identity()
    assert identity
    hub, own = cloud.hubs["main"], identity.service_principal
    config = hub.document["credentialConfig"]
    azure = doctor.onboarding.azure(cluster)
    secret = (await cluster.admin.read_secret(NAMESPACE, "ar-pull-secret"))["metadata"]
    token = {"iss": cloud.entra.issuer_v2, "sub": app.principal_id, "aud": EXCHANGE_ID}
    about = {"oid": app.principal_id, "tid": cloud.entra.tenant, "azp": app.client_id}
    rights = [f"{verb} secrets/ar-pull-secret" for verb in ("patch", "create")]
    rights += [f"{verb} serviceaccounts/{ACCOUNT}" for verb in ("get", "patch")]
    return {
        "managed-identity": {
            "client id": app.client_id,
            "object id": app.principal_id,
            "tenant": cloud.entra.tenant,
        },
        "entra-token": {"resource": EXCHANGE, "exp": ANY, **token, **about},
        "token-exchange": {"provider": config["audience"], "address": config["token_url"], **token},
        "impersonation": {"service account": hub.service_account, "expires at": ANY, "life": "1:00:00"},
        "registry-permission": {"image": f"{hub.document['registries'][0]}/{hub.image}:latest"},
        "probe-image": {},
        "cluster-state": {
            "version": azure.version,
            "power state": "Running",
            "provisioning state": "Succeeded",
            "location": "westeurope",
        },
        "oidc-issuer": {"issuer": azure.oidc_issuer, "workload identity": "on"},
        "federated-credential": {
            "identity": IDENTITY,
            "client id": own.client_id,
            "object id": own.principal_id,
            "credential": next(iter(doctor.onboarding.credentials())),
            "issuer": azure.oidc_issuer,
            "subject": SUBJECT,
            "audience": AUDIENCE,
        },
        "api-server": {"server": cluster.member.endpoint.server, "address as of": ANY},
        "authentication": {"user": app.principal_id},
        "permission": {"user": app.principal_id, "needed": ", ".join(rights), "missing": "nothing"},
        "namespace": {},
        "service-account": {
            "imagePullSecrets": "ar-pull-secret",
            "azure.workload.identity/client-id": own.client_id,
            "azure.workload.identity/use": "true",
        },
        "credential-config": {"audience": config["audience"]},
        "secret": {
            "uid": secret["uid"],
            "field managers": "pullkeeper",
            "type": "kubernetes.io/dockerconfigjson",
            "expires at": secret["annotations"]["pullkeeper.dev/expires-at"],
            "minutes left": ANY,
        },
        "pods": {},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def onboarded(
    azurite: Azurite, authority: Authority, entra: Entra
) -> AsyncIterator[tuple[Doctor, dict[str, LocalCluster]]]:
    """A cluster of each hub, by the hub's name. Every test leaves them repaired."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with open_world(azurite.account(__name__), authority, monkeypatch, entra) as world:
            doctor = build_doctor(world)
            clusters = {hub: await doctor.onboard(f"aks-{hub}", hub) for hub in ("main", "two")}
            for cluster in clusters.values():
                healthy = await doctor.examine(cluster)  # fills all caches
                assert healthy.state == "ok", format_hops(healthy)
            yield doctor, clusters


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("hop", "variant"), WAYS)
async def test_the_broken_hop_is_named_and_no_other_is_blamed(
    onboarded: tuple[Doctor, dict[str, LocalCluster]], hop: HopName, variant: str
) -> None:
    """All others are ok, or skipped because of it. After the repair all is well."""
    doctor, clusters = onboarded
    cluster = clusters["two" if variant == "second-registry" else "main"]
    async with break_hop(doctor.world.cloud, cluster, hop, variant):
        if find_break(hop, variant).cached:
            await doctor.onboarding.restart()
        diagnosis = await doctor.examine(cluster)
        wrong = [one for one in diagnosis.hops if one.state in {"failed", "warning"}]
        others = [one for one in diagnosis.hops if one.name != hop]
        is_warning = hop == "pods" or (hop, variant) in WARNINGS
        assert {(one.name, one.state) for one in wrong} == {(hop, "warning" if is_warning else "failed")}, format_hops(
            diagnosis
        )
        assert {one.because for one in others if one.state != "ok"} <= {hop}, format_hops(diagnosis)
        assert diagnosis.state == wrong[0].state
        seen = "\n".join(("", wrong[0].detail, *(f"{name}: {value}" for name, value in wrong[0].evidence.items())))
        app = doctor.world.cloud.app
        expected = SEEN.get((hop, variant), "").format(client_id=app.client_id, principal=app.principal_id)
        assert expected in seen
        shown = {name for name in wrong[0].evidence if not name.endswith((" expected", " difference"))}
        category = wrong[0].category
        assert str(wrong[0].runbook).endswith(f"/docs/runbook/{category}.md") or category is None
        assert [blank for one in wrong for blank in _BLANK.findall(str(one.remedy))] == [], "a name is missing"
        assert hop == "namespace" or find_break(hop, variant).category in {category, None}
    await doctor.world.refresh(cluster)
    repaired = await doctor.examine(cluster)
    assert repaired.state == "ok", format_hops(repaired)
    well = [one for one in repaired.hops if one.name == hop]
    assert hop == "pods" or {one.subject for one in wrong} <= {one.subject for one in well}
    assert shown == SHOWN.get((hop, variant), {*well[0].evidence})
