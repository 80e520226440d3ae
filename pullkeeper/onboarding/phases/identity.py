"""Phase: create the managed identity of the cluster's pods (second step of the guide)."""

from pullkeeper.azure.identities import SHARED, ManagedIdentity
from pullkeeper.errors import Forbidden
from pullkeeper.onboarding.work import Work

NAME = "identity"


async def plan(work: Work) -> str:
    work.identity = await _find_usable(work)
    return _describe(work.identity) if work.identity else f"would create the identity {work.request.identity}"


async def do(work: Work) -> str:
    work.identity = await _find_usable(work)
    if work.identity:
        work.identity = await work.add_tags(work.identity)
        return _describe(work.identity)
    work.identity = await work.create_identity(work.request.identity)
    return f"created: {_describe(work.identity)}"


async def undo(work: Work) -> str:
    """Delete the identities that Pullkeeper created and that have no federated credential left."""
    names = dict.fromkeys(request.identity for request in work.requests)
    return "; ".join([await _remove(work, name) for name in names]) or "none requested"


async def _remove(work: Work, name: str) -> str:
    identity = await _find(work, name)
    if identity is None:
        return f"the identity {name} does not exist"
    if not identity.ours:
        work.left.append(f"identity {identity.name}: not created by Pullkeeper")
        return work.left[-1]
    others = await work.remaining_credentials(identity)
    if others:
        work.left.append(f"identity {identity.name}: still used by {', '.join(others)}")
        return work.left[-1]
    with work.report_protected(f"identity {identity.name}"):
        await work.delete_identity(identity)
        return f"deleted {identity.name}"
    return work.left[-1]


async def _find_usable(work: Work) -> ManagedIdentity | None:
    """Raises Forbidden for an identity that its owner has not shared."""
    identity = await _find(work, work.request.identity)
    if identity and not work.may_use(identity):
        tag = "=".join(*SHARED.items())
        raise Forbidden(
            f"Pullkeeper did not create the identity {identity.name}, which may have rights in Azure. Its owner allows "
            f"its use with: az tag update --resource-id {identity} --operation merge --tags {tag}"
        )
    return identity


async def _find(work: Work, name: str) -> ManagedIdentity | None:
    return await work.tools.identities.find(work.cluster.subscription, work.cluster.resource_group, name)


def _describe(identity: ManagedIdentity) -> str:
    return f"{identity.name}, client id {identity.client_id}, object id {identity.principal_id}"
