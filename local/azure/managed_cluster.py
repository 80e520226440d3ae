"""An AKS cluster as Azure Resource Manager shows it: the resource, and the kubeconfig of its users."""

import base64
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from local.azure.entra import AKS

KIND: Final = "Microsoft.ContainerService/managedClusters"
# The public client that kubelogin signs people in with: the same in all tenants.
_KUBELOGIN: Final = "80faf920-1908-4b52-b5ef-a8e7bedfc67a"


@dataclass(slots=True)
class ManagedCluster:
    """One cluster; whoever holds it may change it, as its owner would.

    resource_id: spelt as it was created. server: address of the API server. ca_pem: CA of its serving certificate.
    client_certificate, client_key: PEM, of a cluster with local accounts; without them it is integrated with Entra.
    oidc_issuer: its address where the issuer is enabled. future_issuer: the address that it will have once it is; AKS
    makes one up without. etag: changes with the resource. rest: what else Azure's document has in it, in its structure.
    """

    resource_id: str
    server: str
    ca_pem: str
    client_certificate: str | None = None
    client_key: str | None = None
    version: str = "1.34.2"
    power_state: str = "Running"
    provisioning_state: str = "Succeeded"
    location: str = "westeurope"
    oidc_issuer: str | None = None
    future_issuer: str | None = None
    workload_identity: bool = False
    azure_rbac: bool = False
    private: bool = False
    authorized_ranges: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)
    etag: str = field(default_factory=lambda: str(uuid.uuid4()))
    user_token: str = field(default_factory=lambda: secrets.token_hex(64), repr=False)
    _enabling_issuer: bool = False

    @property
    def subscription(self) -> str:
        return self.resource_id.split("/")[2]

    @property
    def group(self) -> str:
        return self.resource_id.split("/")[4]

    @property
    def name(self) -> str:
        return self.resource_id.split("/")[8]

    def document(self, tenant: str) -> dict[str, Any]:
        """The resource, for a cluster in this tenant. Optional parts are absent or empty the way Azure leaves them."""
        return _over(self.rest, self._known(tenant))

    def replace(self, document: Mapping[str, Any], tenant: str) -> None:
        """Become what the document says, of what can be changed: what is not in it is gone. `settle` ends it."""
        properties = document.get("properties") or {}
        access = properties.get("apiServerAccessProfile") or {}
        workload = (properties.get("securityProfile") or {}).get("workloadIdentity") or {}
        self.tags = dict(document.get("tags") or {})
        self.version = properties.get("kubernetesVersion") or self.version
        self.authorized_ranges = list(access.get("authorizedIPRanges") or [])
        self.azure_rbac = bool((properties.get("aadProfile") or {}).get("enableAzureRBAC"))
        self.workload_identity = bool(workload.get("enabled"))
        issuer = properties.get("oidcIssuerProfile") or {}
        self._enabling_issuer = not self.oidc_issuer and bool(issuer.get("enabled"))
        self.provisioning_state, self.etag = "Updating", str(uuid.uuid4())
        self.rest = _beyond(document, self._known(tenant))

    def settle(self, tenant: str, *, succeeded: bool) -> None:
        """An issuer has no address before this."""
        if succeeded and self._enabling_issuer:
            made_up = f"https://{self.location}.oic.prod-aks.azure.com/{tenant}/{uuid.uuid4()}/"
            self.oidc_issuer = self.future_issuer or made_up
        self._enabling_issuer = False
        self.provisioning_state, self.etag = "Succeeded" if succeeded else "Failed", str(uuid.uuid4())

    def _known(self, tenant: str) -> dict[str, Any]:
        entra = {"managed": True, "enableAzureRBAC": self.azure_rbac, "tenantID": tenant}
        return {
            # Azure writes this one segment in lower case, whatever it was asked for.
            "id": f"/subscriptions/{self.subscription}/resourcegroups/{self.group}/providers/{KIND}/{self.name}",
            "name": self.name,
            "type": "Microsoft.ContainerService/ManagedClusters",
            "location": self.location,
            "tags": dict(self.tags),
            "eTag": self.etag,
            "properties": {
                "provisioningState": self.provisioning_state,
                "powerState": {"code": self.power_state},
                "kubernetesVersion": self.version,
                "currentKubernetesVersion": self.version,
                "fqdn": self.server.partition("://")[2].partition(":")[0],
                "enableRBAC": True,
                "disableLocalAccounts": False,
                "apiServerAccessProfile": {
                    "enablePrivateCluster": self.private,
                    "authorizedIPRanges": list(self.authorized_ranges),
                },
                "oidcIssuerProfile": (
                    {"enabled": True, "issuerURL": self.oidc_issuer}
                    if self.oidc_issuer
                    else {"enabled": self._enabling_issuer}
                ),
                "securityProfile": {"workloadIdentity": {"enabled": True}} if self.workload_identity else {},
                **({} if self.client_certificate else {"aadProfile": entra}),
            },
        }

    def kubeconfig(self, tenant: str, form: str) -> str:
        """YAML of the user kubeconfig. form: `exec` or `azure`, which matter to clusters with Entra only."""
        user = f"clusterUser_{self.group}_{self.name}"
        cluster = {"certificate-authority-data": encoded(self.ca_pem), "server": self.server}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "clusters": [{"cluster": cluster, "name": self.name}],
                "contexts": [{"context": {"cluster": self.name, "user": user}, "name": self.name}],
                "current-context": self.name,
                "kind": "Config",
                "preferences": {},
                "users": [{"name": user, "user": self._user(tenant, form)}],
            }
        )

    def _user(self, tenant: str, form: str) -> Mapping[str, Any]:
        if self.client_certificate and self.client_key:
            return {
                "client-certificate-data": encoded(self.client_certificate),
                "client-key-data": encoded(self.client_key),
                "token": self.user_token,
            }
        if form == "azure":
            return {
                "auth-provider": {
                    "config": {
                        "apiserver-id": AKS,
                        "client-id": _KUBELOGIN,
                        "config-mode": "1",
                        "environment": "AzurePublicCloud",
                        "tenant-id": tenant,
                    },
                    "name": "azure",
                }
            }
        options = {
            "--environment": "AzurePublicCloud",
            "--server-id": AKS,
            "--client-id": _KUBELOGIN,
            "--tenant-id": tenant,
            "--login": "devicecode",
        }
        return {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1beta1",
                "args": ["get-token", *(part for option in options.items() for part in option)],
                "command": "kubelogin",
                "env": None,
                "provideClusterInfo": False,
            }
        }


def encoded(text: str) -> str:
    """Base64, as all of Azure's and Kubernetes' documents hold certificates and whole files."""
    return base64.b64encode(text.encode()).decode()


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees in one; where both have a value it is the one above."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _over(below[key], above[key])
    return merged


def _beyond(document: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What of the document is not known."""
    rest = {key: value for key, value in document.items() if key not in known}
    for key in document.keys() & known.keys():
        if isinstance(document[key], dict) and isinstance(known[key], dict):
            rest[key] = _beyond(document[key], known[key])
    return rest
