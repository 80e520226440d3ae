"""Phase: the cluster's service accounts count as the identity: the guide's third step.

What is trusted is listed first: the same pair may be there under another name, which Azure refuses to add twice, and an
identity that is full needs a further one beside it. All service accounts of a cluster are one identity.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable

from pullkeeper.azure.identities import MOST_CREDENTIALS, FederatedCredential, ManagedIdentity
from pullkeeper.errors import IdentityLimit
from pullkeeper.model import Target
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.onboarding.work import Work

NAME = "federated credential"
_MOST_IDENTITIES = 10

Pair = tuple[str, str]
"""Issuer and subject."""


async def plan(work: Work) -> str:
    if work.issuer is None:
        return f"would trust {', '.join(_subjects(work.request.targets))} of the issuer that is still off"
    chosen, further = await _chosen(work)
    if chosen is None:
        return f"would make the identity {further}, and trust {', '.join(_subjects(work.request.targets))} as it"
    work.identity = chosen
    held = await work.tools.identities.credentials(chosen)
    missing = [subject for issuer, subject in _wanted(work) if (issuer, subject) not in _pairs(held)]
    return f"would trust {', '.join(missing)} as {chosen.name}" if missing else f"already trusted as {chosen.name}"


async def do(work: Work) -> str:
    identity, further = await _chosen(work)
    if identity is None:
        identity = await _made(work, further)
    work.identity = identity
    told = []
    for issuer, subject in _wanted(work):
        held = await work.tools.identities.credentials(identity)
        if (issuer, subject) in _pairs(held):
            told.append(f"{subject} is trusted as {identity.name}")
            continue
        credential = FederatedCredential(_name(work.request, issuer, subject), issuer, subject)
        await work.tools.identities.trust(identity, credential, work.request.audience)
        told.append(f"{subject} is now trusted as {identity.name} ({credential.name})")
    told += [f"{name} is no longer trusted" for name in await _outdated(work, identity)]
    return "; ".join(told) or "no service account to trust"


async def undo(work: Work) -> str:
    """Those with a name of ours, and on an identity of ours all of the cluster's. From every identity that it may have
    been given.
    """
    gone = []
    for name in dict.fromkeys(request.identity for request in work.asked):
        async for number, identity in _existing(work, name):
            gone += await _distrusted(work, identity)
            if number and identity.ours and not await work.still_trusting(identity):
                await work.delete(identity)
    return f"removed {', '.join(gone)}" if gone else "none of ours is left"


async def stands(work: Work) -> bool:
    """Whether the cluster's service accounts are still trusted."""
    if work.identity is None:
        return False
    return set(_wanted(work)) <= _pairs(await work.tools.identities.credentials(work.identity))


async def _distrusted(work: Work, identity: ManagedIdentity) -> list[str]:
    identities, subjects, gone = work.tools.identities, _subjects(work.targets), []
    for credential in await identities.credentials(identity):
        if credential.subject not in subjects:
            continue
        names = {_name(request, credential.issuer, credential.subject) for request in work.asked}
        if credential.name in names or (identity.ours and credential.issuer == work.issuer):
            work.distrusted.add(credential)
            if not work.dry:
                await identities.distrust(identity, credential.name)
            gone.append(f"{identity.name}/{credential.name}")
        elif credential.issuer == work.issuer:
            work.left.append(f"federated credential {credential.name}: on an identity that Pullkeeper did not make")
        elif work.issuer is None:
            work.left.append(f"federated credential {credential.name}: nobody knows whether it was this cluster's")
    return gone


async def _outdated(work: Work, identity: ManagedIdentity) -> list[str]:
    """Of this cluster, but of an issuer that it no longer has: it was deleted and made anew under its old name."""
    gone = []
    for credential in await work.tools.identities.credentials(identity):
        own = credential.name == _name(work.request, credential.issuer, credential.subject)
        if own and credential.issuer != work.issuer:
            await work.tools.identities.distrust(identity, credential.name)
            gone.append(credential.name)
    return gone


async def _chosen(work: Work) -> tuple[ManagedIdentity | None, str]:
    """The identity that trusts the most of the cluster's service accounts already, if it has room for the rest. None
    where there is none yet, and what a further one would be called. Raises IdentityLimit.
    """
    wanted = set(_wanted(work))
    best: tuple[int, ManagedIdentity] | None = None
    taken = set()
    async for number, identity in _existing(work, work.request.identity):
        taken.add(number)
        if not work.may_use(identity):
            continue
        held = await work.tools.identities.credentials(identity)
        known = len(wanted & _pairs(held))
        has_room = len(held) + len(wanted) - known <= MOST_CREDENTIALS
        if has_room and (best is None or known > best[0]):
            best = known, identity
    free = next((number for number in range(_MOST_IDENTITIES) if number not in taken), None)
    if best is None and free is None:
        raise IdentityLimit(
            f"no room for {len(wanted)} federated credentials in {len(taken)} identities",
            {"group": work.cluster.resource_group, "name": work.request.identity},
        )
    return (best[1] if best else None), _numbered(work.request.identity, free or 0)


async def _made(work: Work, name: str) -> ManagedIdentity:
    if work.facts is None:
        raise RuntimeError("the cluster is inspected first")
    cluster = work.cluster
    return await work.tools.identities.make(cluster.subscription, cluster.resource_group, name, work.facts.location)


async def _existing(work: Work, name: str) -> AsyncIterator[tuple[int, ManagedIdentity]]:
    """The identity of that name, and further ones beside it. There may be gaps."""
    cluster, find = work.cluster, work.tools.identities.find
    for number in range(_MOST_IDENTITIES):
        identity = await find(cluster.subscription, cluster.resource_group, _numbered(name, number))
        if identity:
            yield number, identity


def _wanted(work: Work) -> list[Pair]:
    """Of every service account among the targets."""
    return [(work.issuer, subject) for subject in _subjects(work.request.targets)] if work.issuer else []


def _subjects(targets: Iterable[Target]) -> list[str]:
    named = ((target.namespace, account) for target in targets for account in target.service_accounts)
    return [f"system:serviceaccount:{namespace}:{account}" for namespace, account in dict.fromkeys(named)]


def _pairs(held: list[FederatedCredential]) -> set[Pair]:
    return {(credential.issuer, credential.subject) for credential in held}


def _name(request: Onboarding, issuer: str, subject: str) -> str:
    """The name that was asked for, the cluster's, and a digest of cluster and pair. Clusters that share an identity
    write at the same time and from several instances: under one name, the later would replace what the earlier is
    trusted by.
    """
    digest = hashlib.sha256(f"{request.cluster}|{issuer}|{subject}".encode()).hexdigest()[:10]
    return f"{request.federated_credential[:44]}-{request.cluster.name}-{digest}"


def _numbered(name: str, number: int) -> str:
    return f"{name}-{number + 1}" if number else name
