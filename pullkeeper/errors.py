"""What can go wrong, as one tree: a class is a failure category.

The tree exists because the answer to a failure depends on where it stands, not on which library raised it: whether
trying again can help, what the operator should type, which page of the runbook (`docs/runbook/<category>.md`)
explains it. Adapters translate foreign errors into these; nothing above an adapter looks at an HTTP status.

    PullkeeperError
    ├── EntraError        entra_unavailable*, entra_denied
    ├── GoogleError       google_unavailable*, federation_*, impersonation_denied, service_account_missing,
    │                     lifetime_not_allowed
    ├── RegistryError     registry_denied, registry_unavailable*
    ├── ClusterError      cluster_*, admission_denied*, quota_exceeded, namespace_*, secret_*, object_conflict
    ├── ArmError          arm_denied, arm_throttled*, workload_identity_off, identity_limit,
    │                     federated_credential_conflict*
    ├── StorageUnavailable*, InvalidRequest, InternalError
                                                                      (* trying again in seconds can help)

A message or a remedy may quote what a foreign service said, and nobody knows what a foreign service may say:
every text passes `redact` before it is kept.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import ClassVar, Self

NONSENSE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the libraries that we call let through when an answer is of another shape than they expect."""

_LONGEST_DETAIL, _LONGEST_REMEDY = 600, 800
_LONGEST_WAIT = timedelta(hours=1)
_SECONDS = re.compile(r"[0-9]{1,9}")
_TOKENS = re.compile(
    r"eyJ[\w+/=.~-]{10,}"  # JWTs, and the base64 of any JSON object, {"auths":...} among them
    r"|ya29\.[\w.~+/-]+"  # Google access tokens
    r"|(?:b2F1dGgy|eWEyOS)[\w+/=-]+"  # base64 of oauth2accesstoken:<token>, and of a Google access token
    r"|(?i:\b(?:bearer|basic)\s+)(?=[\w.~+/=-]{0,40}[A-Z0-9])[\w.~+/=-]{8,}"  # not "basic authentication"
    r"|-----BEGIN [A-Z ]{1,40}-----[\w\s+/=\\]*"
    r"|(?P<long>[\w+=-]{48,})"
)


def redact(text: str, longest: int = _LONGEST_DETAIL) -> str:
    """The text without anything that looks like a token, cut to a length that a table and a log line can bear."""
    text = _TOKENS.sub(_redacted, text)
    return text if len(text) <= longest else f"{text[:longest]}..."


def _redacted(found: re.Match[str]) -> str:
    """Names can be as long as tokens. But those of Kubernetes, and cluster ids as we write them, have no capitals, and
    Azure's longest error codes are all letters.
    """
    long = found["long"]
    return long if long and (long.islower() or long.isalpha()) else "[redacted]"


def wait_asked(headers: Mapping[str, str]) -> timedelta | None:
    """What a `Retry-After` in seconds asks for, an hour at most: a server may write anything there."""
    seconds = headers.get("Retry-After", "")
    return min(timedelta(seconds=int(seconds)), _LONGEST_WAIT) if _SECONDS.fullmatch(seconds) else None


