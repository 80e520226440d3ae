"""Breaks at Azure: the app's identity and its tokens; a cluster's state, issuer and federated credentials."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from local.azure.federated_credentials import NamedCredential
from local.azure.managed_cluster import ManagedCluster
from local.azure.managed_identities import ManagedIdentity
from local.breaks import Breaking, CannotBreak, change, stand_in
from local.cloud import Cloud, LocalCluster
from local.serving import Fault

_NO_API_SERVER: Final = Fault(status=404, body="404 page not found\n", content_type="text/plain")


@asynccontextmanager
async def remove_identity(cloud: Cloud, _: LocalCluster) -> AsyncIterator[None]:
    cloud.identity.unassign(cloud.app)
    yield
    cloud.identity.assign(cloud.app)


@asynccontextmanager
async def remove_resource(cloud: Cloud, _: LocalCluster) -> AsyncIterator[None]:
    """The tenant no longer knows the audience of token exchange."""
    resource = cloud.entra.exchange
    known = cloud.entra.resources.pop(resource)
    yield
    cloud.entra.resources[resource] = known


@asynccontextmanager
async def stop_cluster(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """In Azure the name of a stopped cluster no longer resolves. These clusters have no names, so the address responds
    as another server would, which has the same effect: Pullkeeper asks Azure where the cluster is.
    """
    stand_in(cluster)
    with change(managed(cloud, cluster), power_state="Stopped"), cluster.part.faults.inject(_NO_API_SERVER):
        yield


@asynccontextmanager
async def disable_workload_identity(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    with change(managed(cloud, cluster), workload_identity=False):
        yield


@asynccontextmanager
async def replace_issuer(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """The credentials trust the issuer that the cluster had before."""
    _credentials(cloud, cluster)
    with change(managed(cloud, cluster), oidc_issuer=f"https://oidc.example/{cluster.id.name}-2/"):
        yield


def trust(**changes: Any) -> Breaking:
    """Have the federated credentials of the cluster trust another subject or audience."""

    @asynccontextmanager
    async def breaking(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
        held = _credentials(cloud, cluster)
        for identity, credential in held:
            cloud.arm.federated_credentials.add(identity, credential.name, replace(credential.trust, **changes))
        yield
        for identity, credential in held:
            cloud.arm.federated_credentials.add(identity, credential.name, credential.trust)

    return breaking


@asynccontextmanager
async def remove_credentials(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    held = _credentials(cloud, cluster)
    for identity, credential in held:
        cloud.arm.federated_credentials.remove(identity, credential.name)
    yield
    for identity, credential in held:
        cloud.arm.federated_credentials.add(identity, credential.name, credential.trust)


def managed(cloud: Cloud, cluster: LocalCluster) -> ManagedCluster:
    """The cluster as Azure holds it."""
    return cloud.arm.clusters.get(str(cluster.id))


def _credentials(cloud: Cloud, cluster: LocalCluster) -> list[tuple[ManagedIdentity, NamedCredential]]:
    """Those that trust the cluster's issuer. Raises CannotBreak if there is none."""
    issuer, identities = managed(cloud, cluster).oidc_issuer, cloud.arm.identities
    found = [
        (identity, credential)
        for identity in filter(None, map(identities.find, identities.resource_ids()))
        for credential in cloud.arm.federated_credentials.find_all(identity)
        if credential.trust.issuer == issuer
    ]
    if not found:
        raise CannotBreak(f"no identity trusts {cluster.id.name}: onboard it with a service account to federate")
    return found
