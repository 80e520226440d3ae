"""Every failure of Pullkeeper, as one tree: a class is a failure category.

The category decides whether a retry can help, which command the operator should run, and which page of the runbook
(`docs/runbook/<category>.md`) explains it; the library that raised the error decides nothing. Adapters translate
foreign errors into these classes. No code above an adapter looks at an HTTP status.

    PullkeeperError
    ├── EntraError        entra_unavailable*, entra_denied
    ├── GoogleError       google_unavailable*, google_api_disabled, google_perimeter_denied, federation_*,
    │                     clock_skew, impersonation_denied, service_account_missing, lifetime_not_allowed
    ├── RegistryError     registry_denied, registry_unavailable*, probe_image_missing
    ├── ClusterError      cluster_*, admission_denied*, quota_exceeded, namespace_*, target_limit, secret_*,
    │                     object_conflict, object_drifted, image_pull_failing
    ├── ArmError          arm_denied, arm_throttled*, arm_unavailable*, arm_conflict*, cluster_changing*, scope_locked,
    │                     provider_not_registered, policy_denied, workload_identity_off, identity_limit,
    │                     federated_credential_conflict*, federated_credential_mismatch
    ├── StorageUnavailable*, UnknownFormat*, RefreshStopped, InvalidRequest, InternalError
                                                                      (* a retry within seconds can help)

A detail or a remedy may quote the response of a foreign service, and such a response may contain anything, a token
included: every text passes `redact` before it is stored.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import ClassVar, Self

MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What client libraries raise when a response does not have the shape that they expect."""

_RETRIED = "Wait: it is retried. If it lasts: "
_LONGEST_DETAIL, _LONGEST_REMEDY = 600, 800
_LONGEST_WAIT = timedelta(hours=1)
_SECONDS = re.compile(r"[0-9]{1,9}")
_TOKENS = re.compile(
    # Google's identifier of a violation, which the publisher's audit log is searched for, looks like an opaque token.
    r"(?P<kept>vpcServiceControlsUniqueIdentifier: (?!eyJ|ya29|b2F1|eWEy)[\w-]{1,100}(?![\w.-]))"
    r"|eyJ[\w+/=.~-]{10,}"  # JWTs, and the base64 of any JSON object, {"auths":...} among them
    r"|ya29\.[\w.~+/-]+"  # Google access tokens
    r"|(?:b2F1dGgy|eWEyOS)[\w+/=-]+"  # base64 of oauth2accesstoken:<token>, and of a Google access token
    r"|(?i:\b(?:bearer|basic)\s+)(?=[\w.~+/=-]{0,40}[A-Z0-9])[\w.~+/=-]{8,}"  # not "basic authentication"
    r"|-----BEGIN [A-Z ]{1,40}-----[\w\s+/=\\]*"
    r"|(?P<long>[\w+=-]{48,})"
)


def redact(text: str, longest: int = _LONGEST_DETAIL) -> str:
    """Remove everything that looks like a token, and cut the text to `longest` characters."""
    text = _TOKENS.sub(_replacement, text)
    return text if len(text) <= longest else f"{text[:longest]}..."


def _replacement(found: re.Match[str]) -> str:
    """Keep long names: those of Kubernetes and our cluster ids have no capitals, Azure's error codes only letters."""
    long = found["long"]
    is_name = found["kept"] or (long and (long.islower() or long.isalpha()))
    return found[0] if is_name else "[redacted]"


def parse_retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the wait that `Retry-After` asks for, an hour at most; None unless it is a number of seconds."""
    seconds = headers.get("Retry-After", "")
    return min(timedelta(seconds=int(seconds)), _LONGEST_WAIT) if _SECONDS.fullmatch(seconds) else None


class _Blanks(dict[str, str]):
    """Keep a placeholder without a value readable in the command: `<namespace>`."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"


