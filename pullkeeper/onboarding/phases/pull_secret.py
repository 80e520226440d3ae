"""Phase: write the first secret and verify it (seventh step of the guide, without its CronJob)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

import stamina

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.ownership import MANAGER
from pullkeeper.errors import AdmissionDenied, ClusterRbacDenied, NamespaceMissing, ObjectChanged, PullkeeperError
from pullkeeper.fleet.table import Member
from pullkeeper.model import Target, list_found, selectors_in
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.many import run_all, summarize
from pullkeeper.onboarding.work import Work
from pullkeeper.refresh.outcomes import Fresh
from pullkeeper.refresh.search import list_targets

NAME = "pull secret"
_ROLE_PROPAGATION: Final = timedelta(seconds=20)


async def plan(work: Work) -> str:
    if work.request.refresher == "in-cluster":
        return "would be written by the cluster itself"
    api = await work.api()
    selectors = selectors_in(work.request.targets)
    named, found = {str(target): target for target in work.request.named}, tuple[Target, ...]()
    if selectors:
        listing = await list_targets(api, selectors, work.tools.clock())
        found = list_found(selectors, listing.found.keys() - named)
    return summarize(await run_all([*named.values(), *found], partial(_plan, work, api))) or "no namespace matches yet"


async def do(work: Work) -> str:
    """Write as every later refresh does, under the identity that refreshes and its small role."""
    if work.request.refresher == "in-cluster":
        return "written by the cluster itself"
    api = await work.api()
    if work.endpoint is None:
        raise RuntimeError("the cluster is located first")
    member = Member(work.member(), work.endpoint)
    written: dict[Target, Fresh] = {}
    refused: Mapping[Target, PullkeeperError] = {}
    # The API server's authorizer takes a moment to see the role that was just created.
    async for attempt in stamina.retry_context(on=ClusterRbacDenied, attempts=8, timeout=_ROLE_PROPAGATION):
        with attempt:
            first = await work.tools.refresher.write_first(member, written)
            written |= first.written
            refused = first.failures
            work.first = replace(first, written=written)
            # What a namespace that was found refuses is the refresh's business: others come and go every day.
            for target, failure in refused.items():
                if target in member.cluster.named or isinstance(failure, ClusterRbacDenied):
                    raise failure
    await run_all(written.items(), partial(_verify, api))
    drift = [f"{target} {one.written.drift}" for target, one in written.items() if one.written.drift]
    failed = [f"{target}: {failure.category}" for target, failure in refused.items()]
    return summarize([f"{len(written)} secrets written and verified", *failed, *drift])


async def undo(work: Work) -> str:
    """Delete the secrets that only we have written. An adopted one existed before, and pods may need it."""
    api = await work.api()
    targets = [*work.targets, *await _list_found(work, api)]
    return summarize(await run_all(targets, partial(_remove, work, api))) or "none requested"


async def _list_found(work: Work, api: Api) -> tuple[Target, ...]:
    """Return what selectors have ever found, and what they find now: a refresh may have been faster than the end of the
    cluster's membership.
    """
    found, selectors = work.found_targets, work.selectors
    if selectors:
        listing = await list_targets(api, selectors, work.tools.clock())
        found |= listing.found.keys() | listing.ending
    return list_found(selectors, found - {str(target) for target in work.targets})


async def _verify(api: Api, outcome: tuple[Target, Fresh]) -> None:
    target, fresh = outcome
    seen = await api.look(pull_secret.path(target), "Secret")
    if seen is None or seen.uid != fresh.written.uid:
        # Mostly the guide's CronJob, which deletes the secret and creates it again.
        raise ObjectChanged(f"{target} was replaced right after it was written")


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
    return f"would {verb} {target}, which belongs to {_list_managers(seen.managers)}"


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
        others = seen.managers - {MANAGER}
        work.left.append(f"Secret {target} and its references: also written by {_list_managers(others)}")
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


def _list_managers(managers: frozenset[str]) -> str:
    """Return their names. A client may have written a record without one."""
    return ", ".join(sorted(filter(None, managers))) or "an unknown field manager"
