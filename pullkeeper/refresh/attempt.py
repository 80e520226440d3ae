"""One attempt at one cluster: the hub's token, one apply per target, and where the cluster is if it has moved."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.access import Access
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.refusals import NotFound
from pullkeeper.deadline import deadline
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
from pullkeeper.fleet.status import Status
from pullkeeper.fleet.table import Member
from pullkeeper.model import Cluster, Endpoint, Target
from pullkeeper.publisher.federation import Federation
from pullkeeper.publisher.hub import Hub
from pullkeeper.refresh.outcomes import Attempt, Fresh, Observed, Outcome, Unobserved
from pullkeeper.tokens import Token

_LOCATE_EVERY = 1 / 6  # of a token's life: 10 minutes of an hour


@dataclass(frozen=True, slots=True)
class _Job:
    """What is written where. thorough: make sure of the service accounts too."""

    cluster: Cluster
    targets: Sequence[Target]
    hub: Hub
    token: Token
    before: Status
    thorough: bool


class Writer:
    """Writes tokens into clusters, any number at once."""

    def __init__(
        self, federation: Federation, access: Access, hubs: Mapping[str, Hub], clock: Callable[[], datetime]
    ) -> None:
        self._federation = federation
        self._access = access
        self._hubs = hubs
        self._clock = clock

    async def token(self, cluster: Cluster, before: Status, probed_since: datetime | None = None) -> tuple[Hub, Token]:
        """Return the cluster's hub and a token that is not older than the one in its secrets: another instance may have
        written that. probed_since: the time after which it must have been probed. Raises InvalidRequest for an unknown
        hub, EntraError, GoogleError or RegistryDenied.
        """
        hub = cluster.hub if isinstance(cluster.hub, Hub) else self._hubs.get(cluster.hub)
        if hub is None:
            raise InvalidRequest(f"the hub {cluster.hub} is not in the setting HUBS")
        written = [target.issued_at for target in before.targets.values() if target.issued_at]
        issued_since = max(written, default=None)
        return hub, await self._federation.token(hub, issued_since=issued_since, probed_since=probed_since)

    async def write(
        self, member: Member, targets: Sequence[Target], before: Status, hub: Hub, token: Token, *, thorough: bool
    ) -> Attempt:
        """Write the token into these targets of a cluster. Failures are outcomes; nothing is raised."""
        job = _Job(member.cluster, targets, hub, token, before, thorough)
        known = max(filter(None, (member.endpoint, before.endpoint)), key=lambda endpoint: endpoint.read_at)
        outcomes = await self._push(job, known)
        if not _may_have_moved(outcomes, known) or self._was_located_lately(before):
            return Attempt(outcomes)
        try:
            endpoint = await self._access.locate(member.cluster.cluster)
        except (ClusterGone, ClusterStopped) as e:
            return Attempt(dict.fromkeys(targets, e), None, self._clock())
        except PullkeeperError:
            # Azure gave no address, so what the cluster itself responded is reported.
            return Attempt(outcomes, None, self._clock())
        return Attempt(await self._push(job, endpoint), endpoint, self._clock())

    async def observe(self, member: Member, targets: Sequence[Target]) -> Attempt:
        """Look, without reading, at secrets that the cluster itself refreshes, where the app may."""
        try:
            async with await self._access.open(member.cluster.cluster, member.endpoint) as api:
                seen = [await api.look(pull_secret.path(target), "Secret") for target in targets]
        except PullkeeperError as e:
            return Attempt(dict.fromkeys(targets, Unobserved(e.detail)))
        return Attempt({target: Observed.of(one) for target, one in zip(targets, seen, strict=True)})

    async def _push(self, job: _Job, endpoint: Endpoint) -> Mapping[Target, Outcome]:
        """Write all targets at once, over one client."""
        try:
            api = await self._access.open(job.cluster.cluster, endpoint)
        except PullkeeperError as e:
            where = {"cluster": str(job.cluster.cluster), "principal": await self._access.principal()}
            return dict.fromkeys(job.targets, e.with_context(**where))
        async with api:
            if len(job.targets) == 1:  # most clusters: without a task of its own
                return {job.targets[0]: await self._write(api, job, job.targets[0])}
            outcomes = await asyncio.gather(*(self._write(api, job, target) for target in job.targets))
        return dict(zip(job.targets, outcomes, strict=True))

    async def _write(self, api: Api, job: _Job, target: Target) -> Outcome:
        before, now = job.before.of(target), self._clock()
        if not job.token.may_be_written(now):
            return ClusterUnreachable("too much of the token's life passed before the cluster could be reached")
        try:
            with deadline(job.token.writable_until - now):  # for retries too
                written = await pull_secret.write(
                    api, target, job.hub, job.token, known_uid=before.uid, adopt=job.cluster.adopt
                )
            # In steady state the service accounts name the secret already, and one call per secret is all.
            look_again = job.thorough or written.created or before.uid is None or before.note
            note = await _reference(api, target) if look_again else None
        except PullkeeperError as e:
            return e.with_context(
                cluster=str(job.cluster.cluster),
                namespace=target.namespace,
                secret=target.secret,
                object=f"secret/{target.secret}",
                principal=await self._access.principal(),
            )
        return Fresh(written, job.token, note)

    def _was_located_lately(self, status: Status) -> bool:
        return status.located_at is not None and self._clock() < status.located_at + status.life * _LOCATE_EVERY


async def _reference(api: Api, target: Target) -> str | None:
    """Have every service account name the secret. One that does not exist yet is a note, not a failure."""
    missing = []
    for account in target.service_accounts:
        try:
            await pull_secret.add_reference(api, target, account)
        except NotFound:
            missing.append(account)
    return f"no such service account yet: {', '.join(missing)}" if missing else None


def _may_have_moved(outcomes: Mapping[Target, Outcome], endpoint: Endpoint) -> bool:
    stale: tuple[type[PullkeeperError], ...] = (ClusterMoved, ClusterTlsUntrusted)
    if endpoint.local_accounts:
        stale = (*stale, ClusterUnauthorized)  # rotated certificates: the client's is replaced with the cluster's
    return any(isinstance(outcome, stale) for outcome in outcomes.values())