class _Blanks(dict[str, str]):
    """Leaves a placeholder that nobody could fill readable in the command: `<namespace>`."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"


class PullkeeperError(Exception):
    """A failure with its category, and what to do about it.

    detail: one sentence, from us or from the service that refused.
    context: whatever is known of cluster, namespace, secret, principal, audience...: it fills the remedy's command.
    retry_after: what the service asked us to wait, if it did.
    """

    category: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    meaning: ClassVar[str] = ""
    remedy_template: ClassVar[str] = ""

    def __init__(
        self, detail: str, context: Mapping[str, str] | None = None, *, retry_after: timedelta | None = None
    ) -> None:
        self.detail = redact(detail)
        self.context = dict(context or {})
        self.retry_after = retry_after
        super().__init__(self.detail)

    @property
    def remedy(self) -> str:
        """What to type, with the blanks filled as far as they are known."""
        known = _Blanks({**self._parts_of_the_cluster(), **self.context})
        return redact(self.remedy_template.format_map(known), _LONGEST_REMEDY)

    def _parts_of_the_cluster(self) -> dict[str, str]:
        """`az aks` takes no resource ids: subscription, group and name, out of the id."""
        parts = self.context.get("cluster", "").split("/")
        whole = 9
        return {"subscription": parts[2], "group": parts[4], "name": parts[8]} if len(parts) == whole else {}

    def within(self, **context: str) -> Self:
        """The same failure, told where it happened. What was known nearer to the failure stands. A new object, because
        one refusal by Google is raised for every cluster of the hub.
        """
        return type(self)(self.detail, {**context, **self.context}, retry_after=self.retry_after)

    def again(self, patience: timedelta) -> bool | timedelta:
        """For a loop of tries: whether to try again, or after how long where the service said so. A wait beyond the
        loop's patience would hold a place that others need: then it is the queue's business.
        """
        return self.retry_after is None or (self.retry_after <= patience and (self.retry_after or True))

    def __str__(self) -> str:
        return f"{self.category}: {self.detail}"


class EntraError(PullkeeperError):
    """The app could not get a token for its own identity."""


class EntraUnavailable(EntraError):
    category = "entra_unavailable"
    retryable = True
    meaning = "The managed identity endpoint did not answer, or answered with an error of its own."
    remedy_template = (
        "Wait: it is tried again. If it lasts, restart the app: az functionapp restart --ids <function app id>"
    )


class EntraDenied(EntraError):
    category = "entra_denied"
    meaning = (
        "Entra refused a token: the identity is not assigned to the app, or the resource is unknown in the tenant."
    )
    remedy_template = (
        "Check the identity: az functionapp identity show --ids <function app id>. "
        "Check that the resource {resource} has a service principal here: az ad sp show --id {resource}"
    )


class GoogleError(PullkeeperError):
    """Google did not give an access token."""


class GoogleUnavailable(GoogleError):
    category = "google_unavailable"
    retryable = True
    meaning = "Google's token service did not answer, or answered with an error of its own. The old secrets stay."
    remedy_template = "Wait: it is tried again. See https://status.cloud.google.com for an outage."


class FederationAudience(GoogleError):
    category = "federation_audience"
    meaning = "The provider at Google expects another audience than the Entra token carries."
    remedy_template = (
        "Publisher: gcloud iam workload-identity-pools providers update-oidc {provider} --project={project} "
        "--location=global --workload-identity-pool={pool} --allowed-audiences={audience} "
        "(and those of others: it replaces the list) - or set the hub's entraResource to what the provider allows."
    )


class FederationIssuer(GoogleError):
    category = "federation_issuer"
    meaning = (
        "The provider at Google trusts another issuer: mostly another tenant, v1 against v2, or a missing "
        "slash at the end."
    )
    remedy_template = (
        "Publisher: gcloud iam workload-identity-pools providers update-oidc {provider} --project={project} "
        "--location=global --workload-identity-pool={pool} --issuer-uri={issuer}"
    )


class FederationCondition(GoogleError):
    category = "federation_condition"
    meaning = (
        "The provider's attribute condition does not accept this identity: mostly the client id stands there "
        "instead of the object id."
    )
    remedy_template = (
        "Publisher: gcloud iam workload-identity-pools providers update-oidc {provider} --project={project} "
        "--location=global --workload-identity-pool={pool} --attribute-condition=\"assertion.sub=='{principal}'\""
    )


class FederationProvider(GoogleError):
    category = "federation_provider"
    meaning = "The pool or provider named by the credential configuration does not exist, or is disabled or deleted."
    remedy_template = (
        "Publisher: gcloud iam workload-identity-pools providers describe {provider} --project={project} "
        "--location=global --workload-identity-pool={pool}, then undelete it or update it with --no-disabled. "
        "If it is fine, the audience in the credential configuration is wrong."
    )


class FederationStale(GoogleError):
    category = "federation_stale"
    meaning = (
        "Google finds the Entra token too old, and a fresh one from Entra did not help: mostly a clock that is wrong."
    )
    remedy_template = "Restart the app, which drops its cached tokens: az functionapp restart --ids <function app id>"


class FederationToken(GoogleError):
    category = "federation_token"
    meaning = "Google could not read or verify the Entra token, or could not reach the issuer's keys."
    remedy_template = (
        "Publisher: gcloud iam workload-identity-pools providers describe {provider} --project={project} "
        "--location=global --workload-identity-pool={pool}, and compare oidc.issuerUri with {issuer}; "
        "uploaded keys (oidc.jwksJson) may be out of date."
    )


class ImpersonationDenied(GoogleError):
    category = "impersonation_denied"
    meaning = (
        "Google knows the identity, but it may not act as the service account. Normal for up to 7 minutes "
        "after the binding was made."
    )
    remedy_template = (
        "Publisher: gcloud iam service-accounts add-iam-policy-binding {service_account} "
        "--role=roles/iam.workloadIdentityUser --member=principal://iam.googleapis.com/projects/{project}"
        "/locations/global/workloadIdentityPools/{pool}/subject/{principal}"
    )


class ServiceAccountMissing(GoogleError):
    category = "service_account_missing"
    meaning = "The service account in the credential configuration does not exist."
    remedy_template = (
        "Publisher: gcloud iam service-accounts describe {service_account}, and hand out the configuration again."
    )


class LifetimeNotAllowed(GoogleError):
    category = "lifetime_not_allowed"
    meaning = (
        "The hub asks for a token lifetime that the service account may not give (more than an hour needs a policy)."
    )
    remedy_template = (
        "Set the hub's tokenLifetime to 3600, or, publisher: allow {service_account} in the organisation policy "
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension"
    )


class RegistryError(PullkeeperError):
    """The registry was asked whether the new token can pull."""


class RegistryDenied(RegistryError):
    category = "registry_denied"
    meaning = (
        "Google gave a token, but the registry does not let it pull the hub's probe image. It was not handed "
        "out; the old secrets stay."
    )
    remedy_template = (
        "Publisher: gcloud artifacts repositories add-iam-policy-binding {repository} --project={registry_project} "
        "--location={location} --role=roles/artifactregistry.reader --member={member}. "
        "Check that the image {image} exists."
    )


class RegistryUnavailable(RegistryError):
    category = "registry_unavailable"
    retryable = True
    meaning = "The registry did not answer the probe. That is a warning only: the token is handed out unproved."
    remedy_template = "Check that the app may reach https://{host} (outbound firewall, proxy, DNS)."


class ClusterError(PullkeeperError):
    """One cluster did not take the secret."""


class ClusterGone(ClusterError):
    category = "cluster_gone"
    meaning = "Azure Resource Manager knows no such cluster."
    remedy_template = (
        "Offboard it (DELETE /api/clusters/...), or look for it: az aks show --subscription {subscription} "
        "--resource-group {group} --name {name}"
    )


class ClusterStopped(ClusterError):
    category = "cluster_stopped"
    meaning = "The cluster is stopped. Its secrets are refreshed soon after it has been started."
    remedy_template = "az aks start --subscription {subscription} --resource-group {group} --name {name}"


class ClusterUnreachable(ClusterError):
    category = "cluster_unreachable"
    retryable = True
    meaning = "The API server did not answer: it is down, it is private, or authorised IP ranges leave the app out."
    remedy_template = (
        "az aks show --subscription {subscription} --resource-group {group} --name {name} "
        "--query '{{power:powerState.code,"
        "private:apiServerAccessProfile.enablePrivateCluster,ranges:apiServerAccessProfile.authorizedIpRanges}}', "
        "and let the app's outbound addresses or its network in."
    )


class ClusterMoved(ClusterUnreachable):
    """Nothing there by that name (DNS), or something that is no API server (404): the address may be an old one."""


class ClusterUnwell(ClusterUnreachable):
    """It answers, with errors of its own (5xx)."""


class ClusterTlsUntrusted(ClusterError):
    category = "cluster_tls_untrusted"
    meaning = "The API server's certificate is not signed by the cluster's CA as Azure Resource Manager gives it."
    remedy_template = (
        "Compare: az aks get-credentials --subscription {subscription} --resource-group {group} --name {name} "
        "--file cluster.config, then kubectl --kubeconfig cluster.config cluster-info. "
        "A proxy that opens TLS between app and cluster does this."
    )


class ClusterUnauthorized(ClusterError):
    category = "cluster_unauthorized"
    meaning = (
        "The API server does not know the identity: the cluster trusts another tenant, or its certificates "
        "were rotated."
    )
    remedy_template = (
        "az aks show --subscription {subscription} --resource-group {group} --name {name} --query aadProfile, "
        "and compare tenantId with the app's; then refresh by hand."
    )


class ClusterRbacDenied(ClusterError):
    category = "cluster_rbac_denied"
    meaning = (
        "The role for Pullkeeper is missing in the namespace. A deleted namespace looks the same, because the"
        " role went with it."
    )
    remedy_template = (
        "kubectl get namespace {namespace}; kubectl auth can-i patch secret/{secret} -n {namespace} --as={principal}; "
        "then onboard the cluster again, which applies role and binding (POST /api/clusters)."
    )


class AdministratorMissing(ClusterRbacDenied):
    """Not the small role is missing, but the rights of the identity that gives it out."""

    meaning = "The role for Pullkeeper is missing: the identity that onboards is no administrator of the cluster."
    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role 'Azure Kubernetes Service RBAC Cluster Admin' --scope {cluster} - or, without Azure RBAC: "
        "kubectl create clusterrolebinding pullkeeper-onboarding --clusterrole=cluster-admin --user={principal}"
    )


class ClusterThrottled(ClusterError):
    category = "cluster_throttled"
    retryable = True
    meaning = "The API server is overloaded and asked us to come back later, or another writer was quicker."
    remedy_template = (
        "Wait: it is tried again. If it lasts: kubectl get --raw /metrics | grep apiserver_flowcontrol_rejected"
    )


class AdmissionDenied(ClusterError):
    category = "admission_denied"
    meaning = "A policy or an admission webhook in the cluster refused the secret, or what onboarding makes around it."
    remedy_template = (
        "Exempt {object} in namespace {namespace} from the policy named in the message: "
        "kubectl get validatingadmissionpolicies,validatingwebhookconfigurations"
    )


class AdmissionUnavailable(AdmissionDenied):
    """The webhook is down rather than of another opinion: the same page for the operator, but a retry can help."""

    retryable = True


class QuotaExceeded(ClusterError):
    category = "quota_exceeded"
    meaning = "The namespace's quota has no room for what has to be made: mostly the secret, anew."
    remedy_template = "kubectl describe resourcequota -n {namespace}"


class NamespaceMissing(ClusterError):
    category = "namespace_missing"
    meaning = "The namespace of the target does not exist."
    remedy_template = "kubectl create namespace {namespace}, and onboard the cluster again (POST /api/clusters)."


class NamespaceTerminating(ClusterError):
    category = "namespace_terminating"
    meaning = "The namespace is being deleted, and nothing can be made in it."
    remedy_template = (
        "kubectl get namespace {namespace} -o yaml shows what it waits for. If it is to go, take the target off."
    )


class SecretConflict(ClusterError):
    category = "secret_conflict"
    meaning = "A secret of that name belongs to somebody else. It was left as it is."
    remedy_template = (
        "kubectl get secret {secret} -n {namespace} --show-managed-fields -o yaml shows whose it is; "
        "onboard with adopt: true to take it over in place, or choose another name."
    )


class SecretImmutable(ClusterError):
    category = "secret_immutable"
    meaning = (
        "The secret has another type, or is marked immutable: only deleting it could change that, and "
        "Pullkeeper never deletes one."
    )
    remedy_template = (
        "kubectl delete secret {secret} -n {namespace}; it is made anew within minutes, or, where an onboarding "
        "stopped at it, by onboarding again."
    )


class ObjectConflict(ClusterError):
    category = "object_conflict"
    meaning = "Something that onboarding needs is there already, and somebody else has written it otherwise."
    remedy_template = (
        "kubectl get {object} -n {namespace} --show-managed-fields -o yaml shows whose it is; onboard with adopt: true "
        "to take over the fields that are needed, or choose another name."
    )


class ObjectImmutable(ObjectConflict):
    """Not even by force: Kubernetes lets nobody change that field."""

    remedy_template = (
        "kubectl get {object} -n {namespace} --show-managed-fields -o yaml shows whose it is. What differs cannot be "
        "changed: if nobody needs it, kubectl delete {object} -n {namespace} and onboard again; or choose another name."
    )


class ArmError(PullkeeperError):
    """Azure Resource Manager, asked for a cluster's address and CA."""


