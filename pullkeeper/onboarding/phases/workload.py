"""Phase: the publisher's application itself, if asked for: the guide's eighth step."""

from collections.abc import Iterator
from typing import Any

from pullkeeper.cluster import manifests
from pullkeeper.cluster.api import path_of
from pullkeeper.cluster.ownership import MANAGER, managers
from pullkeeper.model import Target
from pullkeeper.onboarding import applying
from pullkeeper.onboarding.documents import Workload
from pullkeeper.onboarding.work import Work

NAME = "workload"


async def plan(work: Work) -> str:
    wanted = work.request.workload
    return await applying.planned(work, await _fitted(work, wanted)) if wanted else "not asked for"


async def do(work: Work) -> str:
    wanted = work.request.workload
    if not wanted:
        return "not asked for"
    return f"{await applying.put_all(work, await _fitted(work, wanted))}: {wanted.image}"


async def undo(work: Work) -> str:
    return await applying.take_all_away(work, made(work)) if made(work) else "not ours, or to be kept"


def made(work: Work) -> list[dict[str, Any]]:
    """By name: what onboardings of the cluster may have made."""
    asked = {request.targets[0].namespace: request for request in work.asked if request.workload}
    return [
        manifest
        for request in asked.values()
        if request.workload
        for manifest in _rendered(request.targets[0], request.workload)
    ]


async def _fitted(work: Work, wanted: Workload) -> list[dict[str, Any]]:
    """Where somebody else scales the Deployment, an autoscaler for instance, he has the say."""
    deployment, service = _rendered(work.request.targets[0], wanted)
    found = await (await work.api()).find(path_of(deployment)) if work.reachable else None
    if found and managers(found["metadata"], "spec", "replicas") - {MANAGER}:
        del deployment["spec"]["replicas"]
    return [deployment, service]


def _rendered(target: Target, wanted: Workload) -> Iterator[dict[str, Any]]:
    account = target.service_accounts[0] if target.service_accounts else "default"
    return manifests.workload(
        target, account, image=wanted.image, replicas=wanted.replicas, config_secret=wanted.config_secret
    )
