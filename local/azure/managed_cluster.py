"""An AKS cluster as Azure Resource Manager shows it: the resource, and the kubeconfig of its users."""

import base64
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from local.azure.entra import AKS

KIND: Final = "Microsoft.ContainerService/managedClusters"


@dataclass(slots=True)
class ManagedCluster:
    """One cluster. Tests change its attributes as its owner would.

    server: address of the API server. ca_pem: CA of its serving certificate. client_certificate, client_key: PEM, of a
    cluster with local accounts; without them it is integrated with Entra. tenant: whose tokens it accepts, if another
    than its own. oidc_issuer: None while the issuer is off.
    private_server: of a private cluster, the address under the name that only its private DNS zone knows. `server` then
    has its public name, which resolves to the same private address. Without public_fqdn there is no such name.
    future_issuer: the address it gets when it is switched on; by default one as AKS makes them. rest: whatever else
    the document holds, in its structure.
    """

    resource_id: str
    server: str
    ca_pem: str
    client_certificate: str | None = None
    client_key: str | None = None
    tenant: str | None = None
    private_server: str | None = None
    public_fqdn: bool = True
    version: str = "1.34.2"
    power_state: str = "Running"
    provisioning_state: str = "Succeeded"
    location: str = "westeurope"
    oidc_issuer: str | None = None
    future_issuer: str | None = None
    workload_identity: bool = False
    rest: Mapping[str, Any] = field(default_factory=dict)
    etag: str = field(default_factory=lambda: str(uuid.uuid4()))
    _enabling_issuer: bool = False
    _failure: Mapping[str, str] | None = None

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
        """The resource, for a cluster in this tenant. Optional parts are absent or empty as Azure leaves them."""
        return _merge(self.rest, self._own_fields(tenant))

    def replace(self, document: Mapping[str, Any]) -> None:
        """Start an update to this document: what is not in it is removed. `end_update` ends it."""
        properties = document["properties"]
        self.version = properties.get("kubernetesVersion") or self.version
        security = dict(properties.get("securityProfile") or {})
        self.workload_identity = bool((security.pop("workloadIdentity", None) or {}).get("enabled"))
        issuer = properties.get("oidcIssuerProfile") or {}
        self._enabling_issuer = not self.oidc_issuer and bool(issuer.get("enabled"))
        self.provisioning_state, self.etag = "Updating", str(uuid.uuid4())
        kept = {name: value for name, value in properties.items() if name not in {"oidcIssuerProfile", "status"}}
        self.rest = {**document, "properties": {**kept, "securityProfile": security}}

    def end_update(self, tenant: str, failure: tuple[str, str] | None) -> None:
        """Only now has a new issuer an address. failure: code and message."""
        if not failure and self._enabling_issuer:
            address = f"https://{self.location}.oic.prod-aks.azure.com/{tenant}/{uuid.uuid4()}/"
            self.oidc_issuer = self.future_issuer or address
        self._enabling_issuer = False
        self._failure = dict(zip(("code", "message"), failure, strict=True)) if failure else None
        self.provisioning_state, self.etag = "Failed" if failure else "Succeeded", str(uuid.uuid4())

    def _own_fields(self, tenant: str) -> dict[str, Any]:
        """What Azure writes, whatever a caller has put."""
        return {
            # Azure writes this one segment in lower case, whatever it was asked for.
            "id": f"/subscriptions/{self.subscription}/resourcegroups/{self.group}/providers/{KIND}/{self.name}",
            "name": self.name,
            "type": "Microsoft.ContainerService/ManagedClusters",
            "location": self.location,
            "eTag": self.etag,
            "properties": {
                "provisioningState": self.provisioning_state,
                "powerState": {"code": self.power_state},
                "kubernetesVersion": self.version,
                "currentKubernetesVersion": self.version,
                **self._names(),
                "enableRBAC": True,
                "disableLocalAccounts": False,
                "oidcIssuerProfile": (
                    {"enabled": True, "issuerURL": self.oidc_issuer}
                    if self.oidc_issuer
                    else {"enabled": self._enabling_issuer}
                ),
                **({"status": {"provisioningError": self._failure}} if self._failure else {}),
                "securityProfile": {"workloadIdentity": {"enabled": True}} if self.workload_identity else {},
                **(
                    {}
                    if self.client_certificate
                    else {"aadProfile": {"managed": True, "tenantID": self.tenant or tenant}}
                ),
            },
        }

    def _names(self) -> dict[str, Any]:
        if not self.private_server:
            return {"fqdn": _host(self.server)}
        access = {"enablePrivateCluster": True, "enablePrivateClusterPublicFQDN": self.public_fqdn}
        public = {"fqdn": _host(self.server)} if self.public_fqdn else {}
        return {**public, "privateFQDN": _host(self.private_server), "apiServerAccessProfile": access}

    def kubeconfig(self, tenant: str, *, public: bool = False) -> str:
        """The user kubeconfig as YAML, in the format `exec`. public: with the public name of a private cluster."""
        user = f"clusterUser_{self.group}_{self.name}"
        cluster = {
            "certificate-authority-data": encode(self.ca_pem),
            "server": self.server if public else self.private_server or self.server,
        }
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "clusters": [{"cluster": cluster, "name": self.name}],
                "contexts": [{"context": {"cluster": self.name, "user": user}, "name": self.name}],
                "current-context": self.name,
                "kind": "Config",
                "preferences": {},
                "users": [{"name": user, "user": self._user(tenant)}],
            }
        )

    def _user(self, tenant: str) -> Mapping[str, Any]:
        if self.client_certificate and self.client_key:
            return {
                "client-certificate-data": encode(self.client_certificate),
                "client-key-data": encode(self.client_key),
                "token": uuid.uuid4().hex,
            }
        arguments = ["get-token", "--login", "devicecode", "--server-id", AKS, "--tenant-id", tenant]
        version = "client.authentication.k8s.io/v1beta1"
        return {"exec": {"apiVersion": version, "args": arguments, "command": "kubelogin", "provideClusterInfo": False}}


def list_links(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield actions and scopes that Azure checks when a cluster is written: those of the monitoring add-on. Subnets and
    identities are not played.
    """
    addons = (document.get("properties") or {}).get("addonProfiles") or {}
    monitoring = addons.get("omsagent") or {}
    workspace = (monitoring.get("config") or {}).get("logAnalyticsWorkspaceResourceID")
    if monitoring.get("enabled") and workspace:
        yield "Microsoft.OperationalInsights/workspaces/sharedkeys/read", str(workspace)


def encode(text: str) -> str:
    """Base64, as Azure's and Kubernetes' documents hold certificates and whole files."""
    return base64.b64encode(text.encode()).decode()


def _host(url: str) -> str:
    return url.partition("://")[2].partition(":")[0]


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees in one. Where both have a value, `above` wins."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merge(below[key], above[key])
    return merged
