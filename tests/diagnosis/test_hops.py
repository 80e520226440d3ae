"""Promise 9: whatever breaks, the diagnosis names that hop and blames no other."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final, get_args

import pytest
import pytest_asyncio

from local.azure.entra import Entra
from local.azurite import Azurite
from local.cloud import LocalCluster
from local.hops import HOPS, break_hop, find_break
from local.serving import Authority
from pullkeeper.diagnosis.report import HopName
from tests.diagnosis.conftest import Doctor, build_doctor, format_hops
from tests.world import open_world

pytestmark = pytest.mark.servers
WAYS = [(hop, variant) for hop, ways in HOPS.items() for variant in ways]
WARNINGS = {("registry-permission", "second-registry"), ("probe-image", "deleted"), ("secret", "edited")}
"""What harms no refresh, or is repaired by the next one."""
_IDENTITY: Final = {"identity", "client id", "object id"}
_TIMES: Final = {"expires at", "minutes left"}
EVIDENCE: Final[Mapping[HopName, set[str]]] = {
    "managed-identity": {"client id", "object id", "tenant"},
    "entra-token": {"resource", "iss", "sub", "aud", "exp", "oid", "tid", "azp"},
    "token-exchange": {"provider", "address", "iss", "sub", "aud"},
    "impersonation": {"service account", "expires at", "life"},
    "registry-permission": {"image"},
    "cluster-state": {"version", "power state", "provisioning state", "location"},
    "oidc-issuer": {"issuer", "workload identity"},
    "federated-credential": _IDENTITY | {"credential", "issuer", "subject", "audience"},
    "api-server": {"server", "address as of"},
    "authentication": {"user"},
    "permission": {"user", "needed", "missing"},
    "service-account": {"imagePullSecrets", "azure.workload.identity/client-id", "azure.workload.identity/use"},
    "credential-config": {"audience"},
    "secret": _TIMES | {"uid", "field managers", "type"},
}
"""What is shown of each hop that is well."""
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
    diagnosis = await doctor.examine(await doctor.onboard())
    assert (diagnosis.state, {hop.state for hop in diagnosis.hops}) == ("ok", {"ok"}), format_hops(diagnosis)
    assert tuple(hop.name for hop in diagnosis.hops) == get_args(HopName)
    assert {hop.name: {*hop.evidence} for hop in diagnosis.hops if hop.evidence} == EVIDENCE


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
        assert [blank for one in wrong for blank in _BLANK.findall(str(one.remedy))] == [], "a name is missing"
        assert hop == "namespace" or find_break(hop, variant).category in {wrong[0].category, None}
    await doctor.world.refresh(cluster)
    repaired = await doctor.examine(cluster)
    assert repaired.state == "ok", format_hops(repaired)
