"""Every hop of a diagnosis, and the ways to break exactly that hop in the local cloud, as its owner would or as it
really happens.

    async with break_hop(cloud, cluster, "secret"):
        ...  # broken
    # repaired
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal

from local.azure.entra import EXCHANGE, EXCHANGE_ID
from local.breaks import Breaking, CannotBreak, azure, cluster, google
from local.cloud import Cloud, LocalCluster
from pullkeeper.diagnosis.report import HopName

_AKS: Final = "--subscription {subscription} --resource-group {group} --name {name}"
_PROVIDER: Final = (
    "gcloud iam workload-identity-pools providers update-oidc {provider} --project={project} --location=global "
    "--workload-identity-pool={pool}"
)
_BINDING: Final = (
    "gcloud iam service-accounts {}-iam-policy-binding {{service_account}} --role=roles/iam.workloadIdentityUser "
    "--member={{principal_at_google}}"
)
_READER: Final = (
    "gcloud artifacts repositories {}-iam-policy-binding {{repository}} --role=roles/artifactregistry.reader "
    "--member={{reader}}"
)
_CREDENTIAL: Final = (
    "az identity federated-credential {} --identity-name <identity> --resource-group {{group}} --name <credential>"
)
_ANNOTATE: Final = "kubectl annotate serviceaccount <account> -n {namespace} "
_ONBOARD: Final = "onboard the cluster again (POST /api/clusters)"
BY_ITSELF: Final = "the next refresh repairs it"
"""A repair that is no one's work."""


@dataclass(frozen=True, slots=True)
class Break:
    """A way to break a hop. event: the command that does so, or what happens, in the real cloud. repair: the same for
    the repair. category: what a refresh reports; None where only a diagnosis sees it. scope: what it breaks beside the
    cluster: all clusters of its hub, or of the app. cached: the app goes on with tokens that it holds, for up to 24
    hours.
    """

    breaking: Breaking
    event: str
    repair: str
    category: str | None = None
    scope: Literal["cluster", "hub", "app"] = "cluster"
    cached: bool = False


