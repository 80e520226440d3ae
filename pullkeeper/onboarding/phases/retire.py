"""Phase: whoever refreshed before, once he is no longer needed.

The guide's CronJob is suspended, if asked for: it stays, and can be resumed. Roles and refreshers of earlier
onboardings go: who is no longer asked to write a secret may no longer write it. The secrets stay until the cluster is
offboarded, because pods may still name them.
"""

from collections.abc import Mapping
from typing import Any

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import path_of
from pullkeeper.onboarding import applying
from pullkeeper.onboarding.phases import refresher
from pullkeeper.onboarding.work import Work

NAME = "retire"
_GUIDES = "refresh-ar-secret"
_SUSPENDED = "pullkeeper.dev/suspended-at"
"""On a CronJob that we suspended: what a person has suspended is no business of ours."""


async def plan(work: Work) -> str:
    if not work.reachable:
        return "cannot be looked for"
    verb = "suspend" if work.request.retire_cron_job else "leave"
    told = [f"would {verb} {path}" for path, job in (await _cron_jobs(work)).items() if not _suspended(job)]
    told += [f"would take away {applying.name_of(manifest)}" for manifest in await _superseded(work)]
    await _tell_what_is_left(work)
    return "; ".join(told) or "nobody refreshed before"


async def do(work: Work) -> str:
    if not work.reachable:
        return "cannot be looked for"
    told = [await _retired(work, path) for path, job in (await _cron_jobs(work)).items() if not _suspended(job)]
    told += [await applying.take_away(work, manifest) for manifest in reversed(await _superseded(work))]
    await _tell_what_is_left(work)
    return "; ".join(told) or "nobody refreshed before"


async def undo(work: Work) -> str:
    for path, job in (await _cron_jobs(work)).items():
        if _suspended(job) and _SUSPENDED in (job["metadata"].get("annotations") or {}):
            work.left.append(f"{path}: Pullkeeper suspended it; kubectl patch it with suspend: false to resume it")
    return "stays as it is"


async def _retired(work: Work, path: str) -> str:
    if not work.request.retire_cron_job:
        return f"{path} still runs beside Pullkeeper: send retireCronJob to suspend it"
    if not await _written(work, path):
        return f"{path} still runs, because the cluster's own refresher has not written yet: send the same again later"
    at = work.tools.clock().isoformat(timespec="seconds")
    await (await work.api()).merge(path, {"metadata": {"annotations": {_SUSPENDED: at}}, "spec": {"suspend": True}})
    return f"suspended {path}"


async def _written(work: Work, path: str) -> bool:
    """Whether the secrets beside this job are ours by now. Where the cluster refreshes itself that takes a while."""
    api = await work.api()
    beside = [target for target in work.request.targets if f"/namespaces/{target.namespace}/" in path]
    seen = [await pull_secret.look(api, target) for target in beside]
    return all(one is not None and pull_secret.is_ours(one) for one in seen)


async def _cron_jobs(work: Work) -> dict[str, dict[str, Any]]:
    """Of the guide, by path, in all namespaces. One of ours may have the same name."""
    found, ours = {}, {path_of(manifest) for manifest in refresher.made(work.asked)}
    for namespace in dict.fromkeys(target.namespace for target in work.targets):
        path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs/{_GUIDES}"
        if path not in ours and (job := await (await work.api()).find(path)):
            found[path] = job
    return found


def _suspended(job: Mapping[str, Any]) -> bool:
    return bool((job.get("spec") or {}).get("suspend"))


async def _superseded(work: Work) -> list[dict[str, Any]]:
    """What earlier onboardings made to refresh with, has something of ours in it still, and is not asked for now."""
    api = await work.api()
    wanted = {path_of(manifest) for manifest in refresher.made([work.request])}
    earlier = [manifest for manifest in refresher.made(work.asked) if path_of(manifest) not in wanted]
    found = [(manifest, await api.find(path_of(manifest))) for manifest in earlier]
    return [manifest for manifest, one in found if one and applying.is_touched(one)]


async def _tell_what_is_left(work: Work) -> None:
    """Secrets that were asked for earlier and are not now, and the guide's role, which may delete any secret."""
    api = await work.api()
    wanted = {str(target) for target in work.request.targets}
    for target in {str(one): one for one in work.targets if str(one) not in wanted}.values():
        seen = await pull_secret.look(api, target)
        if seen and pull_secret.is_ours(seen):
            work.left.append(f"Secret {target}: no longer asked for, so no longer refreshed; offboarding takes it away")
    for namespace in dict.fromkeys(target.namespace for target in work.request.targets):
        role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/secret-manager"
        if await api.find(role):
            work.left.append(
                f"Role {namespace}/secret-manager: the guide's; who has it may delete every secret there. Once its "
                f"CronJob is no longer needed: kubectl delete cronjob/{_GUIDES} rolebinding/secret-manager-binding "
                f"role/secret-manager -n {namespace}"
            )
