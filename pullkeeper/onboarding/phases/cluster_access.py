"""Phase: check that the identity that onboards has all rights in the cluster, before anything is changed there."""

import asyncio
from typing import Final

from pullkeeper.cluster.api import plural_of
from pullkeeper.errors import AdministratorMissing, ClusterStopped, ClusterUnreachable, ClusterUnwell
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.phases import manifests, refresher, workload
from pullkeeper.onboarding.work import Work

NAME = "cluster access"
_RBAC: Final = "rbac.authorization.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
_ALWAYS: Final = (
    # Secrets are written and deleted, never read.
    *((verb, "", "secrets") for verb in ("create", "patch", "delete")),
    # The guide's CronJob and role are looked for, and the job may be suspended.
    ("get", "batch", "cronjobs"),
    ("patch", "batch", "cronjobs"),
    ("get", _RBAC, "roles"),
    # To grant rights that it does not have itself.
    ("escalate", _RBAC, "roles"),
    ("bind", _RBAC, "roles"),
)
"""Verb, API group, resource."""
_BY_LABEL: Final = (
    ("escalate", _RBAC, "clusterroles"),
    ("bind", _RBAC, "clusterroles"),
    # As metadata: whether the name of a selector's secret is in use elsewhere.
    ("list", "", "secrets"),
)
"""For namespaceSelector."""


async def plan(work: Work) -> str:
    return await do(work)


async def do(work: Work) -> str:
    try:
        return await _check_rights(work)
    except ClusterUnreachable as e:
        # ClusterUnwell: the API server can be reached, and responds with errors of its own.
        if work.request.refresher == "central" or isinstance(e, ClusterUnwell):
            raise
        # An in-cluster refresher needs no access from outside: the pipeline applies its manifests.
        work.reachable = False
        return f"the app cannot reach the cluster ({e.detail}); the result holds the manifests to apply"


async def undo(work: Work) -> str:
    """At the second failure, go on without the cluster: what is in Azure is removed all the same."""
    if not work.reachable:
        return "the cluster does not exist any more"
    try:
        return await _check_rights(work)
    except (ClusterStopped, ClusterUnreachable) as e:
        if e.retryable and NAME not in work.failed_steps:
            raise
        work.reachable = work.complete = False
        kept = [
            *manifests.list_objects(work),
            *refresher.list_objects(work, work.requests),
            *workload.list_objects(work),
        ]
        secrets = (*work.targets, *sorted(work.found_targets))
        for name in (*(f"Secret {secret}" for secret in secrets), *map(objects.name_of, kept)):
            work.left.append(f"{name}: the cluster does not answer ({e.category}); offboard again once it does")
        return f"the app cannot reach the cluster ({e.detail}); the objects in it are kept"


async def _check_rights(work: Work) -> str:
    """Ask for everything at once, which an administrator may; of other identities, for each right that is needed."""
    api = await work.api()
    rights = () if await api.is_allowed("*", "*", "*") else _list_needed(work)
    answers = await asyncio.gather(*(api.is_allowed(*right) for right in rights))
    missing: dict[str, list[str]] = {}
    for (verb, _, kind), allowed in zip(rights, answers, strict=True):
        if not allowed:
            missing.setdefault(verb, []).append(kind)
    if missing:
        listed = "; ".join(f"{verb} {', '.join(kinds)}" for verb, kinds in reversed(missing.items()))
        raise AdministratorMissing(
            f"the identity that onboards may not {listed}",
            {"principal": await work.tools.access.principal()},
        )
    return f"all rights granted ({work.endpoint.server if work.endpoint else ''})"


def _list_needed(work: Work) -> list[tuple[str, str, str]]:
    """Return the rights at the kinds of objects that the operation may create or remove: verb, API group, resource.

    Those to admission policies are not checked: the owner may apply ours instead.
    """
    found = [*manifests.list_objects(work), *refresher.list_objects(work, work.requests), *workload.list_objects(work)]
    kinds = dict.fromkeys(
        (one["apiVersion"].rpartition("/")[0].partition("/")[0], plural_of(one["kind"])) for one in found
    )
    kinds = {kind: None for kind in kinds if kind[0] != _ADMISSION}
    needed = [(verb, group, kind) for group, kind in kinds for verb in ("get", "create", "patch")]
    needed += [("delete", group, kind) for group, kind in kinds if kind != "namespaces"]
    by_label = _BY_LABEL if work.selectors else ()
    return list(dict.fromkeys((*needed, *_ALWAYS, *by_label)))
