"""Phase: the publisher's application itself, if asked for: the guide's eighth step."""

from collections.abc import Iterator
from typing import Any

from pullkeeper import manifests
from pullkeeper.model import Target
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.documents import Workload
from pullkeeper.onboarding.work import Work

NAME = "workload"


async def plan(work: Work) -> str:
    return "would deploy it" if work.request.workload else "not asked for"


async def do(work: Work) -> str:
    wanted = work.request.workload
    if not wanted:
        return "not asked for"
    told = await objects.put_all(work, _rendered(work.request.targets[0], wanted))
    return f"{told}: {wanted.image}"


async def undo(work: Work) -> str:
    return await objects.take_all_away(work, made(work)) if made(work) else "not ours, or to be kept"


def made(work: Work) -> list[dict[str, Any]]:
    """By name: what onboardings of the cluster may have made."""
    asked = {request.targets[0].namespace: request for request in work.asked if request.workload}
    return [
        manifest
        for request in asked.values()
        if request.workload
        for manifest in _rendered(request.targets[0], request.workload)
    ]


def _rendered(target: Target, wanted: Workload) -> Iterator[dict[str, Any]]:
    account = target.service_accounts[0] if target.service_accounts else "default"
    return manifests.workload(
        target, account, image=wanted.image, replicas=wanted.replicas, config_secret=wanted.config_secret
    )
