"""Phase: what the publisher has to trust: the guide's fourth step; its fifth is the publisher's answer."""

from collections.abc import Mapping, Sequence

from pullkeeper.model import Hub
from pullkeeper.onboarding.documents import Handover
from pullkeeper.onboarding.work import AwaitingFederation, Work
from pullkeeper.registry import repository_of

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


def handover(claims: Mapping[str, str], hub: Hub | None, further: Sequence[str] = ()) -> Handover:
    """claims: of a token of the identity that Google shall trust: what Google will see. further: subjects beside the
    claims' own.
    """
    ids = hub.credential_config.ids if hub else {}
    project, pool = ids.get("project", "PROJECT_NUMBER"), ids.get("pool", "POOL")
    provider, account = ids.get("provider", "PROVIDER"), ids.get("service_account", "SERVICE_ACCOUNT_EMAIL")
    subject = claims.get("sub", claims["oid"])
    at = f"--project={project} --location=global"
    pool_name = f"projects/{project}/locations/global/workloadIdentityPools/{pool}"
    subjects = [subject, *further]
    listed = f"=='{subject}'" if len(subjects) == 1 else f" in {subjects}"
    create_pool = f"gcloud iam workload-identity-pools create {pool} {at}"
    create_provider = (
        f"gcloud iam workload-identity-pools providers create-oidc {provider} {at} --workload-identity-pool={pool} "
        f"--issuer-uri={claims['iss']} --allowed-audiences={claims['aud']} "
        f'--attribute-mapping=google.subject=assertion.sub --attribute-condition="assertion.sub{listed}"'
    )
    bind = [
        f"gcloud iam service-accounts add-iam-policy-binding {account} --role=roles/iam.workloadIdentityUser "
        f"--member=principal://iam.googleapis.com/{pool_name}/subject/{one}"
        for one in subjects
    ]
    name, _, domain = account.partition("@")
    project_id, repository, location = (
        repository_of(hub.probe_image) if hub else ("PROJECT_ID", "REPOSITORY", "LOCATION")
    )
    create_account = f"gcloud iam service-accounts create {name} --project={domain.partition('.')[0] or 'PROJECT_ID'}"
    let_read = (
        f"gcloud artifacts repositories add-iam-policy-binding {repository} --project={project_id} "
        f"--location={location} --role=roles/artifactregistry.reader --member=serviceAccount:{account}"
    )
    hand_out = (
        f"gcloud iam workload-identity-pools create-cred-config {pool_name}/providers/{provider} "
        f"--service-account={account} --output-file=credential-config.json "
        "--credential-source-file=/var/run/secrets/azure/tokens/azure-identity-token"
    )
    return Handover(
        tenant_id=claims["tid"],
        client_id=claims.get("appid") or claims["azp"],  # versions 1 and 2 of the same
        object_id=claims["oid"],
        issuer=claims["iss"],
        subject=subject,
        audience=claims["aud"],
        commands=(create_pool, create_provider, create_account, *bind, let_read, hand_out),
    )