class PullkeeperError(Exception):
    """A failure with its category and its remedy.

    is_wait: an operation waits until it has passed, and uses no try: the service is throttling, or a change is under
    way. A refresh, which has a next time, takes it as any failure that a retry can help.
    detail: one sentence, ours or that of the service that refused.
    context: the known names (cluster, namespace, secret, principal, audience...) that fill in the remedy's command.
    retry_after: the wait that the service asked for, if it did.
    """

    category: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    is_wait: ClassVar[bool] = False
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
        """What to do, with the known names filled in, while Pullkeeper retries what a retry can help."""
        return _RETRIED * self.retryable + self.final_remedy

    @property
    def final_remedy(self) -> str:
        """What to do where nothing is retried."""
        known = _Blanks({**self._cluster_parts(), **self.context})
        return redact(self.remedy_template.format_map(known), _LONGEST_REMEDY)

    def _cluster_parts(self) -> dict[str, str]:
        """Split the cluster's id into subscription, group and name: `az aks` takes no resource ids."""
        parts = self.context.get("cluster", "").split("/")
        whole = 9
        return {"subscription": parts[2], "group": parts[4], "name": parts[8]} if len(parts) == whole else {}

    def with_context(self, **context: str) -> Self:
        """Return a copy that also knows `context`. A value that the failure already has is kept: it was set nearer to
        the cause. Always a new object, because one refusal by Google is raised for every cluster of the hub.
        """
        return type(self)(self.detail, {**context, **self.context}, retry_after=self.retry_after)

    def __str__(self) -> str:
        return f"{self.category}: {self.detail}"


class EntraError(PullkeeperError):
    """The app could not get a token for its own identity."""


class EntraUnavailable(EntraError):
    category = "entra_unavailable"
    retryable = True
    meaning = "The managed identity endpoint did not respond, or responded with an error of its own."
    remedy_template = "Restart the app: az functionapp restart --ids <function app id>"


class EntraThrottled(EntraUnavailable):
    """The endpoint is throttling the app (429)."""

    is_wait = True


class EntraDenied(EntraError):
    category = "entra_denied"
    meaning = (
        "Entra refused a token: the identity is not assigned to the app, or the resource is unknown in the tenant."
    )
    remedy_template = (
        "Check the identity: az functionapp identity show --ids <function app id>. "
        "Check that the resource {resource} has a service principal here: az ad sp show --id {resource}"
    )


class EntraResourceFailed(EntraDenied):
    """The endpoint fails for one resource and not for another: the platform does not say why."""

    meaning = (
        "The managed identity endpoint did not give a token for this resource, and gives one for another: the resource "
        "is unknown in the tenant, or Entra cannot be reached and the other token was cached."
    )
    remedy_template = (
        "Check that the resource has a service principal here: az ad sp show --id {resource}. If it has none, correct "
        "the hub's entraResource (setting HUBS), or add the application: az ad sp create --id <application id>. "
        "If it has one, wait: it is retried every quarter of an hour."
    )


class GoogleError(PullkeeperError):
    """Google did not give an access token."""


class GoogleUnavailable(GoogleError):
    category = "google_unavailable"
    retryable = True
    meaning = "Google's token service did not respond, or responded with an error of its own. The secrets stay."
    remedy_template = "See https://status.cloud.google.com for an outage."


class GoogleThrottled(GoogleUnavailable):
    """Google is throttling the project (429)."""

    is_wait = True


class GoogleApiDisabled(GoogleError):
    category = "google_api_disabled"
    meaning = "An API that the exchange needs is not enabled in the publisher's Google project."
    remedy_template = (
        "Publisher: gcloud services enable {service} --project={consumer} - and the others that the handover lists. "
        "Google needs a few minutes to apply it."
    )


