"""Phase: retire earlier refreshers.

The guide's CronJob is suspended, if asked, and can be resumed. Roles and in-cluster refreshers of earlier onboardings
that nothing asks for now are removed. Secrets are kept until the cluster is offboarded, because pods may name them.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import path_of
from pullkeeper.model import Target
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.many import run_all, summarize
from pullkeeper.onboarding.phases import refresher
from pullkeeper.onboarding.work import Work

NAME = "retire"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_GUIDE_JOB: Final = "refresh-ar-secret"
_SUSPENDED_AT: Final = "pullkeeper.dev/suspended-at"
"""Annotation of a CronJob that Pullkeeper suspended; other suspended ones are left alone."""
_UNREACHABLE: Final = "skipped: the app cannot reach the cluster"
_NONE: Final = "no earlier refresher found"


async def plan(work: Work) -> str:
    if not work.reachable:
        return _UNREACHABLE
    plans = [
        f"would {'suspend' if work.request.retire_cron_job and _list_beside(work, path) else 'leave'} {path}"
        for path, job in (await _find_cron_jobs(work)).items()
        if not _is_suspended(job)
    ]
    plans += [f"would remove {objects.name_of(manifest)}" for manifest in await _find_superseded(work)]
    await _report_left(work)
    return summarize(plans) or _NONE


async def do(work: Work) -> str:
    if not work.reachable:
        return _UNREACHABLE
    jobs = await _find_cron_jobs(work)
    results = [await _retire(work, path) for path, job in jobs.items() if not _is_suspended(job)]
    results += [await objects.remove(work, manifest) for manifest in reversed(await _find_superseded(work))]
    await _report_left(work)
    return summarize(results) or _NONE


async def undo(work: Work) -> str:
    for path, job in (await _find_cron_jobs(work)).items():
        if _is_suspended(job) and _SUSPENDED_AT in (job["metadata"].get("annotations") or {}):
            namespace = job["metadata"]["namespace"]
            work.left.append(
                f"{path}: suspended by Pullkeeper. To resume it: kubectl patch cronjob {_GUIDE_JOB} -n {namespace} "
                """-p '{"spec":{"suspend":false}}'"""
            )
    return "nothing to undo"


async def _retire(work: Work, path: str) -> str:
    beside = _list_beside(work, path)
    if not beside:
        return f"{path} still runs, and no target names its namespace now: suspend it if nothing needs its secret"
    if not work.request.retire_cron_job:
        return f"{path} still runs beside Pullkeeper: send retireCronJob to suspend it"
    if not await _have_successors_written(work, beside):
        return f"{path} still runs, because the cluster's own refresher has not written yet: send the same again later"
    at = work.tools.clock().isoformat(timespec="seconds")
    patch = {"metadata": {"annotations": {_SUSPENDED_AT: at}}, "spec": {"suspend": True}}
    await (await work.api()).merge_patch(path, patch)
    return f"suspended {path}"


def _list_beside(work: Work, path: str) -> list[Target]:
    """Return the targets in a job's namespace."""
    return [target for target in work.request.named if f"/namespaces/{target.namespace}/" in path]


async def _have_successors_written(work: Work, targets: Iterable[Target]) -> bool:
    """Whether the secrets are ours. An in-cluster refresher writes them after a while."""
    api = await work.api()
    seen = [await pull_secret.look(api, target) for target in targets]
    return all(one is not None and pull_secret.is_ours(one) for one in seen)


async def _find_cron_jobs(work: Work) -> dict[str, dict[str, Any]]:
    """Return the guide's CronJobs in all namespaces by path. One of ours may have the same name."""
    ours = {path_of(manifest) for manifest in refresher.list_objects(work, work.requests)}
    namespaces = dict.fromkeys(target.namespace for target in work.targets)
    paths = [f"/apis/batch/v1/namespaces/{namespace}/cronjobs/{_GUIDE_JOB}" for namespace in namespaces]
    wanted = [path for path in paths if path not in ours]
    jobs = await run_all(wanted, (await work.api()).find)
    return {path: job for path, job in zip(wanted, jobs, strict=True) if job}


def _is_suspended(job: Mapping[str, Any]) -> bool:
    return bool(job["spec"].get("suspend"))


async def _find_superseded(work: Work) -> list[dict[str, Any]]:
    """Return the refresher objects of earlier onboardings that still hold fields of ours and are not requested now."""
    api = await work.api()
    wanted = {path_of(manifest) for manifest in refresher.list_wanted(work)}
    earlier = [manifest for manifest in refresher.list_objects(work, work.requests) if path_of(manifest) not in wanted]
    found = await run_all([path_of(manifest) for manifest in earlier], api.find)
    return [manifest for manifest, one in zip(earlier, found, strict=True) if one and objects.has_our_fields(one)]


async def _report_left(work: Work) -> None:
    """Report secrets that are no longer requested, and the guide's role, which may delete any secret."""
    api = await work.api()
    wanted = {str(target) for target in work.request.named}
    dropped = list({str(one): one for one in work.targets if str(one) not in wanted}.values())
    for target, seen in zip(dropped, await run_all(dropped, partial(pull_secret.look, api)), strict=True):
        if seen and pull_secret.is_ours(seen):
            work.left.append(f"Secret {target}: no longer requested, so no longer refreshed; offboarding removes it")
    namespaces = list(dict.fromkeys(target.namespace for target in work.request.named))
    roles = [f"{_RBAC}/namespaces/{namespace}/roles/secret-manager" for namespace in namespaces]
    for namespace, role in zip(namespaces, await run_all(roles, api.find), strict=True):
        if role:
            work.left.append(
                f"Role {namespace}/secret-manager: created by the guide; it may delete every secret there. Once its "
                f"CronJob is no longer needed: kubectl delete cronjob/{_GUIDE_JOB} rolebinding/secret-manager-binding "
                f"role/secret-manager -n {namespace}"
            )
