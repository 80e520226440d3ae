"""Phase: the cluster joins the fleet, and from now on the timer keeps it fresh."""

from pullkeeper.errors import FederatedCredentialConflict, PullkeeperError
from pullkeeper.fleet.table import Member
from pullkeeper.model import Endpoint, RefreshMessage
from pullkeeper.onboarding.phases import federated_credential
from pullkeeper.onboarding.work import Work

NAME = "register"


async def plan(work: Work) -> str:
    if work.request.wanted_hub() is None:
        return "would wait for the publisher's credential configuration, and join the fleet with it"
    return "would join the fleet"


async def do(work: Work) -> str:
    if not await federated_credential.stands(work):
        # One identity may serve many clusters, and the offboarding of another one looked before we wrote.
        at = {"group": work.cluster.resource_group, "name": work.request.identity}
        raise FederatedCredentialConflict("the identity, or the cluster's trust in it, was removed meanwhile", at)
    endpoint = work.endpoint or Endpoint(server="https://unreachable.invalid", ca="", read_at=work.tools.clock())
    await work.tools.fleet.register(Member(work.member(), endpoint))
    try:
        await work.tools.refresher.refresh(RefreshMessage(cluster=work.cluster, reason="onboarding"))
    except PullkeeperError as e:
        # It had its secret a moment ago; the timer makes up for it.
        return f"in the fleet; the first refresh from there failed ({e.category})"
    return "in the fleet"


async def undo(work: Work) -> str:
    """First of all that is undone: what is not in the fleet is not made anew."""
    if not work.dry:
        await work.tools.fleet.remove(work.cluster)
        await work.tools.fleet.forget(work.cluster)
    return "no longer in the fleet"
