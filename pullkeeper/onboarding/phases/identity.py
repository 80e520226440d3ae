"""Phase: the managed identity of the cluster's pods: the guide's second step."""

from pullkeeper.azure.identities import LENT, ManagedIdentity
from pullkeeper.errors import Forbidden
from pullkeeper.onboarding.work import Work

NAME = "identity"


async def plan(work: Work) -> str:
    work.identity = await _usable(work)
    return _told(work.identity) if work.identity else f"would make the identity {work.request.identity}"


async def do(work: Work) -> str:
    work.identity = await _usable(work)
    if work.identity:
        return _told(work.identity)
    if work.facts is None:
        raise RuntimeError("the cluster is inspected first")
    cluster = work.cluster
    work.identity = await work.tools.identities.make(
        cluster.subscription, cluster.resource_group, work.request.identity, work.facts.location
    )
    return f"made: {_told(work.identity)}"


async def undo(work: Work) -> str:
    """Only identities that Pullkeeper made, and only when nothing else is trusted to be them."""
    names = dict.fromkeys(request.identity for request in work.asked)
    return "; ".join([await _removed(work, name) for name in names]) or "none was asked for"


async def _removed(work: Work, name: str) -> str:
    identity = await _found(work, name)
    if identity is None:
        return f"there is no identity {name} any more"
    if not identity.ours:
        work.left.append(f"identity {identity.name}: Pullkeeper did not make it")
        return work.left[-1]
    others = await work.still_trusting(identity)
    if others:
        work.left.append(f"identity {identity.name}: still used by {', '.join(others)}")
        return work.left[-1]
    await work.delete(identity)
    return f"deleted {identity.name}"


async def _usable(work: Work) -> ManagedIdentity | None:
    """Raises Forbidden for somebody's identity that is not lent."""
    identity = await _found(work, work.request.identity)
    if identity and not work.may_use(identity):
        tag = "=".join(*LENT.items())
        raise Forbidden(
            f"the identity {identity.name} is somebody's, and may have rights in Azure. To have service accounts count "
            f"as it, its owner says: az tag update --resource-id {identity} --operation merge --tags {tag}"
        )
    return identity


async def _found(work: Work, name: str) -> ManagedIdentity | None:
    return await work.tools.identities.find(work.cluster.subscription, work.cluster.resource_group, name)


def _told(identity: ManagedIdentity) -> str:
    return f"{identity.name}, client id {identity.client_id}, object id {identity.principal_id}"
