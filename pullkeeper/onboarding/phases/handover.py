"""Phase: determine what the publisher has to trust (fourth step of the guide), and wait for its answer (fifth step)."""

from pullkeeper.onboarding.handover import build_handover
from pullkeeper.onboarding.work import AwaitingFederation, Work

NAME = "handover"


async def plan(work: Work) -> str:
    if work.request.refresher == "in-cluster" and work.identity is None:
        return "would hand over the cluster's identity, which does not exist yet"
    if work.request.trusts_cluster and work.issuer is None:
        return "would hand over the cluster's issuer, which is still off"
    return await _hand_over(work)


async def do(work: Work) -> str:
    detail = await _hand_over(work)
    if work.request.wanted_hub() is None:
        raise AwaitingFederation(detail)
    return detail


async def undo(work: Work) -> str:
    """Find out which identity refreshes: names of objects in the cluster contain its object id."""
    if work.reachable:
        work.app_claims = await work.tools.app_claims(work.tools.cloud.exchange)
    return "the publisher may remove its trust, if no other cluster needs it"


async def _hand_over(work: Work) -> str:
    hub = work.hub()
    resource = (hub and hub.entra_resource) or work.tools.cloud.exchange
    app = work.app_claims = await work.tools.app_claims(resource)
    if work.request.refresher == "central" or work.identity is None:
        work.handover = build_handover(app, hub)
    else:
        own = {"oid": work.identity.principal_id, "appid": work.identity.client_id, "tid": work.identity.tenant_id}
        further = work.request.job_subjects[1:] if work.request.chain == "kubernetes" else ()
        work.handover = build_handover(
            {**app, **own, **_issuer_claims(work, resource)},
            hub,
            further,
            one_of_many=work.trusts_identity,
        )
    return f"the publisher must trust {work.handover.subject} of {work.handover.issuer}"


def _issuer_claims(work: Work, resource: str) -> dict[str, str]:
    """With chain `kubernetes`, Google gets the cluster's own tokens, and Entra takes no part."""
    if work.request.chain == "entra" or work.facts is None or work.facts.issuer is None:
        return {}
    return {"iss": work.facts.issuer, "sub": work.request.job_subjects[0], "aud": resource}
