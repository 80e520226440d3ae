"""Phase: give the right to write the secret to the identity that refreshes, or to a CronJob in the cluster.

It replaces the guide's role, which may delete every secret of the namespace, and the guide's CronJob.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pullkeeper.cluster import in_cluster, manifests
from pullkeeper.cluster.api import path_of
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.onboarding.work import Work

NAME = "refresher"


async def plan(work: Work) -> str:
    return await objects.plan_all(work, _build(work))


async def do(work: Work) -> str:
    return await objects.apply_all(work, _build(work))


async def undo(work: Work) -> str:
    """Runs before the secret is deleted: a CronJob that still exists, or a pod of it, would create the secret again."""
    return await objects.remove_all(work, list_objects(work.requests))


def list_objects(requests: Iterable[Onboarding]) -> list[dict[str, Any]]:
    """Kind and name of all objects that these onboardings may have created; needs no hub."""
    return list({path_of(manifest): manifest for request in requests for manifest in _name_objects(request)}.values())


def _name_objects(request: Onboarding) -> Iterator[dict[str, Any]]:
    if request.refresher == "central":
        yield from manifests.refresher_access(request.named, "")
    else:
        for target in request.named:
            yield from in_cluster.name_objects(target)


def _build(work: Work) -> list[dict[str, Any]]:
    """In the order to apply them. With an in-cluster refresher the app gets no role."""
    request, hub = work.request, work.hub()
    if request.refresher == "central":
        return list(manifests.refresher_access(request.named, work.app_claims["oid"]))
    if hub is None:
        return []
    client_id, tenant = (work.identity.client_id, work.identity.tenant_id) if work.identity else ("", "")
    return [
        manifest
        for target in request.named
        for manifest in in_cluster.build_refresher(
            target,
            hub,
            client_id,
            tenant,
            request.chain,
            cloud=work.tools.cloud,
            audience=work.audience,
            adopt=request.adopt,
            image=request.refresher_image,
        )
    ]
