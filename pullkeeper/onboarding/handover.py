"""The handover: what a publisher must trust, with the gcloud commands that set it up."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pullkeeper.cluster.manifests import TOKEN_FILE
from pullkeeper.errors import InvalidRequest
from pullkeeper.onboarding.documents import Handover
from pullkeeper.onboarding.work import Tools
from pullkeeper.publisher.hub import Hub
from pullkeeper.publisher.registry import repository_of

_PLACEHOLDERS: Final = {
    "project": "PROJECT_NUMBER",
    "pool": "POOL",
    "provider": "PROVIDER",
    "service_account": "SERVICE_ACCOUNT_EMAIL",
}
_APIS: Final = "iam.googleapis.com sts.googleapis.com iamcredentials.googleapis.com artifactregistry.googleapis.com"


async def build_fleet_handover(tools: Tools, hub: str | None) -> Handover:
    """Return what the publisher must trust for the whole fleet: the app's identity, and those of the hub's clusters
    that refresh themselves. hub: a name from HUBS; None takes the first. Raises InvalidRequest for an unknown hub,
    EntraError, StorageUnavailable.
    """
    if hub is not None and hub not in tools.hubs:
        raise InvalidRequest("hub: the setting HUBS has no hub of that name")
    found = tools.hubs[hub] if hub else next(iter(tools.hubs.values()), None)
    claims = await tools.app_claims((found and found.entra_resource) or tools.cloud.exchange)
    members = await tools.fleet.trusted_members()
    audience = found and found.credential_config.audience
    identities = {
        member.identity
        for member in members
        if member.identity and audience in {None, _audience_of(tools, member.cluster.hub)}
    }
    return build_handover(claims, found, identities=sorted(identities))


def build_handover(
    claims: Mapping[str, str],
    hub: Hub | None,
    further: Sequence[str] = (),
    *,
    identities: Sequence[str] = (),
    one_of_many: bool = False,
) -> Handover:
    """claims: of a token of the identity that Google shall trust. further: subjects beside the one in the claims.
    identities: object ids of clusters to trust beside it. one_of_many: it is itself that of a cluster. Without a hub
    the commands have placeholders; a hub without a service account lets the subjects themselves read.
    """
    config = hub.credential_config if hub else None
    ids = config.ids if config else _PLACEHOLDERS
    project, pool, provider = ids["project"], ids["pool"], ids["provider"]
    account = ids.get("service_account")
    subject = claims.get("sub", claims["oid"])
    subjects = [subject, *further, *identities]
    at = f"--project={project} --location=global"
    pool_name = f"projects/{project}/locations/global/workloadIdentityPools/{pool}"
    principals = [f"principal://iam.googleapis.com/{pool_name}/subject/{one}" for one in subjects]
    condition = f"tid=='{claims['tid']}'" if identities or one_of_many else _accept_only(subjects)
    create_provider = (
        f"gcloud iam workload-identity-pools providers create-oidc {provider} {at} --workload-identity-pool={pool} "
        f"--issuer-uri={claims['iss']} --allowed-audiences={claims['aud']} "
        f'--attribute-mapping=google.subject=assertion.sub --attribute-condition="assertion.{condition}"'
    )
    image_project, repository, location = (
        repository_of(hub.probe_image) if hub else ("PROJECT_ID", "REPOSITORY", "LOCATION")
    )
    allow_reading = [
        f"gcloud artifacts repositories add-iam-policy-binding {repository} --project={image_project} "
        f"--location={location} --role=roles/artifactregistry.reader --member={reader}"
        for reader in ([f"serviceAccount:{account}"] if account else principals)
    ]
    impersonation = f"--service-account={account} " if account else ""
    create_config = (
        f"gcloud iam workload-identity-pools create-cred-config {pool_name}/providers/{provider} {impersonation}"
        f"--output-file=credential-config.json --credential-source-file={TOKEN_FILE}"
    )
    # Which of them are one project cannot be seen: the pool has its number, the others have ids.
    projects = dict.fromkeys((project, *([_project_of(account)] if account else []), image_project))
    enable_apis = [f"gcloud services enable {_APIS} --project={one}" for one in projects]
    return Handover(
        tenant_id=claims["tid"],
        client_id=claims.get("appid") or claims["azp"],  # the same claim in tokens of version 1 and 2
        object_id=claims["oid"],
        issuer=claims["iss"],
        subject=subject,
        audience=claims["aud"],
        identities=tuple(identities),
        commands=(
            *enable_apis,
            f"gcloud iam workload-identity-pools create {pool} {at}",
            create_provider,
            *(_create_account(account, principals) if account else ()),
            *allow_reading,
            create_config,
        ),
    )


def _audience_of(tools: Tools, hub: str | Hub) -> str | None:
    """The audience of a hub's tokens: its provider at Google. None for a hub that is no longer in HUBS."""
    found = tools.hubs.get(hub) if isinstance(hub, str) else hub
    return found.credential_config.audience if found else None


def _accept_only(subjects: Sequence[str]) -> str:
    """Not for the identities of many clusters: Google allows a condition 4,096 characters, which is about 100 ids."""
    return f"sub=='{subjects[0]}'" if len(subjects) == 1 else f"sub in {subjects}"


def _create_account(account: str, principals: Sequence[str]) -> Iterator[str]:
    """Yield the commands that create the service account and let the principals impersonate it."""
    yield f"gcloud iam service-accounts create {account.partition('@')[0]} --project={_project_of(account)}"
    for one in principals:
        yield (
            f"gcloud iam service-accounts add-iam-policy-binding {account} --role=roles/iam.workloadIdentityUser "
            f"--member={one}"
        )


def _project_of(account: str) -> str:
    return account.partition("@")[2].partition(".")[0] or "PROJECT_ID"
