"""Phase: what the publisher has to trust: the guide's fourth step; its fifth is the publisher's answer."""

from pullkeeper.onboarding.handover import handover
from pullkeeper.onboarding.work import AwaitingFederation, Work

NAME = "handover"


async def plan(work: Work) -> str:
    if work.request.refresher == "in-cluster" and work.identity is None:
        return "would hand over the cluster's identity, which is not there yet"
    if work.request.chain == "kubernetes" and work.request.refresher == "in-cluster" and work.issuer is None:
        return "would hand over the cluster's issuer, which is still off"
    return await _handed(work)


async def do(work: Work) -> str:
    told = await _handed(work)
    if work.request.wanted_hub() is None:
        raise AwaitingFederation(told)
    return told


async def undo(work: Work) -> str:  # noqa: ARG001 - as every phase's
    return "the publisher may take its trust back, if no other cluster needs it"


async def _handed(work: Work) -> str:
    hub = work.hub()
    resource = hub.entra_resource if hub else work.request.audience
    app = work.app = await work.tools.app(resource)
    if work.request.refresher == "central" or work.identity is None:
        work.handover = handover(app, hub)
    else:
        own = {"oid": work.identity.principal_id, "appid": work.identity.client_id, "tid": work.identity.tenant_id}
        further = _jobs(work)[1:] if work.request.chain == "kubernetes" else ()
        work.handover = handover({**app, **own, **_of_the_cluster(work, resource)}, hub, further)
    return f"the publisher must trust {work.handover.subject} of {work.handover.issuer}"


def _of_the_cluster(work: Work, resource: str) -> dict[str, str]:
    """Where the cluster's own tokens go to Google as they are (chain `kubernetes`), Entra is never asked."""
    if work.request.chain == "entra" or work.facts is None or work.facts.issuer is None:
        return {}
    return {"iss": work.facts.issuer, "sub": _jobs(work)[0], "aud": resource}


def _jobs(work: Work) -> list[str]:
    """As whom the refreshers in the cluster run: each as the first account of its target."""
    named = ((target.namespace, target.service_accounts[0]) for target in work.request.targets)
    return [f"system:serviceaccount:{namespace}:{account}" for namespace, account in dict.fromkeys(named)]
