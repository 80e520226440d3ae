"""Phase: may we do in the cluster what onboarding needs? Asked before anything is done, so that a missing right stops
nothing half-way.
"""

import asyncio
from typing import Final

from pullkeeper.errors import AdministratorMissing, ClusterStopped, ClusterUnreachable, ClusterUnwell
from pullkeeper.onboarding import applying
from pullkeeper.onboarding.phases import manifests, refresher, workload
from pullkeeper.onboarding.work import Work

NAME = "cluster access"
_RBAC: Final = "rbac.authorization.k8s.io"
_KINDS: Final = (
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("", "configmaps"),
    ("", "services"),
    ("apps", "deployments"),
    ("batch", "cronjobs"),
    (_RBAC, "roles"),
    (_RBAC, "rolebindings"),
)
# Secrets are written and deleted, never read. Whoever gives out rights must have them, or be allowed to go beyond.
_NEEDED: Final = (
    *((verb, group, kind) for group, kind in _KINDS for verb in ("get", "create", "patch")),
    *((verb, group, kind) for group, kind in _KINDS if kind != "namespaces" for verb in ("delete",)),
    *((verb, "", "secrets") for verb in ("create", "patch", "delete")),
    ("escalate", _RBAC, "roles"),
    ("bind", _RBAC, "roles"),
)


async def plan(work: Work) -> str:
    return await do(work)


async def do(work: Work) -> str:
    try:
        return await _checked(work)
    except ClusterUnreachable as e:
        # One that answers with errors of its own can be reached.
        if work.request.refresher == "central" or isinstance(e, ClusterUnwell):
            raise
        # Nothing has to come in from outside: the pipeline applies what is handed out.
        work.reachable = False
        return f"the app cannot reach the cluster ({e.detail}); manifests will be handed out instead"


async def undo(work: Work) -> str:
    """A cluster that is silent at a second try, too, does not keep from going what is in Azure."""
    if not work.reachable:
        return "there is no cluster any more"
    try:
        return await _checked(work)
    except (ClusterStopped, ClusterUnreachable) as e:
        if e.retryable and NAME not in work.failed:
            raise
        work.reachable = work.complete = False
        made = [*manifests.made(work), *refresher.made(work.asked), *workload.made(work)]
        for name in (*(f"Secret {target}" for target in work.targets), *map(applying.name_of, made)):
            work.left.append(f"{name}: the cluster does not answer ({e.category}); offboard again once it does")
        return f"the app cannot reach the cluster ({e.detail}); what is in it stays"


async def _checked(work: Work) -> str:
    api = await work.api()
    allowed = await asyncio.gather(*(api.may(*needed) for needed in _NEEDED))
    missing: dict[str, list[str]] = {}
    for (verb, _, kind), may in zip(_NEEDED, allowed, strict=True):
        if not may:
            missing.setdefault(verb, []).append(kind)
    if missing:
        told = "; ".join(f"{verb} {', '.join(kinds)}" for verb, kinds in reversed(missing.items()))
        raise AdministratorMissing(
            f"the identity that onboards may not {told}",
            {"cluster": str(work.cluster), "principal": await work.tools.access.principal()},
        )
    return f"all rights are there ({work.endpoint.server if work.endpoint else ''})"
