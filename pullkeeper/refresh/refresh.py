"""Use case: refresh one cluster. One token, one apply per target, one status; and what to do when that fails."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pullkeeper import telemetry
from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.access import Access
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.refusals import NotFound
from pullkeeper.errors import (
    ClusterGone,
    ClusterMoved,
    ClusterStopped,
    ClusterTlsUntrusted,
    ClusterUnauthorized,
    ClusterUnreachable,
    InvalidRequest,
    PullkeeperError,
)
from pullkeeper.fleet.table import Fleet, Member
from pullkeeper.model import Cluster, Endpoint, Hub, RefreshMessage, Status, Target, TargetStatus
from pullkeeper.publisher.federation import Federation
from pullkeeper.refresh.outcomes import Attempt, Fresh, Observed, Outcome, Unobserved, concluded, tell
from pullkeeper.tokens import Token, lease, retry

_MEANWHILE: Final = timedelta(seconds=2)
"""Longer than a token from memory takes. A cluster that left the fleet while one was minted gets no secret any more."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What goes where. thorough: look after the service accounts too."""

    cluster: Cluster
    hub: Hub
    token: Token
    held: Mapping[str, TargetStatus]
    thorough: bool


class Refresher:
    """Refreshes clusters, any number at once."""

    def __init__(
        self,
        fleet: Fleet,
        federation: Federation,
        access: Access,
        hubs: Mapping[str, Hub],
        clock: Callable[[], datetime],
    ) -> None:
        self._fleet = fleet
        self._federation = federation
        self._access = access
        self._hubs = hubs
        self._clock = clock

    async def refresh(self, message: RefreshMessage) -> Status:
        """Write a good token into every target and tell how it went.

        Raises the first failure that another try can mend, so that the queue tries the message again; failures that
        only a person can mend are recorded and told, and the message is done. Raises InvalidRequest for a cluster
        that is not in the fleet.
        """
        started = time.monotonic()
        member = await self._fleet.member(message.cluster)
        held = await self._fleet.status(message.cluster)
        before = held.status if held else Status(cluster=message.cluster, next_due=self._clock())
        if member.cluster.refresher == "central":
            attempt = await self._attempt(member, before, message)
        else:
            attempt = await self._watched(member)
        status = await self._fleet.update(
            message.cluster, lambda now: concluded(now or before, member.cluster, attempt, self._clock())
        )
        telemetry.measure(telemetry.refresh_duration.record, time.monotonic() - started)
        for target, outcome in attempt.outcomes.items():
            tell(member.cluster, target, outcome)
        for outcome in attempt.outcomes.values():
            if isinstance(outcome, PullkeeperError) and outcome.retryable:
                raise outcome
        return status

    async def first(self, member: Member) -> Mapping[Target, pull_secret.Written]:
        """The first secrets of a cluster that is about to join, or to change. Raises the first failure; nothing is
        recorded.
        """
        message = RefreshMessage(cluster=member.cluster.cluster, reason="onboarding")
        held = await self._fleet.status(message.cluster)
        before = held.status if held else Status(cluster=message.cluster, next_due=self._clock())
        # Azure was asked a moment ago.
        before = before.model_copy(update={"located_at": self._clock(), "endpoint": None})
        attempt = await self._attempt(member, before, message)
        written = {}
        for target, outcome in attempt.outcomes.items():
            if isinstance(outcome, PullkeeperError):
                raise outcome
            if isinstance(outcome, Fresh):
                written[target] = outcome.written
        return written

    async def give_up(self, raw: bytes) -> None:
        """What the queue has given up after its last try: told, and due again soon."""
        try:
            message = RefreshMessage.parse(raw)
            await self._fleet.member(message.cluster)
        except InvalidRequest as e:
            told = {"category": e.category, "detail": e.detail, "remedy": e.remedy, **e.context}
            telemetry.emit("message.poisoned", told, logging.ERROR)
            return

        def later(held: Status | None) -> Status:
            status = held or Status(cluster=message.cluster, next_due=self._clock())
            failures = status.failures + 1
            due = self._clock() + retry(status.life, failures)
            return status.model_copy(update={"failures": failures, "next_due": due})

        status = await self._fleet.update(message.cluster, later)
        category = next((target.category for target in status.targets.values() if target.category), "internal")
        telemetry.emit(
            "message.poisoned",
            {
                "cluster": str(message.cluster),
                "category": category,
                "failures": status.failures,
                "next_due": status.next_due,
            },
            logging.ERROR,
        )

    async def _attempt(self, member: Member, before: Status, message: RefreshMessage) -> Attempt:
        cluster, asked = member.cluster, self._clock()
        try:
            hub = self._hub(cluster)
            written = [target.issued_at for target in before.targets.values() if target.issued_at]
            # Another instance may have written a newer token than the one held here: never go back to an older one.
            token = await self._federation.token(hub, issued_since=max(written, default=None))
        except PullkeeperError as e:
            return Attempt(dict.fromkeys(cluster.targets, e.within(cluster=str(cluster.cluster))))
        if message.reason != "onboarding" and self._clock() - asked > _MEANWHILE:
            await self._fleet.member(cluster.cluster)

        job = _Job(cluster, hub, token, before.targets, thorough=message.reason != "due")
        known = max(filter(None, (member.endpoint, before.endpoint)), key=lambda endpoint: endpoint.read_at)
        outcomes = await self._push(job, known)
        if not _may_have_moved(outcomes, known) or self._asked_lately(before):
            return Attempt(outcomes)
        try:
            endpoint = await self._access.locate(cluster.cluster)
        except (ClusterGone, ClusterStopped) as e:
            return Attempt(dict.fromkeys(cluster.targets, e), None, self._clock())
        except PullkeeperError:
            # Azure did not say: what the cluster itself said is the better news.
            return Attempt(outcomes, None, self._clock())
        return Attempt(await self._push(job, endpoint), endpoint, self._clock())

    async def _watched(self, member: Member) -> Attempt:
        """The cluster refreshes itself. We look, without reading, where its owner lets us; elsewhere nobody knows."""
        targets = member.cluster.targets
        try:
            async with await self._access.open(member.cluster.cluster, member.endpoint) as api:
                seen = [await api.look(pull_secret.path(target), "Secret") for target in targets]
        except PullkeeperError as e:
            return Attempt(dict.fromkeys(targets, Unobserved(e.detail)))
        return Attempt({target: Observed.of(one) for target, one in zip(targets, seen, strict=True)})

    async def _push(self, job: _Job, endpoint: Endpoint) -> Mapping[Target, Outcome]:
        """All targets of the cluster at once, over one client."""
        targets = job.cluster.targets
        try:
            api = await self._access.open(job.cluster.cluster, endpoint)
        except PullkeeperError as e:
            where = {"cluster": str(job.cluster.cluster), "principal": await self._access.principal()}
            return dict.fromkeys(targets, e.within(**where))
        async with api:
            outcomes = await asyncio.gather(*(self._write(api, job, target) for target in targets))
        return dict(zip(targets, outcomes, strict=True))

    async def _write(self, api: Api, job: _Job, target: Target) -> Outcome:
        held = job.held.get(str(target), TargetStatus())
        if not job.token.may_be_written(self._clock()):
            return ClusterUnreachable("too much of the token's life went by before the cluster could be reached")
        try:
            written = await pull_secret.write(
                api, target, job.hub, job.token, known_uid=held.uid, adopt=job.cluster.adopt
            )
            # In steady state there is nothing to do for service accounts, and one call per secret is all.
            look_again = job.thorough or written.created or held.uid is None or held.note
            note = await _referenced(api, target) if look_again else None
        except PullkeeperError as e:
            principal = await self._access.principal()
            return e.within(
                cluster=str(job.cluster.cluster),
                namespace=target.namespace,
                secret=target.secret,
                object=f"secret/{target.secret}",
                principal=principal,
            )
        return Fresh(written, job.token, note)

    def _hub(self, cluster: Cluster) -> Hub:
        if isinstance(cluster.hub, Hub):
            return cluster.hub
        if cluster.hub not in self._hubs:
            raise InvalidRequest(f"the hub {cluster.hub} is not in the setting HUBS")
        return self._hubs[cluster.hub]

    def _asked_lately(self, status: Status) -> bool:
        return status.located_at is not None and self._clock() < status.located_at + lease(status.life)


async def _referenced(api: Api, target: Target) -> str | None:
    """Have every service account name the secret. One that is not there yet is no failure of the secret."""
    missing = []
    for account in target.service_accounts:
        try:
            await pull_secret.reference(api, target, account)
        except NotFound:
            missing.append(account)
    return f"no such service account yet: {', '.join(missing)}" if missing else None


def _may_have_moved(outcomes: Mapping[Target, Outcome], endpoint: Endpoint) -> bool:
    stale: tuple[type[PullkeeperError], ...] = (ClusterMoved, ClusterTlsUntrusted)
    if endpoint.local_accounts:
        stale = (*stale, ClusterUnauthorized)  # rotated certificates: the client's goes with the cluster's
    return any(isinstance(outcome, stale) for outcome in outcomes.values())