class GooglePerimeterDenied(GoogleError):
    category = "google_perimeter_denied"
    meaning = (
        "VPC Service Controls in the publisher's organisation refuse the call: the app is outside of the perimeter."
    )
    remedy_template = (
        "Publisher: add an ingress rule for sts.googleapis.com, iamcredentials.googleapis.com and "
        "artifactregistry.googleapis.com: gcloud access-context-manager perimeters update <perimeter> "
        "--policy=<policy> --set-ingress-policies=<file> (it replaces the list). The audit log has the request under "
        "the identifier in the message."
    )


class FederationAudience(GoogleError):
    category = "federation_audience"
    meaning = "The provider at Google expects another audience than the Entra token has."
    remedy_template = (
        "Publisher: gcloud iam workload-identity-pools providers update-oidc {provider} --project={project} "
        "--location=global --workload-identity-pool={pool} --allowed-audiences={audience} "
        "(add the audiences that are there: the command replaces the list) - or set the hub's entraResource to an "
        "audience that the provider allows."
    )


class FederationIssuer(GoogleError):
    category = "federation_issuer"
    meaning = (
        "The provider at Google trusts another issuer: mostly another tenant, v1 instead of v2, or without the slash "
        "at the end."
    )
    remedy_template = (
        "Publisher: gcloud iam workload-identity-pools providers update-oidc {provider} --project={project} "
        "--location=global --workload-identity-pool={pool} --issuer-uri={issuer}"
    )


class FederationCondition(GoogleError):
    category = "federation_condition"
    meaning = (
        "The provider's attribute condition does not accept this identity: mostly it names the client id instead of "
        "the object id."
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
    meaning = "Google rejects the Entra token as too old, and a fresh one did not help: mostly a clock is wrong."
    remedy_template = "Restart the app, which drops its cached tokens: az functionapp restart --ids <function app id>"


class ClockSkew(GoogleError):
    """No exception of a call: a warning beside a token."""

    category = "clock_skew"
    meaning = (
        "The clock of the app's machine differs from Google's by more than a minute. This is only a warning: tokens "
        "are used as long as Google's clock says."
    )
    remedy_template = (
        "Restart the app, which moves it to another machine: az functionapp restart --ids <function app id>"
    )


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
        "Google knows the identity, but it may not impersonate the service account. This is normal for up to 7 minutes "
        "after the binding was added."
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
        "Publisher: gcloud iam service-accounts describe {service_account}, and send the configuration again."
    )


class LifetimeNotAllowed(GoogleError):
    category = "lifetime_not_allowed"
    meaning = (
        "The hub requests a token lifetime that the service account does not allow (more than an hour needs a policy)."
    )
    remedy_template = (
        "Set the hub's tokenLifetime to 3600, or, publisher: allow {service_account} in the organisation policy "
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension"
    )


class RegistryError(PullkeeperError):
    """The probe of a new token at the registry failed."""


class RegistryDenied(RegistryError):
    category = "registry_denied"
    meaning = (
        "The registry does not let Google's token pull the hub's probe image. The token was not used; the secrets stay "
        "as they are."
    )
    remedy_template = (
        "Publisher: gcloud artifacts repositories add-iam-policy-binding {repository} --project={registry_project} "
        "--location={location} --role=roles/artifactregistry.reader --member={member}. "
        "Check that the repository exists."
    )


class RegistryUnavailable(RegistryError):
    category = "registry_unavailable"
    retryable = True
    meaning = "The registry did not respond to the probe. This is only a warning: the token is used without the proof."
    remedy_template = "Check that the app can reach https://{host} (outbound firewall, proxy, DNS)."


class ProbeImageMissing(RegistryError):
    category = "probe_image_missing"
    meaning = (
        "The hub's probe image does not exist, though its repository lets the token pull. This is only a warning: the "
        "token is used."
    )
    remedy_template = (
        "Set the hub's probe to an image that the publisher keeps, or leave out its tag. What exists: gcloud artifacts "
        "docker tags list {untagged}"
    )


class ClusterError(PullkeeperError):
    """The secret could not be written in one cluster."""


