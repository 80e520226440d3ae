"""Phase: who may write the secret: a role for the identity that refreshes, or a CronJob with a role of its own.

In place of the guide's role, which may delete every secret, and of its CronJob.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pullkeeper.cluster import in_cluster, manifests
from pullkeeper.cluster.api import path_of
from pullkeeper.onboarding import applying
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.onboarding.work import Work

NAME = "refresher"


async def plan(work: Work) -> str:
    return await applying.planned(work, _wanted(work))


async def do(work: Work) -> str:
    return await applying.put_all(work, _wanted(work))


async def undo(work: Work) -> str:
    """Before the secret goes: a CronJob that still ran, or a pod of it, would make the secret anew."""
    return await applying.take_all_away(work, made(work.asked))


def made(asked: Iterable[Onboarding]) -> list[dict[str, Any]]:
    """By name: what these onboardings may have made, whatever has become of their hubs."""
    return list({path_of(manifest): manifest for request in asked for manifest in _by_name(request)}.values())


def _by_name(request: Onboarding) -> Iterator[dict[str, Any]]:
    if request.refresher == "central":
        yield from manifests.refresher_access(request.targets, "")
    else:
        for target in request.targets:
            yield from in_cluster.by_name(target)


def _wanted(work: Work) -> list[dict[str, Any]]:
    """In the order to apply them. Who has the cluster refresh itself lets nobody in from outside: not even us."""
    request, hub = work.request, work.hub()
    if request.refresher == "central":
        return list(manifests.refresher_access(request.targets, work.app["oid"]))
    if hub is None:
        return []
    client_id, tenant = (work.identity.client_id, work.identity.tenant_id) if work.identity else ("", "")
    return [
        manifest
        for target in request.targets
        for manifest in in_cluster.in_cluster_refresher(
            target,
            hub,
            client_id,
            tenant,
            request.chain,
            authority_host=work.tools.authority_host,
            adopt=request.adopt,
            image=request.refresher_image,
        )
    ]
