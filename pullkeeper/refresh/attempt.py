"""One attempt at one cluster: the hub's token, one apply per target, and where the cluster is if it has moved."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.access import Access
from pullkeeper.cluster.api import Api
from pullkeeper.cluster.refusals import NotFound
from pullkeeper.deadline import deadline
from pullkeeper.errors import (
    ClusterGone,
    ClusterMoved,
    ClusterRbacDenied,
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
from pullkeeper.refresh.lanes import Watch, write_all
from pullkeeper.refresh.outcomes import Attempt, Fresh, Observed, Outcome, Unobserved
from pullkeeper.refresh.removal import remove_secret
from pullkeeper.refresh.search import Listing, list_targets
from pullkeeper.tokens import Token

_NO_WATCH = Watch()
_LIST_WITHIN: Final = timedelta(seconds=10)
"""All pages. A server that needs longer is asked again at the next tick, and its known targets do not wait."""
_LOCATE_EVERY = 1 / 6  # of a token's life: 10 minutes of an hour


@dataclass(frozen=True, slots=True)
class _Job:
    """What is written where, and who waits for it. thorough: make sure of the service accounts too."""

    cluster: Cluster
    targets: Sequence[Target]
    hub: Hub
    token: Token
    before: Status
    thorough: bool
    watch: Watch


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
        self,
        member: Member,
        targets: Sequence[Target],
        before: Status,
        hub: Hub,
        token: Token,
        *,
        thorough: bool,
        watch: Watch = _NO_WATCH,
    ) -> Attempt:
        """Write the token into these targets of a cluster. Failures are outcomes; nothing is raised."""
        job = _Job(member.cluster, targets, hub, token, before, thorough, watch)
        known = newest_endpoint(member, before)
        outcomes = await self._push(job, known)
        if not _may_have_moved(outcomes.values(), known) or self._was_located_lately(before):
            return Attempt(outcomes)
        try:
            endpoint = await self._access.locate(member.cluster.cluster)
        except (ClusterGone, ClusterStopped) as e:
            return Attempt(dict.fromkeys(targets, e), None, self._clock())
        except PullkeeperError:
            # Azure gave no address, so what the cluster itself responded is reported.
            return Attempt(outcomes, None, self._clock())
        return Attempt(await self._push(job, endpoint), endpoint, self._clock())

    async def search(self, member: Member, before: Status) -> Attempt:
        """List the namespaces of the cluster's selectors. A failure is part of the result; nothing is raised."""
        known = newest_endpoint(member, before)
        result = await self._list(member.cluster, known)
        if not _may_have_moved([result], known) or self._was_located_lately(before):
            return Attempt({}, search=result)
        try:
            endpoint = await self._access.locate(member.cluster.cluster)
        except (ClusterGone, ClusterStopped) as e:
            return Attempt({}, None, self._clock(), e)
        except PullkeeperError:
            return Attempt({}, None, self._clock(), result)
        return Attempt({}, endpoint, self._clock(), await self._list(member.cluster, endpoint))

    async def observe(self, member: Member, targets: Sequence[Target]) -> Attempt:
        """Look, without reading, at secrets that the cluster itself refreshes, where the app may."""
        try:
            async with await self._access.open(member.cluster.cluster, member.endpoint) as api:
                return Attempt({target: await _look_at(api, target) for target in targets})
        except PullkeeperError as e:
            return Attempt(dict.fromkeys(targets, Unobserved(e.detail)))

    async def _list(self, cluster: Cluster, endpoint: Endpoint) -> Listing | PullkeeperError:
        try:
            with deadline(_LIST_WITHIN):
                async with await self._access.open(cluster.cluster, endpoint) as api:
                    return await list_targets(api, cluster.selectors, self._clock())
        except PullkeeperError as e:
            return e.with_context(cluster=str(cluster.cluster), principal=await self._access.principal())

    async def _push(self, job: _Job, endpoint: Endpoint) -> Mapping[Target, Outcome]:
        """Write all targets over one client."""
        try:
            api = await self._access.open(job.cluster.cluster, endpoint)
        except PullkeeperError as e:
            where = {"cluster": str(job.cluster.cluster), "principal": await self._access.principal()}
            return dict.fromkeys(job.targets, e.with_context(**where))
        async with api:
            write = partial(self._write, api, job)
            return await write_all(job.targets, write, lambda target: job.before.of(target).failures > 0, job.watch)

    async def _write(self, api: Api, job: _Job, target: Target) -> Outcome:
        before, now = job.before.of(target), self._clock()
        if before.removed_at:
            return await self._look_after(api, job, target)
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
            return await self._explain(e, job, target)
        return Fresh(written, job.token, note)

    async def _look_after(self, api: Api, job: _Job, target: Target) -> Outcome:
        """See what has become of a secret whose namespace has lost the labels, and delete it where it may be."""
        try:
            return await remove_secret(api, job.cluster, target, job.before, self._clock())
        except PullkeeperError as e:
            return await self._explain(e, job, target)

    async def _explain(self, failure: PullkeeperError, job: _Job, target: Target) -> PullkeeperError:
        return failure.with_context(
            cluster=str(job.cluster.cluster),
            namespace=target.namespace,
            secret=target.secret,
            object=f"secret/{target.secret}",
            principal=await self._access.principal(),
        )

    def _was_located_lately(self, status: Status) -> bool:
        return status.located_at is not None and self._clock() < status.located_at + status.life * _LOCATE_EVERY


async def _look_at(api: Api, target: Target) -> Observed | Unobserved:
    """Raises every failure that is not of this namespace alone."""
    try:
        return Observed.of(await api.look(pull_secret.path(target), "Secret"))
    except ClusterRbacDenied as e:
        return Unobserved(e.detail)


async def _reference(api: Api, target: Target) -> str | None:
    """Have every service account name the secret. One that does not exist yet is a note, not a failure."""
    missing = []
    for account in target.account_names:
        try:
            await pull_secret.add_reference(api, target, account)
        except NotFound:
            missing.append(account)
    return f"no such service account yet: {', '.join(missing)}" if missing else None


def newest_endpoint(member: Member, before: Status) -> Endpoint:
    """Return the address that was read last: at onboarding, or when the cluster had moved."""
    return max(filter(None, (member.endpoint, before.endpoint)), key=lambda endpoint: endpoint.read_at)


def _may_have_moved(outcomes: Iterable[Outcome | Listing], endpoint: Endpoint) -> bool:
    stale: tuple[type[PullkeeperError], ...] = (ClusterMoved, ClusterTlsUntrusted)
    if endpoint.local_accounts:
        stale = (*stale, ClusterUnauthorized)  # rotated certificates: the client's is replaced with the cluster's
    return any(isinstance(outcome, stale) for outcome in outcomes)
