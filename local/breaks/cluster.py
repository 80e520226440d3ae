"""Breaks in a cluster: its API server, the app's rights, and the objects that onboarding created."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from local.breaks import Breaking, CannotBreak, change, hub_of, stand_in
from local.breaks.azure import managed
from local.cloud import Cloud, LocalCluster
from local.kubernetes.apiserver import RealApiServer
from local.kubernetes.authentication import OtherTenant
from local.serving import Authority
from pullkeeper.cluster.api import path_of
from pullkeeper.cluster.manifests import load
from pullkeeper.cluster.ownership import MANAGER, managers

Json = dict[str, Any]

OLD_SECRET: Final = '{"auths":{"europe-docker.pkg.dev":{"username":"oauth2accesstoken","password":"x","auth":"eA=="}}}'
"""As the older CronJob writes it."""
CLIENT_ID: Final = "azure.workload.identity/client-id"
_CONFIG_MAP: Final = load("credential-config")["metadata"]["name"]
_CONFIG_FILE: Final = "credential-config.json"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_MERGE: Final = "application/merge-patch+json"


@asynccontextmanager
async def stop_server(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    server = cluster.server
    if isinstance(server, RealApiServer):
        with server.suspend():  # once stopped, it would start empty and elsewhere
            yield
        return
    await server.stop()
    yield
    await server.start()


@asynccontextmanager
async def intercept_tls(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    server = stand_in(cluster)
    await server.present(Authority())
    yield
    await server.present()


@asynccontextmanager
async def change_tenant(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    other = OtherTenant()
    _check_entra(cloud, cluster)
    with change(managed(cloud, cluster), tenant=other.id), change(stand_in(cluster), issuer=other):
        yield


@asynccontextmanager
async def remove_bindings(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """Delete every binding of the app's identity that reaches the target."""
    _check_entra(cloud, cluster)
    found = [
        binding
        for path in (f"{_RBAC}/namespaces/{cluster.target.namespace}/rolebindings", f"{_RBAC}/clusterrolebindings")
        for binding in await _list(cluster, path)
        if any(subject["name"] == cloud.app.principal_id for subject in binding.get("subjects") or ())
    ]
    for binding in found:
        await cluster.admin.call("DELETE", path_of(binding))
    yield
    await _restore(cluster, found)