class ClusterGone(ClusterError):
    category = "cluster_gone"
    meaning = "The cluster does not exist in Azure."
    remedy_template = (
        "Offboard it (DELETE /api/clusters/...), or look for it: az aks show --subscription {subscription} "
        "--resource-group {group} --name {name}"
    )


class ClusterStopped(ClusterError):
    category = "cluster_stopped"
    meaning = "The cluster is stopped. Its secrets are refreshed soon after its start."
    remedy_template = "az aks start --subscription {subscription} --resource-group {group} --name {name}"


class ClusterUnreachable(ClusterError):
    category = "cluster_unreachable"
    retryable = True
    meaning = "The API server did not respond: it is down or private, or its authorised IP ranges exclude the app."
    remedy_template = (
        "az aks show --subscription {subscription} --resource-group {group} --name {name} "
        "--query '{{power:powerState.code,"
        "private:apiServerAccessProfile.enablePrivateCluster,ranges:apiServerAccessProfile.authorizedIpRanges}}', "
        "and allow the app's outbound addresses or connect its network."
    )


class ClusterMoved(ClusterUnreachable):
    """The name does not resolve, or the server is no API server (404): the cluster may have a new address."""


class ClusterUnwell(ClusterUnreachable):
    """The API server responds with errors of its own (5xx)."""


class ClusterTlsUntrusted(ClusterError):
    category = "cluster_tls_untrusted"
    meaning = "The API server's certificate is not signed by the CA that Azure reports for the cluster."
    remedy_template = (
        "Compare: az aks get-credentials --subscription {subscription} --resource-group {group} --name {name} "
        "--file cluster.config, then kubectl --kubeconfig cluster.config cluster-info. "
        "A proxy that intercepts TLS between app and cluster causes this."
    )


class ClusterUnauthorized(ClusterError):
    category = "cluster_unauthorized"
    meaning = (
        "The API server does not accept the identity: the cluster trusts another tenant, or its certificates were "
        "rotated."
    )
    remedy_template = (
        "az aks show --subscription {subscription} --resource-group {group} --name {name} --query aadProfile, "
        "and compare tenantId with the app's; then refresh the cluster (POST /api/clusters/.../refresh)."
    )


class ClusterRbacDenied(ClusterError):
    category = "cluster_rbac_denied"
    meaning = (
        "The role for Pullkeeper is missing in the namespace. A deleted namespace looks the same, because its role is "
        "deleted too."
    )
    remedy_template = (
        "kubectl get namespace {namespace}; kubectl auth can-i patch secret/{secret} -n {namespace} --as={principal}; "
        "then onboard the cluster again, which applies role and binding (POST /api/clusters)."
    )


class AdministratorMissing(ClusterRbacDenied):
    """The identity that onboards may not grant the role."""

    meaning = "The role for Pullkeeper is missing: the identity that onboards is not administrator of the cluster."
    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role 'Azure Kubernetes Service RBAC Cluster Admin' --scope {cluster} - or, without Azure RBAC: "
        "kubectl create clusterrolebinding pullkeeper-onboarding --clusterrole=cluster-admin --user={principal}"
    )


class NamespaceListDenied(ClusterRbacDenied):
    """The identity that refreshes may not look for the namespaces of a selector."""

    meaning = (
        "The right to list namespaces is missing: Pullkeeper does not see which of them have the selector's labels."
    )
    remedy_template = (
        "kubectl auth can-i list namespaces --as={principal}; then onboard the cluster again, which applies the role "
        "with that right (POST /api/clusters)."
    )


class ObjectNotVisible(ClusterRbacDenied):
    """No identity of the app may see an object that only a diagnosis looks at."""

    meaning = "No identity of the app may see this in the cluster. No refresh needs it: only the diagnosis asks."
    remedy_template = (
        "If the diagnosis shall see it: kubectl create clusterrole pullkeeper-diagnosis-{kind} {rule} and "
        "kubectl create clusterrolebinding pullkeeper-diagnosis-{kind} --clusterrole=pullkeeper-diagnosis-{kind} "
        "--user={principal}"
    )


