"""Which namespaces the selectors of a cluster find: one list a tick, and what follows from it for the targets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pullkeeper.cluster.api import Api
from pullkeeper.cluster.lists import list_all
from pullkeeper.errors import ClusterRbacDenied, NamespaceListDenied, PullkeeperError, TargetLimit
from pullkeeper.fleet.status import NEVER, Found, Search, Status, TargetStatus
from pullkeeper.model import MOST_TARGETS, Cluster, SelectorTarget
from pullkeeper.refresh.pace import quick_retry, retry, slow_retry, tick

_NAMESPACES: Final = "/api/v1/namespaces"
_UID: Final = 8
"""Characters of a namespace's uid that are kept: random, and a row holds 25,000 of them."""
_LONGEST_GAP: Final = 3
"""Ticks between two lists with which both count as complete lists in a row."""
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete list. found: the start of the namespace's uid by `namespace/secret`. ending: as they would be found,
    in namespaces that are being deleted.
    """

    at: datetime
    found: Mapping[str, str]
    ending: frozenset[str]


async def list_targets(api: Api, selectors: Sequence[SelectorTarget], now: datetime) -> Listing:
    """Look for the namespaces of selectors: by label, or among all where there are several. Raises ClusterError."""
    labels = str(selectors[0].namespace_selector) if len(selectors) == 1 else ""
    try:
        namespaces = await list_all(api, _NAMESPACES, labels=labels)
    except ClusterRbacDenied as e:
        raise NamespaceListDenied(e.detail, e.context) from None
    found = [one for metadata in namespaces for one in _match(selectors, metadata)]
    ending = frozenset(name for name, _, is_ending in found if is_ending)
    return Listing(now, {name: uid for name, uid, is_ending in found if not is_ending}, ending)


def _match(selectors: Sequence[SelectorTarget], metadata: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    name, labels = str(metadata.get("name")), metadata.get("labels") or {}
    for selector in selectors:
        if isinstance(labels, dict) and selector.matches(name, labels):
            yield f"{name}/{selector.secret}", str(metadata.get("uid"))[:_UID], "deletionTimestamp" in metadata


def apply_search(before: Status, cluster: Cluster, result: Listing | PullkeeperError | None, now: datetime) -> Status:
    """Return the status with what a list has found, or how it failed. Without a complete list no target is removed but
    those whose selector is gone. The same list counts once.
    """
    if not (cluster.selectors or before.search or any(one.found for one in before.targets.values())):
        return before  # as for most clusters, whose status each run reads several times
    targets, search = _ask_again(before, cluster, now), before.search
    if isinstance(result, PullkeeperError):
        search = _failed(search, result, before.life, now)
    elif result and not (search and search.listed_at and search.listed_at >= result.at):
        wanted, beyond = _choose(cluster, targets, result)
        targets = _update(targets, wanted, result, before.life)
        search = _listed(search, cluster, result, beyond, before.life)
    return before.model_copy(update={"targets": targets, "search": search if cluster.selectors else None})


def _ask_again(before: Status, cluster: Cluster, now: datetime) -> dict[str, TargetStatus]:
    """Return the targets as the cluster asks for them now: one that was found may be named, and a selector gone."""
    named, secrets = {str(target) for target in cluster.named}, {selector.secret for selector in cluster.selectors}
    targets = dict(before.targets)
    for name, one in before.targets.items():
        if one.found and name in named:
            targets[name] = one.model_copy(update={"found": None})
        elif one.found and not one.removed_at and name.rpartition("/")[2] not in secrets:
            targets[name] = _remove(one, one.found, now, before.life)
    return targets


def _choose(cluster: Cluster, targets: Mapping[str, TargetStatus], listing: Listing) -> tuple[list[str], list[str]]:
    """Return the targets to keep of those that were found, and those beyond the limit. Named ones come first, then
    those already kept.
    """
    named = {str(target) for target in cluster.named}

    def is_new(name: str) -> bool:
        found = targets[name].found if name in targets else None
        return found is None or found.removed_at is not None

    found = sorted((name for name in listing.found if name not in named), key=lambda name: (is_new(name), name))
    room = MOST_TARGETS - len(named)
    return found[:room], found[room:]


def _update(
    targets: Mapping[str, TargetStatus], wanted: Sequence[str], listing: Listing, life: timedelta
) -> dict[str, TargetStatus]:
    kept = {name: one for name, one in targets.items() if not (one.found and name in listing.ending)}
    for name in kept.keys() - set(wanted):
        if (found := kept[name].found) and not found.removed_at:
            kept[name] = _remove(kept[name], found, listing.at, life)
    added_at = listing.at.replace(microsecond=0)  # shorter in the row
    for name in wanted:
        known, found = kept.get(name), Found(namespace=listing.found[name], added_at=added_at)
        if known is None or known.found is None or known.found.namespace != found.namespace:
            # A namespace that was deleted and created again is a new one, without a secret.
            kept[name] = TargetStatus(found=found)
        elif known.removed_at:
            kept[name] = known.model_copy(update={"found": found, "next_due": NEVER})
    return kept


def _remove(status: TargetStatus, found: Found, at: datetime, life: timedelta) -> TargetStatus:
    """It is due once more after a token's life: to see what has become of the secret."""
    removed = found.model_copy(update={"removed_at": at})
    return status.model_copy(update={"found": removed, "next_due": at + life})


def _failed(before: Search | None, failure: PullkeeperError, life: timedelta, now: datetime) -> Search:
    failures = (before.failures if before else 0) + 1
    pause = retry(life, failures) if failure.retryable else slow_retry(life)
    return Search(
        listed_at=before.listed_at if before else None,
        next_due=now + pause,
        failures=failures,
        category=failure.category,
        detail=failure.detail,
        remedy=failure.remedy,
    )


def _listed(before: Search | None, cluster: Cluster, listing: Listing, beyond: list[str], life: timedelta) -> Search:
    """The next list is due at the next tick, whenever that is; sooner only for another message of this one."""
    last = before.listed_at if before and before.since else None
    unbroken = last and listing.at - last <= _LONGEST_GAP * tick(life)
    used = {name.rpartition("/")[2] for name in listing.found}
    idle = [str(one.namespace_selector) for one in cluster.selectors if one.secret not in used]
    failure = _explain_limit(beyond) if beyond else None
    return Search(
        since=before.since if before and unbroken else listing.at,
        listed_at=listing.at,
        next_due=listing.at + quick_retry(life),
        category=failure.category if failure else None,
        detail=failure.detail if failure else None,
        remedy=failure.remedy if failure else None,
        note=f"no namespace has the labels {' nor '.join(idle)}" if idle else None,
    )


def _explain_limit(beyond: Sequence[str]) -> TargetLimit:
    more = f" and {len(beyond) - _NAMED} more" if len(beyond) > _NAMED else ""
    detail = (
        f"{MOST_TARGETS} targets is the limit of a cluster, so these get no secret: {', '.join(beyond[:_NAMED])}{more}"
    )
    return TargetLimit(detail)
