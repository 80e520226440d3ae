"""Phase: add the cluster to the fleet, so that the timer keeps its secrets fresh."""

from pullkeeper.errors import FederatedCredentialConflict
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import Member
from pullkeeper.onboarding.phases import federated_credential
from pullkeeper.onboarding.work import Work

NAME = "register"


async def plan(work: Work) -> str:
    if work.request.wanted_hub() is None:
        return "would wait for the publisher's credential configuration, and join the fleet with it"
    return "would join the fleet"


async def do(work: Work) -> str:
    if not await federated_credential.is_in_place(work):
        # Another cluster's offboarding may have deleted a shared identity that it saw unused.
        raise FederatedCredentialConflict(
            "the identity or its federated credential was removed meanwhile", {"name": work.wanted_identity}
        )
    if work.endpoint is None:
        raise RuntimeError("the cluster is located first")
    identity = work.identity.principal_id if work.identity and work.trusts_identity else None
    member = Member(work.member(), work.endpoint, identity)
    if work.first:
        await work.tools.fleet.put(member)
        await work.tools.refresher.record_first(member, work.first)
        return "in the fleet"
    await work.tools.fleet.register(member)
    # The cluster writes its secrets itself: this looks for them. The timer repeats what fails here.
    message = RefreshMessage(shard=shard_of(work.cluster), cluster=work.cluster, reason="manual")
    await work.tools.refresher.refresh(message)
    return "in the fleet"


async def undo(work: Work) -> str:
    """Runs first: a cluster outside the fleet is not refreshed."""
    if not work.dry_run:
        await work.tools.fleet.remove(work.cluster)
    return "no longer in the fleet"
