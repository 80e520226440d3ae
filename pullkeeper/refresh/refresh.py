"""Use case: refresh one cluster: one token, one apply per target, one status."""

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
from pullkeeper.deadline import reserve
from pullkeeper.errors import (
    ClusterGone,
    ClusterStopped,
    ClusterUnreachable,
    InvalidRequest,
    PullkeeperError,
)
from pullkeeper.fleet import storage
from pullkeeper.fleet.table import Fleet, Member
from pullkeeper.model import Cluster, ClusterId, Endpoint, RefreshMessage, Status, Target, TargetStatus
from pullkeeper.publisher.federation import Federation
from pullkeeper.publisher.hub import Hub
from pullkeeper.refresh.outcomes import (
    Attempt,
    Fresh,
    Observed,
    Outcome,
    Unobserved,
    may_have_moved,
    needs_refresh,
    next_status,
    report_outcome,
)
from pullkeeper.tokens import Token, look_again, retry

_SLOW_MINT: Final = timedelta(seconds=2)
"""A token from memory never takes so long. A cluster that left the fleet while one was minted gets no secret."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One token for the targets of one cluster. thorough: apply the service accounts too."""

    cluster: Cluster
    hub: Hub
    token: Token
    previous: Mapping[str, TargetStatus]
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
        """Write a good token into every target, and record and report the outcome of each.

        A message that was hidden by a crash and returns after the cluster was refreshed does nothing. Raises the first
        retryable failure, so that the queue tries the message again; after other failures the message is done. Raises
        NotInFleet.
        """
        started = time.monotonic()
        member = await self._fleet.member(message.cluster)
        before = await self._status(message.cluster)
        if message.reason == "due" and not needs_refresh(before, member.cluster, self._clock()):
            return before
        with reserve(2 * storage.CALL):  # to record the outcome, which takes two calls
            if member.cluster.refresher == "central":
                attempt = await self._attempt(member, before, message)
            else:
                attempt = await self._observe(member)
        status = await self._fleet.update(
            message.cluster,
            lambda current: next_status(current or before, member.cluster, attempt, self._clock()),
        )
        telemetry.measure(telemetry.refresh_duration.record, time.monotonic() - started)
        for target, outcome in attempt.outcomes.items():
            report_outcome(member.cluster, target, outcome)
        for outcome in attempt.outcomes.values():
            if isinstance(outcome, PullkeeperError) and outcome.retryable:
                raise outcome
        return status

    async def write_first(self, member: Member) -> Mapping[Target, pull_secret.WriteResult]:
        """Write the secrets of a cluster before it is registered. Records nothing; raises the first failure."""
        message = RefreshMessage(cluster=member.cluster.cluster, reason="onboarding")
        # Onboarding has just asked Azure for the address.
        before = (await self._status(message.cluster)).model_copy(
            update={"located_at": self._clock(), "endpoint": None}
        )
        attempt = await self._attempt(member, before, message)
        written = {}
        for target, outcome in attempt.outcomes.items():
            if isinstance(outcome, PullkeeperError):
                raise outcome
            if isinstance(outcome, Fresh):
                written[target] = outcome.written
        return written

    async def give_up(self, raw: bytes) -> None:
        """Report a message that the queue has given up after its last try, and make its cluster due again."""
        try:
            message = RefreshMessage.parse(raw)
            member = await self._fleet.member(message.cluster)
        except InvalidRequest as e:
            event = {"category": e.category, "detail": e.detail, "remedy": e.remedy, **e.context}
            telemetry.emit("message.poisoned", event, logging.ERROR)
            return
        before = await self._status(message.cluster)
        if message.reason == "due" and not needs_refresh(before, member.cluster, self._clock()):
            return

        def count_failure(current: Status | None) -> Status:
            status = current or Status(cluster=message.cluster, next_due=self._clock())
            failures = status.failures + 1
            due = self._clock() + retry(status.life, failures)
            return status.model_copy(update={"failures": failures, "next_due": due})

        status = await self._fleet.update(message.cluster, count_failure)
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
        cluster, started = member.cluster, self._clock()
        try:
            hub = self._hub(cluster)
            issued = [target.issued_at for target in before.targets.values() if target.issued_at]
            # Another instance may have written a newer token than the one in this process: never write an older one.
            token = await self._federation.token(hub, issued_since=max(issued, default=None))
        except PullkeeperError as e:
            return Attempt(dict.fromkeys(cluster.targets, e.with_context(cluster=str(cluster.cluster))))
        if message.reason != "onboarding" and self._clock() - started > _SLOW_MINT:
            await self._fleet.member(cluster.cluster)

        job = _Job(cluster, hub, token, before.targets, thorough=message.reason != "due")
        newest = max(filter(None, (member.endpoint, before.endpoint)), key=lambda endpoint: endpoint.read_at)
        outcomes = await self._write_all(job, newest)
        if not may_have_moved(outcomes, newest) or self._was_located_recently(before):
            return Attempt(outcomes)
        try:
            endpoint = await self._access.locate(cluster.cluster)
        except (ClusterGone, ClusterStopped) as e:
            return Attempt(dict.fromkeys(cluster.targets, e), None, self._clock())
        except PullkeeperError:
            # Without an answer from Azure, the cluster's own failure is the one to report.
            return Attempt(outcomes, None, self._clock())
        return Attempt(await self._write_all(job, endpoint), endpoint, self._clock())

    async def _observe(self, member: Member) -> Attempt:
        """Look at the secrets of a cluster that refreshes itself, without reading them, where its owner allows it."""
        targets = member.cluster.targets
        try:
            async with await self._access.open(member.cluster.cluster, member.endpoint) as api:
                secrets = [await api.look(pull_secret.path(target), "Secret") for target in targets]
        except PullkeeperError as e:
            return Attempt(dict.fromkeys(targets, Unobserved(e.detail)))
        return Attempt({target: Observed.parse(secret) for target, secret in zip(targets, secrets, strict=True)})

    async def _write_all(self, job: _Job, endpoint: Endpoint) -> Mapping[Target, Outcome]:
        """Write all targets concurrently, over one client."""
        targets = job.cluster.targets
        try:
            api = await self._access.open(job.cluster.cluster, endpoint)
        except PullkeeperError as e:
            where = {"cluster": str(job.cluster.cluster), "principal": await self._access.principal()}
            return dict.fromkeys(targets, e.with_context(**where))
        async with api:
            outcomes = await asyncio.gather(*(self._write(api, job, target) for target in targets))
        return dict(zip(targets, outcomes, strict=True))

    async def _write(self, api: Api, job: _Job, target: Target) -> Outcome:
        previous = job.previous.get(str(target), TargetStatus())
        if not job.token.may_be_written(self._clock()):
            return ClusterUnreachable("the token became too old before the cluster could be reached")
        try:
            written = await pull_secret.write(
                api, target, job.hub, job.token, known_uid=previous.uid, adopt=job.cluster.adopt
            )
            # In steady state the service accounts already name the secret: one call per secret is all.
            is_incomplete = written.created or previous.uid is None or previous.note
            note = await _add_references(api, target) if job.thorough or is_incomplete else None
        except PullkeeperError as e:
            principal = await self._access.principal()
            return e.with_context(
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

    async def _status(self, cluster: ClusterId) -> Status:
        stored = await self._fleet.status(cluster)
        return stored.status if stored else Status(cluster=cluster, next_due=self._clock())

    def _was_located_recently(self, status: Status) -> bool:
        return status.located_at is not None and self._clock() < status.located_at + look_again(status.life)


async def _add_references(api: Api, target: Target) -> str | None:
    """Name the secret in every service account. Missing accounts are a note, not a failure of the secret."""
    missing = []
    for account in target.service_accounts:
        try:
            await pull_secret.add_reference(api, target, account)
        except NotFound:
            missing.append(account)
    return f"no such service account yet: {', '.join(missing)}" if missing else None