class ClusterThrottled(ClusterError):
    category = "cluster_throttled"
    retryable = True
    is_wait = True
    meaning = "The API server is overloaded, or another client changed the object at the same time."
    remedy_template = "kubectl get --raw /metrics | grep apiserver_flowcontrol_rejected"


class ObjectChanged(ClusterThrottled):
    """Another client changed the object at the same time: it is tried again at once, and needs no wait."""

    is_wait = False


class AdmissionDenied(ClusterError):
    category = "admission_denied"
    meaning = "A policy or an admission webhook in the cluster refused the secret or another object of onboarding."
    remedy_template = (
        "Exempt {object} in namespace {namespace} from the policy named in the message: "
        "kubectl get validatingadmissionpolicies,validatingwebhookconfigurations"
    )


class AdmissionUnavailable(AdmissionDenied):
    """The webhook is down. The runbook page is the same, but a retry can help."""

    retryable = True


class QuotaExceeded(ClusterError):
    category = "quota_exceeded"
    meaning = "The namespace's quota does not allow another object: mostly the secret, after it was deleted."
    remedy_template = "kubectl describe resourcequota -n {namespace}"


class NamespaceMissing(ClusterError):
    category = "namespace_missing"
    meaning = "The namespace of the target does not exist."
    remedy_template = "kubectl create namespace {namespace}, and onboard the cluster again (POST /api/clusters)."


class NamespaceTerminating(ClusterError):
    category = "namespace_terminating"
    meaning = "The namespace is being deleted, and nothing can be created in it."
    remedy_template = (
        "kubectl get namespace {namespace} -o yaml shows what it waits for. If it is not needed any more, onboard the "
        "cluster without this target (POST /api/clusters)."
    )


class TargetLimit(ClusterError):
    category = "target_limit"
    meaning = (
        "More namespaces match the selectors of the cluster than it can have targets. Those named in `detail` get none."
    )
    remedy_template = (
        "kubectl get namespaces --show-labels. Narrow the selector, or exclude namespaces, and onboard the cluster "
        "again (POST /api/clusters)."
    )


class SecretConflict(ClusterError):
    category = "secret_conflict"
    meaning = "A secret of that name has another owner. It was not changed."
    remedy_template = (
        "kubectl get secret {secret} -n {namespace} --show-managed-fields -o yaml shows the owner; "
        "onboard with adopt: true to take it over in place, or choose another name."
    )


class SecretImmutable(ClusterError):
    category = "secret_immutable"
    meaning = (
        "The secret has another type, or is marked immutable: it would have to be deleted, and Pullkeeper deletes no "
        "secret for a refresh."
    )
    remedy_template = (
        "kubectl delete secret {secret} -n {namespace}; the next refresh creates it. If an onboarding stopped at it, "
        "onboard again."
    )


class ObjectConflict(ClusterError):
    category = "object_conflict"
    meaning = "An object that onboarding needs exists with other content, and has another owner."
    remedy_template = (
        "kubectl get {object} -n {namespace} --show-managed-fields -o yaml shows the owner; onboard with adopt: true "
        "to take over the fields that are needed, or choose another name."
    )


class ObjectImmutable(ObjectConflict):
    """Kubernetes does not allow a change of that field, not even by force."""

    remedy_template = (
        "kubectl get {object} -n {namespace} --show-managed-fields -o yaml shows the owner. The field cannot be "
        "changed: if the object is not needed, kubectl delete {object} -n {namespace} and onboard again; or choose "
        "another name."
    )


class ObjectDrifted(ClusterError):
    """No exception of a call: what a diagnosis finds."""

    category = "object_drifted"
    meaning = "An object that onboarding made is missing, or no longer has the content that it was given."
    remedy_template = (
        "kubectl get {object} -n {namespace} -o yaml shows what it has now. Onboard the cluster again "
        "(POST /api/clusters), which makes it as it should be."
    )