HOPS: Final[Mapping[HopName, Mapping[str, Break]]] = {
    "managed-identity": {
        "removed": Break(
            azure.remove_identity,
            "az functionapp identity remove --ids <function app id> --identities {identity}",
            "az functionapp identity assign --ids <function app id> --identities {identity}",
            "entra_denied",
            "app",
            cached=True,
        ),
    },
    "entra-token": {
        "resource": Break(
            azure.remove_resource,
            f"az ad sp delete --id {EXCHANGE_ID}",
            f"az ad sp create --id {EXCHANGE_ID}",
            "entra_denied",
            "app",
            cached=True,
        ),
    },
    "token-exchange": {
        "audience": Break(
            google.change_provider(allowed_audiences=frozenset({EXCHANGE})),
            f"{_PROVIDER} --allowed-audiences={EXCHANGE}",
            f"{_PROVIDER} --allowed-audiences={EXCHANGE_ID}",
            "federation_audience",
            "hub",
        ),
        "issuer": Break(
            google.trust_version_1,
            f"{_PROVIDER} --issuer-uri={{issuer_v1}}",
            f"{_PROVIDER} --issuer-uri={{issuer_v2}}",
            "federation_issuer",
            "hub",
        ),
        "condition": Break(
            google.accept_client_id,
            f"{_PROVIDER} --attribute-condition=\"assertion.sub=='{{client_id}}'\"",
            f"{_PROVIDER} --attribute-condition=\"assertion.sub=='{{principal}}'\"",
            "federation_condition",
            "hub",
        ),
        "disabled": Break(
            google.change_provider(disabled=True),
            f"{_PROVIDER} --disabled",
            f"{_PROVIDER} --no-disabled",
            "federation_provider",
            "hub",
        ),
    },
    "impersonation": {
        "binding": Break(
            google.remove_binding, _BINDING.format("remove"), _BINDING.format("add"), "impersonation_denied", "hub"
        ),
    },
    "registry-permission": {
        "reader": Break(
            google.revoke_reader(0), _READER.format("remove"), _READER.format("add"), "registry_denied", "hub"
        ),
        "second-registry": Break(google.revoke_reader(1), _READER.format("remove"), _READER.format("add"), scope="hub"),
    },
    "probe-image": {
        "deleted": Break(
            google.remove_probe_image,
            "gcloud artifacts docker images delete {image} --delete-tags",
            "push the image again, or set the hub's probe to another one",
            scope="hub",
        ),
    },
    "cluster-state": {
        "stopped": Break(azure.stop_cluster, f"az aks stop {_AKS}", f"az aks start {_AKS}", "cluster_stopped"),
    },
    "oidc-issuer": {
        "workload-identity": Break(
            azure.disable_workload_identity,
            f"az aks update {_AKS} --disable-workload-identity",
            f"az aks update {_AKS} --enable-oidc-issuer --enable-workload-identity",
        ),
    },
    "federated-credential": {
        "subject": Break(
            azure.trust(subject="system:serviceaccount:default:deepintshield-sa"),
            f"{_CREDENTIAL.format('update')} --subject system:serviceaccount:default:deepintshield-sa",
            _ONBOARD,
        ),
        "audience": Break(
            azure.trust(audience="api://AzureADTokenExchange/"),
            f"{_CREDENTIAL.format('update')} --audiences api://AzureADTokenExchange/",
            _ONBOARD,
        ),
        "issuer": Break(
            azure.replace_issuer, "the cluster is deleted and created again: it has another issuer", _ONBOARD
        ),
        "missing": Break(
            azure.remove_credentials,
            _CREDENTIAL.format("delete"),
            _ONBOARD,
        ),
    },
    "api-server": {
        "stopped": Break(
            cluster.stop_server,
            "the API server does not accept connections",
            "the API server is back",
            "cluster_unreachable",
        ),
        "certificate": Break(
            cluster.intercept_tls,
            "a proxy between the app and the cluster intercepts TLS",
            "the proxy lets the cluster's address pass",
            "cluster_tls_untrusted",
        ),
    },
    "authentication": {
        "tenant": Break(
            cluster.change_tenant,
            f"az aks update {_AKS} --enable-aad --aad-tenant-id <another tenant>",
            f"az aks update {_AKS} --enable-aad --aad-tenant-id {{tenant}}",
            "cluster_unauthorized",
        ),
    },
    "permission": {
        "binding": Break(
            cluster.remove_bindings,
            "kubectl delete rolebinding pullkeeper-refresher -n {namespace}",
            _ONBOARD,
            "cluster_rbac_denied",
        ),
    },
    "namespace": {
        "deleted": Break(
            cluster.delete_namespace,
            "kubectl delete namespace {namespace}",
            f"kubectl create namespace {{namespace}}, and {_ONBOARD}",
            "cluster_rbac_denied",
        ),
    },
    "service-account": {
        "annotation": Break(
            cluster.edit_accounts({"annotations": {cluster.CLIENT_ID: None}}),
            f"{_ANNOTATE}{cluster.CLIENT_ID}-",
            _ONBOARD,
        ),
        "client-id": Break(
            cluster.edit_accounts({"annotations": {cluster.CLIENT_ID: "00000000-0000-0000-0000-000000000000"}}),
            f"{_ANNOTATE}--overwrite {cluster.CLIENT_ID}=00000000-0000-0000-0000-000000000000",
            _ONBOARD,
        ),
        "label": Break(
            cluster.edit_accounts({"labels": {"azure.workload.identity/use": None}}),
            "kubectl label serviceaccount <account> -n {namespace} azure.workload.identity/use-",
            _ONBOARD,
        ),
        "missing": Break(cluster.delete_accounts, "kubectl delete serviceaccount <account> -n {namespace}", _ONBOARD),
    },
    "credential-config": {
        "missing": Break(
            cluster.delete_config, "kubectl delete configmap gcp-credential-config -n {namespace}", _ONBOARD
        ),
        "audience": Break(cluster.edit_config, "kubectl edit configmap gcp-credential-config -n {namespace}", _ONBOARD),
    },
    "secret": {
        "conflict": Break(
            cluster.replace_secret,
            "the older CronJob runs: kubectl delete secret {secret} -n {namespace}; kubectl create secret "
            "docker-registry {secret} -n {namespace} ...",
            "onboard the cluster again with adopt: true, or kubectl delete secret {secret} -n {namespace}",
            "secret_conflict",
        ),
        "edited": Break(cluster.edit_secret, "kubectl edit secret {secret} -n {namespace}", BY_ITSELF),
        "deleted": Break(cluster.delete_secret, "kubectl delete secret {secret} -n {namespace}", BY_ITSELF),
    },
    "pods": {
        "without-secret": Break(
            cluster.start_pod(with_secret=False),
            "a pod without imagePullSecrets waits for the publisher's image",
            "have its service account name the secret, and kubectl delete pod",
        ),
        "with-secret": Break(
            cluster.start_pod(with_secret=True),
            "a pod waits for the publisher's image, though it names the secret",
            "kubectl delete pod",
        ),
    },
}
"""By hop and variant. The first variant of each is the default."""


def find_break(hop: HopName, variant: str | None = None) -> Break:
    """variant: None for the default. Raises CannotBreak for an unknown hop or variant."""
    ways = HOPS.get(hop, {})
    found = next(iter(ways.values()), None) if variant is None else ways.get(variant)
    if found is None:
        known = f"{hop} can be broken as {', '.join(ways)}" if ways else f"the hops are {', '.join(HOPS)}"
        raise CannotBreak(known)
    return found


def break_hop(
    cloud: Cloud, cluster: LocalCluster, hop: HopName, variant: str | None = None
) -> AbstractAsyncContextManager[None]:
    """Break one hop of the cluster, and repair it at the end. Raises CannotBreak; on entry where the cluster has
    nothing to break there.
    """
    return find_break(hop, variant).breaking(cloud, cluster)
