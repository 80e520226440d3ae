"""Phase: federate the cluster's service accounts with the identity (third step of the guide).

The existing credentials are listed first: Azure refuses the same issuer and subject under a second name, and an
identity that is full needs a further one beside it. All service accounts of a cluster use one identity.
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
    chosen, new_name = await _choose_identity(work)
    if chosen is None:
        return f"would create the identity {new_name}, and trust {', '.join(_subjects(work.request.targets))} as it"
    work.identity = chosen
    existing = _pairs(await work.tools.identities.list_credentials(chosen))
    missing = [subject for issuer, subject in _wanted_pairs(work) if (issuer, subject) not in existing]
    return f"would trust {', '.join(missing)} as {chosen.name}" if missing else f"already trusted as {chosen.name}"


async def do(work: Work) -> str:
    identity, new_name = await _choose_identity(work)
    if identity is None:
        identity = await work.create_identity(new_name)
    work.identity = identity
    results = []
    for issuer, subject in _wanted_pairs(work):
        work.stop_if_late()
        existing = _pairs(await work.tools.identities.list_credentials(identity))
        if (issuer, subject) in existing:
            results.append(f"{subject} is trusted as {identity.name}")
            continue
        credential = FederatedCredential(_credential_name(work.request, issuer, subject), issuer, subject)
        await work.tools.identities.add_credential(identity, credential, work.audience)
        work.note_change()
        results.append(f"{subject} is now trusted as {identity.name} ({credential.name})")
    results += [f"{name} is no longer trusted" for name in await _remove_outdated(work, identity)]
    return "; ".join(results) or "no service account to trust"


async def undo(work: Work) -> str:
    """Remove the credentials with a name of ours, and on identities of ours all of the cluster's."""
    removed = []
    for name in dict.fromkeys(request.identity for request in work.requests):
        async for number, identity in _find_identities(work, name):
            removed += await _remove_credentials(work, identity)
            if number and identity.ours and not await work.remaining_credentials(identity):
                with work.report_protected(f"identity {identity.name}"):
                    await work.delete_identity(identity)
    return f"removed {', '.join(removed)}" if removed else "none of ours is left"


async def is_in_place(work: Work) -> bool:
    """Whether the cluster's service accounts are still trusted."""
    if work.identity is None:
        return False
    return set(_wanted_pairs(work)) <= _pairs(await work.tools.identities.list_credentials(work.identity))


async def _remove_credentials(work: Work, identity: ManagedIdentity) -> list[str]:
    identities, subjects, removed = work.tools.identities, _subjects(work.targets), []
    for credential in await identities.list_credentials(identity):
        if credential.subject not in subjects:
            continue
        names = {_credential_name(request, credential.issuer, credential.subject) for request in work.requests}
        if credential.name in names or (identity.ours and credential.issuer == work.issuer):
            work.stop_if_late()
            with work.report_protected(f"federated credential {identity.name}/{credential.name}"):
                if not work.dry_run:
                    await identities.remove_credential(identity, credential.name)
                    work.note_change()
                work.removed_credentials.add(credential)
                removed.append(f"{identity.name}/{credential.name}")
        elif credential.issuer == work.issuer:
            work.left.append(f"federated credential {credential.name}: on an identity that Pullkeeper did not create")
        elif work.issuer is None:
            work.left.append(
                f"federated credential {credential.name}: the cluster's issuer is unknown, so it may be another's"
            )
    return removed


async def _remove_outdated(work: Work, identity: ManagedIdentity) -> list[str]:
    """Remove credentials for an earlier issuer: the cluster was deleted and created again under the same name."""
    removed = []
    for credential in await work.tools.identities.list_credentials(identity):
        own = credential.name == _credential_name(work.request, credential.issuer, credential.subject)
        if own and credential.issuer != work.issuer:
            work.stop_if_late()
            await work.tools.identities.remove_credential(identity, credential.name)
            work.note_change()
            removed.append(credential.name)
    return removed


async def _choose_identity(work: Work) -> tuple[ManagedIdentity | None, str]:
    """Return the identity that trusts most of the cluster's service accounts already, if it has room for the rest; None
    if there is none, with the name for a new one. Raises IdentityLimit.
    """
    wanted = set(_wanted_pairs(work))
    best: tuple[int, ManagedIdentity] | None = None
    taken = set()
    async for number, identity in _find_identities(work, work.request.identity):
        taken.add(number)
        if not work.may_use(identity):
            continue
        credentials = await work.tools.identities.list_credentials(identity)
        known = len(wanted & _pairs(credentials))
        has_room = len(credentials) + len(wanted) - known <= MOST_CREDENTIALS
        if has_room and (best is None or known > best[0]):
            best = known, identity
    free = next((number for number in range(_MOST_IDENTITIES) if number not in taken), None)
    if best is None and free is None:
        raise IdentityLimit(
            f"no room for {len(wanted)} federated credentials in {len(taken)} identities",
            {"group": work.cluster.resource_group, "name": work.request.identity},
        )
    return (best[1] if best else None), _name_with_number(work.request.identity, free or 0)


async def _find_identities(work: Work, name: str) -> AsyncIterator[tuple[int, ManagedIdentity]]:
    """Yield the identity of that name, and further ones beside it. There may be gaps in the numbers."""
    cluster, find = work.cluster, work.tools.identities.find
    for number in range(_MOST_IDENTITIES):
        identity = await find(cluster.subscription, cluster.resource_group, _name_with_number(name, number))
        if identity:
            yield number, identity


def _wanted_pairs(work: Work) -> list[Pair]:
    return [(work.issuer, subject) for subject in _subjects(work.request.targets)] if work.issuer else []


def _subjects(targets: Iterable[Target]) -> list[str]:
    accounts = ((target.namespace, account) for target in targets for account in target.service_accounts)
    return [f"system:serviceaccount:{namespace}:{account}" for namespace, account in dict.fromkeys(accounts)]


def _pairs(credentials: list[FederatedCredential]) -> set[Pair]:
    return {(credential.issuer, credential.subject) for credential in credentials}


def _credential_name(request: Onboarding, issuer: str, subject: str) -> str:
    """The requested name, the cluster's, and a digest of cluster and pair. Clusters that share an identity write at the
    same time and from several instances: under one name, the later would replace the earlier's credential.
    """
    digest = hashlib.sha256(f"{request.cluster}|{issuer}|{subject}".encode()).hexdigest()[:10]
    return f"{request.federated_credential[:44]}-{request.cluster.name}-{digest}"


def _name_with_number(name: str, number: int) -> str:
    return f"{name}-{number + 1}" if number else name
