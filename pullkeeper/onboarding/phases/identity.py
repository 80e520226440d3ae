"""Phase: create the managed identity of the cluster's pods (second step of the guide).

Each cluster has one of its own unless the request names one to share: an identity has 20 federated credentials, and
Azure writes one of them at a time, so a fleet cannot be onboarded on a shared one. Where the guide's identity trusts
the cluster already, it stays, because the publisher trusts it.
"""

from pullkeeper.azure.identities import SHARED, ManagedIdentity
from pullkeeper.errors import Forbidden
from pullkeeper.onboarding.identity_names import GUIDE_IDENTITY
from pullkeeper.onboarding.phases import federated_credential
from pullkeeper.onboarding.work import Work

NAME = "identity"
_NOT_WANTED = "not needed: no service account asks for federation"


async def plan(work: Work) -> str:
    if not work.request.federated_accounts:
        return _NOT_WANTED
    work.identity = await _find_usable(work)
    return _describe(work.identity) if work.identity else f"would create the identity {work.wanted_identity}"


async def do(work: Work) -> str:
    if not work.request.federated_accounts:
        return _NOT_WANTED
    work.identity = await _find_usable(work)
    if work.identity:
        work.identity = await work.add_tags(work.identity)
        return _describe(work.identity)
    work.identity = await work.create_identity()
    return f"created: {_describe(work.identity)}"


async def undo(work: Work) -> str:
    """Delete the identities that Pullkeeper created and that have no federated credential left."""
    requested = {request.identity for request in work.requests}
    results = []
    for name in work.identity_names:
        # The guide's, where no request names it, may serve other clusters alone.
        concerned = name != GUIDE_IDENTITY or name in requested or name.lower() in work.used_identities
        results.append(await _remove(work, name, concerned=concerned))
    return "; ".join(filter(None, results)) or "none requested"


async def _remove(work: Work, name: str, *, concerned: bool) -> str | None:
    """concerned: whether to report an identity that is missing or stays."""
    identity = await work.find_identity(name)
    if identity is None:
        return f"the identity {name} does not exist" if concerned else None
    others = await work.remaining_credentials(identity) if identity.ours else []
    if identity.ours and not others:
        with work.report_protected(f"identity {identity.name}"):
            await work.delete_identity(identity)
            return f"deleted {identity.name}"
        return work.left[-1]
    if not concerned:
        return None
    reason = f"still used by {', '.join(others)}" if others else "not created by Pullkeeper"
    work.left.append(f"identity {identity.name}: {reason}")
    return work.left[-1]


async def _find_usable(work: Work) -> ManagedIdentity | None:
    """Raises Forbidden for an identity that its owner has not shared."""
    identity = await work.find_identity(work.wanted_identity)
    if identity is None and work.request.identity is None:
        guide = await work.find_identity(GUIDE_IDENTITY)
        if guide and await federated_credential.is_trusted_by(work, guide):
            return guide
    if identity and not work.may_use(identity):
        tag = "=".join(*SHARED.items())
        raise Forbidden(
            f"Pullkeeper did not create the identity {identity.name}, which may have rights in Azure. Its owner allows "
            f"its use with: az tag update --resource-id {identity} --operation merge --tags {tag}"
        )
    return identity


def _describe(identity: ManagedIdentity) -> str:
    return f"{identity.name}, client id {identity.client_id}, object id {identity.principal_id}"