class ArmDenied(ArmError):
    category = "arm_denied"
    meaning = "The app's identity may not read the cluster or its user credentials in Azure."
    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role 'Azure Kubernetes Service Cluster User Role' --scope {cluster}"
    )


class OnboardingRoleMissing(ArmDenied):
    """Not the right to refresh is missing, but one of the identity that onboards."""

    meaning = "The app's identity may not do in Azure what onboarding needs."
    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role 'Pullkeeper onboarding' --scope /subscriptions/{subscription}/resourceGroups/{group} - the custom role "
        "whose actions docs/onboarding.md lists; the message names the one that is missing."
    )


class OperationsRoleMissing(OnboardingRoleMissing):
    """To wait for a cluster's change is a right in the subscription, and so a role of its own."""

    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role 'Pullkeeper operations' --scope /subscriptions/{subscription} - the second custom role of "
        "docs/onboarding.md."
    )


class ArmThrottled(ArmError):
    category = "arm_throttled"
    retryable = True
    meaning = "Azure Resource Manager is throttling, or did not answer."
    remedy_template = (
        "Wait: it is tried again. If it lasts, look for another reader of the subscription: az monitor "
        "activity-log list --subscription {subscription}"
    )


class ClusterChanging(ArmThrottled):
    """Azure is at work on the cluster: an upgrade, or the change that we asked for ourselves."""

    remedy_template = (
        "Wait: it is tried again. If it lasts: az aks wait --updated --subscription {subscription} "
        "--resource-group {group} --name {name}, and send the same body again."
    )


