"""Phase: the first secret, verified: the guide's seventh step, without its CronJob."""

from datetime import timedelta
from typing import Final

import stamina

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.ownership import MANAGER
from pullkeeper.errors import AdmissionDenied, ClusterRbacDenied, ClusterThrottled, NamespaceMissing
from pullkeeper.fleet.table import Member
from pullkeeper.model import Target
from pullkeeper.onboarding import applying
from pullkeeper.onboarding.work import Work

NAME = "pull secret"
_ROLE_KNOWN: Final = timedelta(seconds=20)


async def plan(work: Work) -> str:
    if work.request.refresher == "in-cluster":
        return "would be written by the cluster itself"
    return "; ".join([await _planned(work, await work.api(), target) for target in work.request.targets])


async def do(work: Work) -> str:
    """By the identity that refreshes from now on, with its small role, so that the next refresh holds no surprise."""
    if work.request.refresher == "in-cluster":
        return "written by the cluster itself"
    api = await work.api()
    if work.endpoint is None:
        raise RuntimeError("the cluster is located first")
    member = Member(work.member(), work.endpoint)
    # The API server takes a moment to know the role that was made just now.
    async for attempt in stamina.retry_context(on=ClusterRbacDenied, attempts=8, timeout=_ROLE_KNOWN):
        with attempt:
            outcomes = await work.tools.refresher.first(member)
    for target, written in outcomes.items():
        seen = await api.look(pull_secret.path(target), "Secret")
        if seen is None or seen.uid != written.uid:
            # Somebody was quicker: the guide's own job, which deletes and makes anew, mostly.
            raise ClusterThrottled(f"{target} is not what was written a moment ago")
    drift = [f"{target} {written.drift}" for target, written in outcomes.items() if written.drift]
    return "; ".join([f"{len(outcomes)} secrets written and verified", *drift])


async def undo(work: Work) -> str:
    """Only what nobody else has a hand in: an adopted secret was somebody's before, and pods may need it."""
    told = [await _removed(work, await work.api(), target) for target in work.targets]
    return "; ".join(told) or "none was asked for"


async def _planned(work: Work, api: Api, target: Target) -> str:
    try:
        seen = await api.look(pull_secret.path(target), "Secret")
    except NamespaceMissing:
        seen = None
    if seen is None:
        return f"would make {target}"
    if pull_secret.is_ours(seen):
        return f"would refresh {target}"
    verb = "adopt" if work.request.adopt else "stop at"
    return f"would {verb} {target}, which belongs to {', '.join(sorted(seen.managers))}"


async def _removed(work: Work, api: Api, target: Target) -> str:
    try:
        return await _taken_away(work, api, target)
    except AdmissionDenied as e:
        if e.retryable:
            raise
        work.refused(f"Secret {target}", e)
        return f"{target} stays"


async def _taken_away(work: Work, api: Api, target: Target) -> str:
    seen = await pull_secret.look(api, target)
    if seen and seen.managers != {MANAGER}:
        if pull_secret.is_ours(seen):
            await pull_secret.give_back(api, target, seen)
        others = ", ".join(sorted(seen.managers - {MANAGER})) or "somebody unknown"
        work.left.append(f"Secret {target} and where it is named: {others} has a hand in it")
        return f"{target} stays"
    for account in target.service_accounts:
        naming = await pull_secret.dereference(api, target, account)
        if naming and not applying.is_ours(naming):
            work.left.append(
                f"ServiceAccount {target.namespace}/{account}: names {target.secret}, by somebody else's hand"
            )
    if seen is None:
        return f"{target} is gone"
    await api.delete(pull_secret.path(target), seen.uid)
    return f"{target} deleted"