class SecretMissing(ObjectDrifted):
    """The next refresh creates it."""

    meaning = "An object that onboarding made is missing: the pull secret. Pods that start now cannot pull."
    remedy_template = "Refresh the cluster: POST /api/clusters/{subscription}/{group}/{name}/refresh"


class ImagePullFailing(ClusterError):
    """No exception of a call: what a diagnosis finds. These pods have the secret."""

    category = "image_pull_failing"
    meaning = "A pod waits for an image of the hub's registries."
    remedy_template = (
        "kubectl describe pod {pod} -n {namespace} shows the registry's response. If the secret was written after the "
        "pod, wait: the kubelet tries again within five minutes."
    )


class PodWithoutSecret(ImagePullFailing):
    """Its account names the secret, but did not yet when the pod was created: admission copies the names only then."""

    meaning = "A pod waits for an image of the hub's registries, and was created before its account named the secret."
    remedy_template = (
        "Let its owner create it again: kubectl delete pod {pod} -n {namespace}. All pods of a Deployment: "
        "kubectl rollout restart deployment <deployment> -n {namespace}"
    )


class PodOutsideOfTargets(ImagePullFailing):
    """Neither the pod nor its account names the secret."""

    meaning = "A pod waits for an image of the hub's registries, and neither it nor its account names the secret."
    remedy_template = (
        "Add the account {account} to serviceAccounts of the target and onboard the cluster again "
        "(POST /api/clusters), or name the secret in imagePullSecrets of the pod's template. Then: "
        "kubectl delete pod {pod} -n {namespace}"
    )


class ArmError(PullkeeperError):
    """A call to Azure Resource Manager failed."""


class ArmDenied(ArmError):
    category = "arm_denied"
    meaning = "The app's identity may not read the cluster or its user credentials in Azure."
    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role 'Azure Kubernetes Service Cluster User Role' --scope {cluster}"
    )


class OnboardingRoleMissing(ArmDenied):
    """The identity that onboards lacks a right."""

    meaning = "The app's identity may not do in Azure what onboarding needs."
    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role 'Pullkeeper onboarding' --scope /subscriptions/{subscription}/resourceGroups/{group} - the custom role "
        "whose actions docs/onboarding.md lists; the message names the missing one."
    )


class LinkedRightMissing(OnboardingRoleMissing):
    """Azure checks rights at every resource that a changed cluster names."""

    meaning = (
        "Onboarding changes the cluster, and Azure requires a right at a resource that the cluster names: its "
        "workspace, subnet or identity."
    )
    remedy_template = (
        "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        "--role '<a role with {linked_action}>' --scope {linked_scope}. docs/onboarding.md names one. "
        "Or let the cluster's owner enable workload identity."
    )


class IdentityNotVisible(ArmDenied):
    """Only onboarding and a diagnosis look at it."""

    meaning = "The identity that onboards may not read managed identities in Azure. No refresh needs it."
    remedy_template = (
        "If the diagnosis shall see it: az role assignment create --assignee-object-id {principal} "
        "--assignee-principal-type ServicePrincipal --role Reader "
        "--scope /subscriptions/{subscription}/resourceGroups/{group}"
    )


class ArmThrottled(ArmError):
    category = "arm_throttled"
    retryable = True
    is_wait = True
    meaning = "Azure Resource Manager is throttling."
    remedy_template = (
        "Look for other clients of the subscription: az monitor activity-log list --subscription {subscription}"
    )


class ArmUnavailable(ArmError):
    category = "arm_unavailable"
    retryable = True
    meaning = "Azure Resource Manager did not respond, or responded with an error of its own."
    remedy_template = (
        "See https://azure.status.microsoft for an outage, and check that the app can reach the host of the setting "
        "ARM_ENDPOINT on port 443."
    )