class WorkloadIdentityOff(ArmError):
    category = "workload_identity_off"
    meaning = "The cluster has no OIDC issuer or no workload identity, so its pods have no identity in Azure."
    remedy_template = (
        "az aks update --subscription {subscription} --resource-group {group} --name {name} --enable-oidc-issuer "
        "--enable-workload-identity, "
        "or onboard with enableWorkloadIdentity: true. The API server restarts, and it cannot be undone."
    )


class IdentityLimit(ArmError):
    category = "identity_limit"
    meaning = "A managed identity takes 20 federated credentials, and all the identities beside it are full too."
    remedy_template = (
        "az identity federated-credential list --subscription {subscription} --resource-group {group} "
        "--identity-name {name}, and remove those of "
        "clusters that are gone; or onboard with another name in identity."
    )


class FederatedCredentialConflict(ArmError):
    category = "federated_credential_conflict"
    retryable = True
    meaning = "Somebody else is writing federated credentials of the same identity, or was quicker with one of ours."
    remedy_template = (
        "Wait: it is tried again. If it lasts: az identity federated-credential list --subscription {subscription} "
        "--resource-group {group} --identity-name {name}"
    )


class StorageUnavailable(PullkeeperError):
    category = "storage_unavailable"
    retryable = True
    meaning = "The app's own storage account (tables, queues) did not answer or refused."
    remedy_template = (
        "az storage account show --ids <storage account id> --query '[networkRuleSet,allowSharedKeyAccess]', "
        "and check the app identity's roles "
        "Storage Table Data Contributor and Storage Queue Data Contributor on it."
    )


