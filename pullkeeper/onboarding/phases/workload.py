"""Phase: deploy the publisher's application, if asked (eighth step of the guide)."""

from collections.abc import Iterator
from typing import Any

from pullkeeper.cluster import manifests
from pullkeeper.cluster.api import path_of
from pullkeeper.cluster.ownership import MANAGER, managers
from pullkeeper.model import Target
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.work import Work
from pullkeeper.onboarding.workload import Workload

NAME = "workload"


async def plan(work: Work) -> str:
    wanted = work.request.workload
    return await objects.plan_all(work, await _build(work, wanted)) if wanted else "not requested"


async def do(work: Work) -> str:
    wanted = work.request.workload
    if not wanted:
        return "not requested"
    return f"{await objects.apply_all(work, await _build(work, wanted))}: {wanted.image}"


async def undo(work: Work) -> str:
    found = list_objects(work)
    return await objects.remove_all(work, found) if found else "not deployed by Pullkeeper, or to be kept"


def list_objects(work: Work) -> list[dict[str, Any]]:
    """Kind and name of all objects that onboardings of the cluster may have created."""
    latest = {one.named[0].namespace: (one.named[0], one.workload) for one in work.requests if one.workload}
    return [manifest for target, wanted in latest.values() for manifest in _render(target, wanted)]


async def _build(work: Work, wanted: Workload) -> list[dict[str, Any]]:
    """In the order to apply them. `replicas` is left out where another field manager, an autoscaler say, holds it."""
    deployment, service = _render(work.request.named[0], wanted)
    found = await (await work.api()).find(path_of(deployment)) if work.reachable else None
    if found and managers(found["metadata"], "spec", "replicas") - {MANAGER}:
        del deployment["spec"]["replicas"]
    return [deployment, service]


def _render(target: Target, wanted: Workload) -> Iterator[dict[str, Any]]:
    account = next(iter(target.account_names), "default")
    return manifests.workload(
        target, account, image=wanted.image, replicas=wanted.replicas, config_secret=wanted.config_secret
    )