class ArmConflict(ArmError):
    category = "arm_conflict"
    retryable = True
    meaning = "Another client changed the same resource in Azure, or its state does not allow the change."
    remedy_template = (
        "Look for the other client: az monitor activity-log list --subscription {subscription} --resource-group {group}"
    )


class ClusterChanging(ArmError):
    """An upgrade, for instance, or the change that onboarding requested."""

    category = "cluster_changing"
    retryable = True
    is_wait = True
    meaning = "Azure is changing the cluster, and takes no other change meanwhile."
    remedy_template = (
        "Wait until it is done: az aks wait --updated --subscription {subscription} --resource-group {group} "
        "--name {name}"
    )


class ScopeLocked(ArmError):
    category = "scope_locked"
    meaning = "A lock in Azure keeps this resource, or its group or subscription, from being changed or deleted."
    remedy_template = (
        "Find the lock: az rest --method get --url "
        "'{locked_scope}/providers/Microsoft.Authorization/locks?api-version=2020-05-01'. "
        "Remove it for the time: az lock delete --ids <lock id>, and send the same request again."
    )


class ProviderNotRegistered(ArmError):
    category = "provider_not_registered"
    meaning = "The subscription is not registered for a resource provider that onboarding needs."
    remedy_template = (
        "az provider register --subscription {subscription} --namespace {provider_namespace} --wait, and send the same "
        "body again."
    )


class PolicyDenied(ArmError):
    category = "policy_denied"
    meaning = "A policy of Azure does not allow this change. No role helps."
    remedy_template = (
        "If the policy requires tags, onboard with them in identityTags. Otherwise, its owner: az policy exemption "
        "create --name pullkeeper --exemption-category Waiver --policy-assignment {policy_assignment} "
        "--scope /subscriptions/{subscription}/resourceGroups/{group}"
    )


class WorkloadIdentityOff(ArmError):
    category = "workload_identity_off"
    meaning = "The cluster has no OIDC issuer or no workload identity, so its pods have no identity in Azure."
    remedy_template = (
        "az aks update --subscription {subscription} --resource-group {group} --name {name} --enable-oidc-issuer "
        "--enable-workload-identity, "
        "or onboard with enableWorkloadIdentity: true. The API server restarts. The issuer of service account tokens "
        "changes, so pods that use one may need a restart. The OIDC issuer cannot be disabled again."
    )


class IdentityLimit(ArmError):
    category = "identity_limit"
    meaning = "A managed identity can have 20 federated credentials, and this one has no room for the cluster's."
    remedy_template = (
        "Onboard without identity: the cluster gets one of its own, {own_identity}. If it has that: az identity "
        "federated-credential list --subscription {subscription} --resource-group {group} --identity-name {name}, "
        "and delete those that are not needed any more."
    )


class FederatedCredentialConflict(ArmError):
    category = "federated_credential_conflict"
    retryable = True
    meaning = "Another client is writing federated credentials of the same identity."
    remedy_template = (
        "az identity federated-credential list --subscription {subscription} --resource-group {group} "
        "--identity-name {name}"
    )


class FederatedCredentialBusy(FederatedCredentialConflict):
    """Azure takes one write of an identity's federated credentials at a time."""

    is_wait = True


class FederatedCredentialMismatch(ArmError):
    """No exception of a call: what a diagnosis finds."""

    category = "federated_credential_mismatch"
    meaning = (
        "No federated credential of the cluster's identity has the issuer, subject and audience of its service "
        "account. Azure compares every character."
    )
    remedy_template = (
        "Onboard the cluster again (POST /api/clusters), which adds the right one. What is there: az identity "
        "federated-credential list --subscription {subscription} --resource-group {group} --identity-name {identity}"
    )


class StorageUnavailable(PullkeeperError):
    category = "storage_unavailable"
    retryable = True
    meaning = "The app's own storage account (tables, queues) did not respond, or refused the call."
    remedy_template = (
        "az storage account show --ids <storage account id> --query '[networkRuleSet,allowSharedKeyAccess]', "
        "and check the app identity's roles "
        "Storage Table Data Contributor and Storage Queue Data Contributor on it."
    )


