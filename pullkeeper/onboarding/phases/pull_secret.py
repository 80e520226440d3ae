"""Phase: write the first secret and verify it (seventh step of the guide, without its CronJob)."""

from datetime import timedelta
from typing import Final

import stamina

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.ownership import MANAGER
from pullkeeper.errors import AdmissionDenied, ClusterRbacDenied, NamespaceMissing, ObjectChanged
from pullkeeper.fleet.table import Member
from pullkeeper.model import Target
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.work import Work

NAME = "pull secret"
_ROLE_PROPAGATION: Final = timedelta(seconds=20)


async def plan(work: Work) -> str:
    if work.request.refresher == "in-cluster":
        return "would be written by the cluster itself"
    return "; ".join([await _plan(work, await work.api(), target) for target in work.request.named])


async def do(work: Work) -> str:
    """Write as every later refresh does, under the identity that refreshes and its small role."""
    if work.request.refresher == "in-cluster":
        return "written by the cluster itself"
    api = await work.api()
    if work.endpoint is None:
        raise RuntimeError("the cluster is located first")
    member = Member(work.member(), work.endpoint)
    # The API server's authorizer takes a moment to see the role that was just created.
    async for attempt in stamina.retry_context(on=ClusterRbacDenied, attempts=8, timeout=_ROLE_PROPAGATION):
        with attempt:
            outcomes = await work.tools.refresher.write_first(member)
    for target, written in outcomes.items():
        work.stop_if_late()
        seen = await api.look(pull_secret.path(target), "Secret")
        if seen is None or seen.uid != written.uid:
            # Mostly the guide's CronJob, which deletes the secret and creates it again.
            raise ObjectChanged(f"{target} was replaced right after it was written")
    drift = [f"{target} {written.drift}" for target, written in outcomes.items() if written.drift]
    return "; ".join([f"{len(outcomes)} secrets written and verified", *drift])


async def undo(work: Work) -> str:
    """Delete the secrets that only we have written. An adopted one existed before, and pods may need it."""
    results = [await _remove(work, await work.api(), target) for target in work.targets]
    return "; ".join(results) or "none requested"


async def _plan(work: Work, api: Api, target: Target) -> str:
    try:
        seen = await api.look(pull_secret.path(target), "Secret")
    except NamespaceMissing:
        seen = None
    if seen is None:
        return f"would create {target}"
    if pull_secret.is_ours(seen):
        return f"would refresh {target}"
    verb = "adopt" if work.request.adopt else "stop at"
    return f"would {verb} {target}, which belongs to {', '.join(sorted(seen.managers))}"


async def _remove(work: Work, api: Api, target: Target) -> str:
    try:
        return await _delete_or_release(work, api, target)
    except AdmissionDenied as e:
        if e.retryable:
            raise
        work.report_refusal(f"Secret {target}", e)
        return f"{target} kept"


async def _delete_or_release(work: Work, api: Api, target: Target) -> str:
    work.stop_if_late()
    seen = await pull_secret.look(api, target)
    if seen and seen.managers != {MANAGER}:
        if pull_secret.is_ours(seen):
            await pull_secret.release(api, target, seen)
        others = ", ".join(sorted(seen.managers - {MANAGER})) or "an unknown field manager"
        work.left.append(f"Secret {target} and its references: also written by {others}")
        return f"{target} kept"
    for account in target.account_names:
        referrer = await pull_secret.remove_reference(api, target, account)
        if referrer and not objects.is_ours(referrer):
            work.left.append(
                f"ServiceAccount {target.namespace}/{account}: still names {target.secret}; another field manager "
                "wrote its list of secrets"
            )
    if seen is None:
        return f"{target} does not exist"
    await api.delete(pull_secret.path(target), seen.uid)
    work.note_change()
    return f"{target} deleted"
