"""The kinds that the stand-in serves, and how each behaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from local.kubernetes.fields import Path
from local.kubernetes.schema import Type, definition

CORE, APPS, BATCH = "", "apps", "batch"
RBAC, ADMISSION = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"

EVERY_VERB = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of one API version. All of them are v1, which keeps group and version apart from kind enough."""

    group: str
    plural: str
    name: str
    package: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    naming: str = "subdomain"
    """Rule for metadata.name: subdomain, label or path (a path segment)."""
    status: bool = False
    """Has a status that only its own subresource writes."""
    generation: bool = False
    """Counts changes of its spec in metadata.generation."""
    creates_on_update: bool = False
    """PUT to a name that does not exist creates it."""
    returns_deleted: bool = False
    """DELETE answers with the object, not with a Status."""

    version = "v1"

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def categories(self) -> list[str]:
        """Names for many kinds at once, such as `kubectl get all`."""
        if self.plural in ("pods", "services") or self.group in (APPS, BATCH):
            return ["all"]
        return ["api-extensions"] if self.group == ADMISSION else []

    @property
    def singular(self) -> str:
        return self.name.lower()

    @property
    def type(self) -> Type:
        return definition(f"io.k8s.api.{self.package}.v1.{self.name}")

    @property
    def go_type(self) -> str:
        """The server's own type, which a few messages show."""
        return f"{self.package}.{self.name}"

    @property
    def unowned(self) -> tuple[Path, ...]:
        """What a write to the main resource cannot own."""
        return (("f:status",),) if self.status else ()

    @property
    def gvk(self) -> str:
        """As Go prints a GroupVersionKind, which error messages contain."""
        return f"{self.group}/v1, Kind={self.name}"


KINDS: tuple[Kind, ...] = (
    Kind(CORE, "namespaces", "Namespace", "core", namespaced=False, short=("ns",), naming="label", status=True),
    Kind(CORE, "secrets", "Secret", "core"),
    Kind(CORE, "configmaps", "ConfigMap", "core", short=("cm",)),
    Kind(CORE, "serviceaccounts", "ServiceAccount", "core", short=("sa",), returns_deleted=True),
    Kind(CORE, "resourcequotas", "ResourceQuota", "core", short=("quota",), status=True, returns_deleted=True),
    Kind(CORE, "pods", "Pod", "core", short=("po",), status=True, returns_deleted=True),
    Kind(CORE, "services", "Service", "core", short=("svc",), naming="label", status=True, returns_deleted=True),
    Kind(APPS, "deployments", "Deployment", "apps", short=("deploy",), status=True, generation=True),
    Kind(BATCH, "cronjobs", "CronJob", "batch", short=("cj",), status=True, generation=True),
    Kind(BATCH, "jobs", "Job", "batch", status=True, generation=True),
    Kind(RBAC, "roles", "Role", "rbac", naming="path", creates_on_update=True),
    Kind(RBAC, "rolebindings", "RoleBinding", "rbac", naming="path", creates_on_update=True),
    Kind(RBAC, "clusterroles", "ClusterRole", "rbac", namespaced=False, naming="path", creates_on_update=True),
    Kind(
        RBAC,
        "clusterrolebindings",
        "ClusterRoleBinding",
        "rbac",
        namespaced=False,
        naming="path",
        creates_on_update=True,
    ),
    Kind(
        ADMISSION,
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "admissionregistration",
        namespaced=False,
        generation=True,
    ),
    Kind(
        ADMISSION,
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        "admissionregistration",
        namespaced=False,
        status=True,
        generation=True,
        creates_on_update=True,
    ),
    Kind(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        "admissionregistration",
        namespaced=False,
        generation=True,
        creates_on_update=True,
    ),
)


@cache
def _by_resource() -> dict[tuple[str, str], Kind]:
    return {(kind.group, kind.plural): kind for kind in KINDS}


def find(group: str, plural: str) -> Kind | None:
    return _by_resource().get((group, plural))


def named(plural: str) -> Kind:
    """For code that knows what it means: no two kinds of the table share a plural. Raises KeyError."""
    return _by_plural()[plural]


@cache
def _by_plural() -> dict[str, Kind]:
    return {kind.plural: kind for kind in KINDS}


def of_group(group: str) -> Iterator[Kind]:
    return (kind for kind in KINDS if kind.group == group)


def groups() -> tuple[str, ...]:
    """The named groups, each once, in the order of the table."""
    return tuple(dict.fromkeys(kind.group for kind in KINDS if kind.group))