class RefreshStopped(PullkeeperError):
    """No exception of a call: the status of an expired secret whose refresh has not failed."""

    category = "refresh_stopped"
    meaning = "The token in the secret has expired, and no refresh has failed since it was written: none has run."
    remedy_template = (
        "GET /api/status shows whether the timer has a schedule and the storage that it needs. If it has: "
        "az functionapp restart --ids <function app id>"
    )


class InClusterRefreshStopped(RefreshStopped):
    """The cluster refreshes this secret itself."""

    meaning = "The token in the secret has expired: the CronJob in the cluster does not replace it."
    remedy_template = (
        "kubectl get cronjobs,jobs -n {namespace}; kubectl logs -n {namespace} -l "
        "app.kubernetes.io/name=pullkeeper-refresher --tail=5 shows which hop refused."
    )


class InvalidRequest(PullkeeperError):
    category = "invalid_request"
    meaning = "A request, a message or a setting does not have the required form."
    remedy_template = "Correct the fields that the message names. The documentation has the form of each."


class InvalidSetting(InvalidRequest):
    """A setting of the app is missing or wrong."""

    meaning = "A setting of the app is missing or wrong. What needs it does not run; everything else does."
    remedy_template = (
        "Correct the setting that the message names: az functionapp config appsettings set --ids <function app id> "
        "--settings '<name>=<value>'. The app restarts by itself. GET /api/status lists every wrong setting."
    )


class MessagesUnread(InvalidRequest):
    """Messages in a poison queue that the host gives to no function: not base64, or not UTF-8."""

    remedy_template = (
        "Look at those that are not hidden: az storage message peek --queue-name {queue} "
        "--account-name <storage account> --auth-mode login --num-messages 32. Then remove all: az storage message "
        "clear --queue-name {queue} --account-name <storage account> --auth-mode login. No work is lost: the timer "
        "queues it again."
    )


class ClusterTooOld(InvalidRequest):
    """The cluster's Kubernetes version lacks a feature that onboarding needs."""

    remedy_template = (
        "az aks upgrade --subscription {subscription} --resource-group {group} --name {name} "
        "--kubernetes-version <version>"
    )


class TooLarge(InvalidRequest):
    """The body is larger than any valid request."""


class Forbidden(InvalidRequest):
    """A valid request for something that this app or this caller may not do."""


class OperationRunning(InvalidRequest):
    """Another operation of the same cluster is running."""

    remedy_template = "Poll {operation} until it has ended, and send the same request again."


class NotInFleet(InvalidRequest):
    """The cluster is not onboarded, or has been offboarded."""


class UnknownHub(InvalidRequest):
    """The setting HUBS has no hub of that name."""


class UnknownFormat(PullkeeperError):
    category = "unknown_format"
    retryable = True
    meaning = "A row or a message was written by another version of Pullkeeper. It is left as it is."
    remedy_template = (
        "During an upgrade: wait until all instances run the new version. After a rollback: deploy the newer version "
        "again. The page of this category says how to drop the row."
    )


class InternalError(PullkeeperError):
    category = "internal"
    meaning = "An unexpected failure: a defect of Pullkeeper, or a service has changed."
    remedy_template = "Report it with its detail and time."


class DeadlinePassed(InternalError):
    """An invocation has been cancelled at its deadline."""

    retryable = True
    meaning = "Pullkeeper did not finish in the time that an invocation has, and stopped itself."
    remedy_template = "The events of the same time name what was slow: report it with the detail and the time."


def categories(of: type[PullkeeperError] = PullkeeperError) -> Iterator[type[PullkeeperError]]:
    """Yield every failure category, in the order of the tree."""
    for kind in of.__subclasses__():
        if "category" in vars(kind):
            yield kind
        yield from categories(kind)