class InvalidRequest(PullkeeperError):
    category = "invalid_request"
    meaning = "A request, a message or a setting is not of the form it must have."
    remedy_template = "Mend what the message names. The shapes are in the documentation and in the message."


class ClusterTooOld(InvalidRequest):
    """Its Kubernetes lacks what onboarding needs."""

    remedy_template = (
        "az aks upgrade --subscription {subscription} --resource-group {group} --name {name} "
        "--kubernetes-version <version>"
    )


class TooLarge(InvalidRequest):
    """More than anybody could mean."""


class Forbidden(InvalidRequest):
    """A good request for something that this app, or this caller, may not do."""


class OperationRunning(InvalidRequest):
    """Another operation has the cluster."""

    remedy_template = "Look at {operation} until it has ended, and send the same again."


class NotInFleet(InvalidRequest):
    """The request names a cluster that nobody has onboarded, or that has left."""


class InternalError(PullkeeperError):
    category = "internal"
    meaning = "Something that Pullkeeper does not know. It is a defect, or a foreign service has changed."
    remedy_template = "Report it with the detail and the time."


def categories(of: type[PullkeeperError] = PullkeeperError) -> Iterator[type[PullkeeperError]]:
    """Every concrete failure category, in the order of the tree."""
    for kind in of.__subclasses__():
        if "category" in vars(kind):
            yield kind
        yield from categories(kind)
