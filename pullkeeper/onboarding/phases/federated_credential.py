"""Phase: federate the cluster's service accounts with its identity (third step of the guide).

The existing credentials are listed first: Azure refuses the same issuer and subject under a second name.
"""

import hashlib
from collections.abc import Iterable

from pullkeeper.azure.identities import MOST_CREDENTIALS, FederatedCredential, ManagedIdentity
from pullkeeper.errors import IdentityLimit
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.onboarding.work import Work

NAME = "federated credential"
_NOT_WANTED = "no service account asks for it"

Pair = tuple[str, str]
"""Issuer and subject."""


async def plan(work: Work) -> str:
    if not work.request.federated_accounts:
        return _NOT_WANTED
    subjects, name = _subjects(work.request.federated_accounts), work.wanted_identity
    if work.issuer is None:
        return f"would trust {', '.join(subjects)} of the issuer that is still off"
    if work.identity is None:
        return f"would trust {', '.join(subjects)} as {name}"
    kept, _ = _split_outdated(work, await work.tools.identities.list_credentials(work.identity))
    missing = [subject for _, subject in _missing_pairs(work, work.identity, kept)]
    name = work.identity.name
    return f"would trust {', '.join(missing)} as {name}" if missing else f"already trusted as {name}"


async def do(work: Work) -> str:
    identity = work.identity
    if not work.request.federated_accounts:
        return _NOT_WANTED
    if identity is None:
        raise RuntimeError("the identity is found or created first")
    kept, outdated = _split_outdated(work, await work.tools.identities.list_credentials(identity))
    missing = _missing_pairs(work, identity, kept)
    results = []
    for credential in outdated:
        work.stop_if_late()
        await work.tools.identities.remove_credential(identity, credential.name)
        work.note_change()
        results.append(f"{credential.name} is no longer trusted")
    for issuer, subject in _wanted_pairs(work):
        if (issuer, subject) not in missing:
            results.append(f"{subject} is trusted as {identity.name}")
            continue
        work.stop_if_late()
        credential = FederatedCredential(_credential_name(work.request, issuer, subject), issuer, subject)
        await work.tools.identities.add_credential(identity, credential, work.audience)
        work.note_change()
        results.append(f"{subject} is now trusted as {identity.name} ({credential.name})")
    return "; ".join(results)


async def undo(work: Work) -> str:
    """Remove the credentials with a name of ours, and on identities of ours all of the cluster's."""
    removed = []
    for name in work.identity_names:
        identity = await work.find_identity(name)
        if identity:
            removed += await _remove_credentials(work, identity)
    return f"removed {', '.join(removed)}" if removed else "none of ours is left"


async def is_in_place(work: Work) -> bool:
    """Whether the cluster's service accounts are still trusted."""
    if work.identity is None:
        return not work.request.federated_accounts
    if work.identity.ours and work.identity.name.lower() == work.own_identity:
        return True  # no other cluster's offboarding removes it
    return set(_wanted_pairs(work)) <= _pairs(await work.tools.identities.list_credentials(work.identity))


async def is_trusted_by(work: Work, identity: ManagedIdentity) -> bool:
    """Whether an identity trusts a service account of the cluster, and has room for the others."""
    held = _pairs(await work.tools.identities.list_credentials(identity))
    wanted = set(_wanted_pairs(work))
    return bool(wanted & held) and len(wanted | held) <= MOST_CREDENTIALS


async def _remove_credentials(work: Work, identity: ManagedIdentity) -> list[str]:
    identities, subjects, removed = work.tools.identities, _subjects(_list_accounts(work)), []
    for credential in await identities.list_credentials(identity):
        if credential.subject not in subjects:
            continue
        names = {_credential_name(request, credential.issuer, credential.subject) for request in work.requests}
        if credential.name in names or (identity.ours and credential.issuer == work.issuer):
            work.used_identities.add(identity.name.lower())
            work.stop_if_late()
            with work.report_protected(f"federated credential {identity.name}/{credential.name}"):
                if not work.dry_run:
                    await identities.remove_credential(identity, credential.name)
                    work.note_change()
                work.removed_credentials.add(credential)
                removed.append(f"{identity.name}/{credential.name}")
        elif credential.issuer == work.issuer:
            work.used_identities.add(identity.name.lower())
            work.left.append(f"federated credential {credential.name}: on an identity that Pullkeeper did not create")
        elif work.issuer is None:
            work.left.append(
                f"federated credential {credential.name}: the cluster's issuer is unknown, so it may be another's"
            )
    return removed


def _split_outdated(
    work: Work, credentials: Iterable[FederatedCredential]
) -> tuple[list[FederatedCredential], list[FederatedCredential]]:
    """Split off our credentials for an earlier issuer: the cluster was deleted and created again under its name."""
    kept: list[FederatedCredential] = []
    outdated: list[FederatedCredential] = []
    for credential in credentials:
        own = credential.name == _credential_name(work.request, credential.issuer, credential.subject)
        (outdated if own and credential.issuer != work.issuer else kept).append(credential)
    return kept, outdated


def _missing_pairs(work: Work, identity: ManagedIdentity, credentials: list[FederatedCredential]) -> list[Pair]:
    """Raises IdentityLimit if there is no room for them."""
    held = _pairs(credentials)
    missing = [pair for pair in _wanted_pairs(work) if pair not in held]
    if missing and len(credentials) + len(missing) > MOST_CREDENTIALS:
        raise IdentityLimit(
            f"{identity.name} has {len(credentials)} federated credentials, and no room for {len(missing)} more",
            {**identity.context, "own_identity": work.own_identity},
        )
    return missing


def _wanted_pairs(work: Work) -> list[Pair]:
    return [(work.issuer, subject) for subject in _subjects(work.request.federated_accounts)] if work.issuer else []


def _list_accounts(work: Work) -> list[tuple[str, str]]:
    """Return all service accounts of all requests: an earlier version, or the guide, may have federated any of them."""
    accounts = ((target.namespace, name) for target in work.targets for name in target.account_names)
    return list(dict.fromkeys(accounts))


def _subjects(accounts: Iterable[tuple[str, str]]) -> list[str]:
    return [f"system:serviceaccount:{namespace}:{name}" for namespace, name in accounts]


def _pairs(credentials: Iterable[FederatedCredential]) -> set[Pair]:
    return {(credential.issuer, credential.subject) for credential in credentials}


def _credential_name(request: Onboarding, issuer: str, subject: str) -> str:
    """The requested name, the cluster's, and a digest of cluster and pair. Clusters that share an identity write at the
    same time and from several instances: under one name, the later would replace the earlier's credential.
    """
    digest = hashlib.sha256(f"{request.cluster}|{issuer}|{subject}".encode()).hexdigest()[:10]
    return f"{request.federated_credential[:44]}-{request.cluster.name}-{digest}"