@asynccontextmanager
async def delete_namespace(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """Delete the target's namespace and what is in it. The repair leaves the secret to the next refresh."""
    _check_entra(cloud, cluster)
    server, path = stand_in(cluster), f"namespaces/{cluster.target.namespace}"
    namespace = await cluster.admin.call("GET", f"/api/v1/{path}")
    content = [
        item
        for kind in (f"{_RBAC}/{path}/roles", f"{_RBAC}/{path}/rolebindings", f"/api/v1/{path}/configmaps")
        for item in await _list(cluster, kind)
    ]
    content += await _list(cluster, f"/api/v1/{path}/serviceaccounts")
    await cluster.admin.call("DELETE", f"/api/v1/{path}")
    server.end_namespaces()
    yield
    del namespace["spec"]
    await _restore(cluster, [namespace, *content])


def edit_accounts(metadata: Json) -> Breaking:
    """Merge this into the metadata of the target's service accounts that are federated."""

    @asynccontextmanager
    async def breaking(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
        accounts = await _federated_accounts(cluster)
        for account in accounts:
            await cluster.admin.call("PATCH", path_of(account), {"metadata": metadata}, content_type=_MERGE)
        yield
        await _restore(cluster, accounts)

    return breaking


@asynccontextmanager
async def delete_accounts(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    accounts = await _federated_accounts(cluster)
    for account in accounts:
        await cluster.admin.call("DELETE", path_of(account))
    yield
    await _restore(cluster, accounts)


@asynccontextmanager
async def delete_config(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    config = await _config_map(cluster)
    await cluster.admin.call("DELETE", path_of(config))
    yield
    await _restore(cluster, [config])


@asynccontextmanager
async def edit_config(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """Have the credential configuration name another provider."""
    config = await _config_map(cluster)
    document = json.loads(config["data"][_CONFIG_FILE])
    document["audience"] += "-2"
    patch = {"data": {_CONFIG_FILE: json.dumps(document, indent=2)}}
    await cluster.admin.call("PATCH", path_of(config), patch, content_type=_MERGE, manager="kubectl-edit")
    yield
    await _restore(cluster, [config])


@asynccontextmanager
async def delete_secret(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """The next refresh repairs it."""
    await cluster.admin.delete_secret(cluster.target.namespace, cluster.target.secret)
    yield


@asynccontextmanager
async def edit_secret(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """The next refresh repairs it."""
    await cluster.admin.edit_secret(cluster.target.namespace, cluster.target.secret, OLD_SECRET)
    yield


@asynccontextmanager
async def replace_secret(_: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """Delete the secret and create it, as the older CronJob does at each run."""
    place = cluster.target.namespace, cluster.target.secret
    if await _find_secret(cluster):
        await cluster.admin.delete_secret(*place)
    await cluster.admin.create_secret(*place, OLD_SECRET)
    yield
    found = await _find_secret(cluster)
    if found and MANAGER not in managers(found["metadata"]):
        await cluster.admin.delete_secret(*place)


def start_pod(*, with_secret: bool) -> Breaking:
    """Have a pod wait for the hub's image."""

    @asynccontextmanager
    async def breaking(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
        hub, target, server = hub_of(cloud, cluster), cluster.target, stand_in(cluster)
        image = f"{hub.document['registries'][0]}/{hub.image}:latest"
        pod = waiting_pod(image, cloud.clock().strftime("%Y-%m-%dT%H:%M:%SZ"))
        pod["metadata"]["namespace"] = target.namespace
        if with_secret:
            pod["spec"]["imagePullSecrets"] = [{"name": target.secret}]
        server.put_pod(pod)
        yield
        server.remove_pod(target.namespace, pod["metadata"]["name"])

    return breaking


def waiting_pod(image: str, since: str) -> Json:
    """A pod as the kubelet reports it while it waits between two pulls."""
    waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
    unready = {"status": "False", "lastTransitionTime": since, "reason": "ContainersNotReady"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "deepintshield-6d5f7c9b8-x2k4q",
            "creationTimestamp": since,
            "labels": {"app": "deepintshield"},
        },
        "spec": {
            "serviceAccountName": "deepintshield-sa",
            "nodeName": "aks-nodepool1-vmss000000",
            "containers": [{"name": "deepintshield", "image": image}],
        },
        "status": {
            "phase": "Pending",
            "startTime": since,
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": since},
                {"type": "Ready", **unready},
                {"type": "ContainersReady", **unready},
            ],
            "containerStatuses": [
                {
                    "name": "deepintshield",
                    "image": image,
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "started": False,
                    "state": {"waiting": waiting},
                }
            ],
        },
    }


def _check_entra(cloud: Cloud, cluster: LocalCluster) -> None:
    """Raises CannotBreak for a cluster with local accounts."""
    if managed(cloud, cluster).client_certificate:
        raise CannotBreak(f"{cluster.id.name} has local accounts: the app is its administrator, by a certificate")


async def _list(cluster: LocalCluster, path: str) -> list[Json]:
    """The objects, each with its kind, which the server leaves out."""
    found = await cluster.admin.call("GET", path)
    kind = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
    return [{**kind, **item} for item in found["items"]]


async def _find_secret(cluster: LocalCluster) -> Json | None:
    secrets = await _list(cluster, f"/api/v1/namespaces/{cluster.target.namespace}/secrets")
    return next((one for one in secrets if one["metadata"]["name"] == cluster.target.secret), None)


async def _federated_accounts(cluster: LocalCluster) -> list[Json]:
    """Raises CannotBreak if there is none."""
    accounts = await _list(cluster, f"/api/v1/namespaces/{cluster.target.namespace}/serviceaccounts")
    found = [account for account in accounts if CLIENT_ID in account["metadata"].get("annotations", {})]
    if not found:
        raise CannotBreak(f"{cluster.id.name} has no federated service account in {cluster.target.namespace}")
    return found


async def _config_map(cluster: LocalCluster) -> Json:
    """Raises CannotBreak if there is none."""
    maps = await _list(cluster, f"/api/v1/namespaces/{cluster.target.namespace}/configmaps")
    found = next((one for one in maps if one["metadata"]["name"] == _CONFIG_MAP), None)
    if found is None:
        raise CannotBreak(f"{cluster.id.name} has no ConfigMap {_CONFIG_MAP} in {cluster.target.namespace}")
    return found


async def _restore(cluster: LocalCluster, objects: Iterable[Json]) -> None:
    """Apply objects as they were, each under the field manager that it had."""
    for found in objects:
        metadata = found["metadata"]
        entries = metadata.get("managedFields") or [{"manager": "kubectl"}]
        kept = {name: metadata[name] for name in ("name", "namespace", "labels", "annotations") if name in metadata}
        body = {name: value for name, value in found.items() if name != "status"}
        await cluster.admin.apply({**body, "metadata": kept}, manager=entries[0]["manager"], force=True)
