"""Phase: the older CronJob of the guide, suspended once it is no longer needed. It stays, and can be resumed."""

from pullkeeper.kube import Api
from pullkeeper.onboarding.work import Work

NAME = "retire CronJob"
_GUIDES = "refresh-ar-secret"


async def plan(work: Work) -> str:
    if not work.reachable:
        return "cannot be looked for"
    found = await _found(work)
    if not found:
        return "none found"
    return f"would {'suspend' if work.request.retire_cron_job else 'leave'} {', '.join(found)}"


async def do(work: Work) -> str:
    if not work.reachable:
        return "cannot be looked for"
    found = await _found(work)
    if not found:
        return "none found"
    if not work.request.retire_cron_job:
        return f"{', '.join(found)} still runs beside Pullkeeper: send retireCronJob to suspend it"
    for path in found:
        await (await work.api()).merge(path, {"spec": {"suspend": True}})
    return f"suspended {', '.join(found)}"


async def undo(work: Work) -> str:
    found = await _found(work, suspended=True)
    work.left.extend(f"{path}: suspended; kubectl patch it with suspend: false to resume it" for path in found)
    return "stays as it is"


async def _found(work: Work, *, suspended: bool = False) -> list[str]:
    api: Api = await work.api()
    paths = []
    for namespace in dict.fromkeys(target.namespace for target in work.request.targets):
        path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs/{_GUIDES}"
        job = await api.find(path)
        if job and bool(job.get("spec", {}).get("suspend")) is suspended:
            paths.append(path)
    return paths
