"""Phase: the publisher's application itself, if asked for: the guide's eighth step."""

from collections.abc import Iterator
from typing import Any

from pullkeeper import manifests
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.work import Work

NAME = "workload"


async def plan(work: Work) -> str:
    return "would deploy it" if work.request.workload else "not asked for"


async def do(work: Work) -> str:
    if not work.request.workload:
        return "not asked for"
    if not work.reachable:
        work.rendered.extend(_rendered(work))
        return "manifests to apply"
    for manifest in _rendered(work):
        await objects.put(work, manifest)
    return f"deployed {work.request.workload.image}"


async def undo(work: Work) -> str:
    if not work.request.workload:
        return "not ours, or to be kept"
    return "; ".join([await objects.take_away(work, manifest) for manifest in reversed(list(_rendered(work)))])


def _rendered(work: Work) -> Iterator[dict[str, Any]]:
    target = work.request.targets[0]
    wanted = work.request.workload
    account = target.service_accounts[0] if target.service_accounts else "default"
    yield from manifests.workload(
        target,
        account,
        image=wanted.image if wanted else "",
        replicas=wanted.replicas if wanted else 0,
        config_secret=wanted.config_secret if wanted else "",
    )
