"""The kinds that the stand-in plays: those that Pullkeeper, the demo and their tests read and write."""

from dataclasses import dataclass
from typing import Final

from local.kubernetes.schema import Type, definition

RBAC: Final = "rbac.authorization.k8s.io"
REVIEWS: Final = "authorization.k8s.io"
ADMISSION: Final = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of one API group, version v1."""

    group: str
    plural: str
    name: str
    package: str
    """Of the type in the OpenAPI document: io.k8s.api.<package>.v1.<name>."""
    namespaced: bool = True
    has_status: bool = False
    """Has a status that only its own subresource writes."""
    returns_deleted: bool = False
    """DELETE is answered with the object, not with a Status."""
    read_only: bool = False
    """Clients only read it: what controllers and nodes do with it is not played."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The resource as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.name}.{self.group}" if self.group else self.name

    @property
    def type(self) -> Type:
        return definition(f"io.k8s.api.{self.package}.v1.{self.name}")


NAMESPACES: Final = Kind("", "namespaces", "Namespace", "core", namespaced=False, has_status=True)
PODS: Final = Kind("", "pods", "Pod", "core", has_status=True, read_only=True)
ROLES: Final = Kind(RBAC, "roles", "Role", "rbac")
ROLE_BINDINGS: Final = Kind(RBAC, "rolebindings", "RoleBinding", "rbac")
CLUSTER_ROLES: Final = Kind(RBAC, "clusterroles", "ClusterRole", "rbac", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = Kind(RBAC, "clusterrolebindings", "ClusterRoleBinding", "rbac", namespaced=False)
ACCESS_REVIEWS: Final = Kind(
    REVIEWS, "selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization", namespaced=False
)
KINDS: Final = (
    NAMESPACES,
    Kind("", "secrets", "Secret", "core"),
    Kind("", "configmaps", "ConfigMap", "core"),
    Kind("", "serviceaccounts", "ServiceAccount", "core", returns_deleted=True),
    PODS,
    Kind("", "services", "Service", "core", has_status=True, returns_deleted=True),
    Kind("apps", "deployments", "Deployment", "apps", has_status=True),
    Kind("batch", "cronjobs", "CronJob", "batch", has_status=True),
    ROLES,
    ROLE_BINDINGS,
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
    Kind(
        ADMISSION,
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        "admissionregistration",
        namespaced=False,
        has_status=True,
    ),
    Kind(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        "admissionregistration",
        namespaced=False,
    ),
    ACCESS_REVIEWS,
)


def find(group: str, plural: str) -> Kind | None:
    return next((kind for kind in KINDS if (kind.group, kind.plural) == (group, plural)), None)
