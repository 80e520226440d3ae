"""Breaks at Google, where the publisher is the administrator. Each of them breaks all clusters of the hub."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from local.breaks import Breaking, CannotBreak, change, hub_of
from local.cloud import Cloud, LocalCluster


def change_provider(**attributes: Any) -> Breaking:
    """Change the provider that the app's Entra token is exchanged at."""

    @asynccontextmanager
    async def breaking(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
        with change(hub_of(cloud, cluster).provider, **attributes):
            yield

    return breaking


@asynccontextmanager
async def trust_version_1(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """The provider trusts the issuer of the tenant's version 1 tokens."""
    with change(hub_of(cloud, cluster).provider, issuer=cloud.entra.issuer_v1):
        yield


@asynccontextmanager
async def accept_client_id(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    """The attribute condition names the identity's client id in place of its object id."""
    client_id = cloud.app.client_id
    with change(hub_of(cloud, cluster).provider, condition=lambda claims: claims["sub"] == client_id):
        yield


@asynccontextmanager
async def remove_binding(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    hub = hub_of(cloud, cluster)
    cloud.google.unbind(hub.service_account, hub.principal)
    yield
    cloud.google.bind(hub.service_account, hub.principal)


def revoke_reader(number: int) -> Breaking:
    """Take the right to read from one of the hub's registries. 0: that of the probe."""

    @asynccontextmanager
    async def breaking(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
        hub = hub_of(cloud, cluster)
        if number >= len(hub.document["registries"]):
            raise CannotBreak(f"the hub {cluster.member.cluster.hub} has no other registry")
        cloud.registries[number].revoke(hub.repository, hub.reader)
        yield
        cloud.registries[number].grant(hub.repository, hub.reader)

    return breaking


@asynccontextmanager
async def remove_probe_image(cloud: Cloud, cluster: LocalCluster) -> AsyncIterator[None]:
    image = hub_of(cloud, cluster).image
    cloud.registries[0].remove_image(image)
    yield
    cloud.registries[0].add_image(image, "latest")
