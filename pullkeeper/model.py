"""The words of the design as types. All of them are values: frozen, and validated once, at the edge.

Documents cross a border (settings, queue messages, tables, HTTP): camelCase outside, unknown fields refused.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from pullkeeper.errors import InvalidRequest
from pullkeeper.publisher.credential_config import CredentialConfig

_CLUSTER_ID = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"/resourceGroups/(?P<resource_group>[\w.()-]{0,89}[\w()-])"
    r"/providers/Microsoft\.ContainerService/managedClusters/(?P<name>[a-z0-9]([\w-]{0,61}[a-z0-9])?)",
    re.IGNORECASE | re.ASCII,
)
_ARM = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerService/managedClusters/{}"
_REGISTRY = re.compile(r"[a-z0-9-]{1,50}-docker\.pkg\.dev|((us|eu|asia)\.)?gcr\.io", re.ASCII)
_PART = r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<host>[a-z0-9.-]+(:\d{{1,5}})?)/(?P<name>{_PART}(/{_PART})+)(:(?P<tag>\w[\w.-]{{0,127}}))?",
    re.ASCII,
)
_RESERVED_NAMESPACE = re.compile(r"kube-.*|gatekeeper-system|azure-arc|aks-.*|calico-system|tigera-operator")

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Namespace = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}$")]
ObjectName = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]
AccountName = Annotated[ObjectName, StringConstraints(max_length=63)]
"""Kubernetes allows 253; but the most that one may ask for has to fit into a property of a table, which holds 32 Ki."""
HubName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_BY_NAME, _BY_CONTENT = "by name", "by content"


class Document(BaseModel):
    """Anything that crosses a border."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def parse(cls, data: Any, *, trusted_hosts: frozenset[str] = frozenset()) -> Self:
        """From JSON text, or from what JSON has become. Raises InvalidRequest naming each field that is wrong, and
        never what stood in it: that may be anything, a token included.
        """
        validate = cls.model_validate_json if isinstance(data, (str, bytes)) else cls.model_validate
        try:
            return validate(data, context={"trusted_hosts": trusted_hosts})
        except ValidationError as e:
            raise InvalidRequest("; ".join(_fault(fault["loc"], fault["msg"]) for fault in e.errors())) from None

    def to_json(self) -> str:
        """Without what is at its default; read back by `parse`."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)


def _fault(path: tuple[int | str, ...], text: str) -> str:
    """`targets.0.secret: what is wrong`. Pydantic puts into the path which side of a union it has tried."""
    where = ".".join(str(part) for part in path if part not in {_BY_NAME, _BY_CONTENT})
    return ": ".join(filter(None, (where, text.removeprefix("Value error, "))))


@dataclass(frozen=True, slots=True)
class ClusterId:
    """An AKS cluster by its Azure resource id. Azure compares these without regard to case, and so do we."""

    subscription: str
    resource_group: str
    name: str

    @classmethod
    def parse(cls, text: Any) -> "ClusterId":
        """Raises ValueError for anything but the id of an AKS cluster; nothing is unescaped or cut off."""
        if isinstance(text, cls):
            return text
        found = _CLUSTER_ID.fullmatch(text) if isinstance(text, str) else None
        if not found:
            raise ValueError(
                "must be /subscriptions/GUID/resourceGroups/GROUP"
                "/providers/Microsoft.ContainerService/managedClusters/NAME"
            )
        return cls(found["subscription"].lower(), found["resource_group"].lower(), found["name"].lower())

    @classmethod
    def of(cls, subscription: str, resource_group: str, name: str) -> "ClusterId":
        """From the three parts of a route. Raises InvalidRequest."""
        try:
            return cls.parse(_ARM.format(subscription, resource_group, name))
        except ValueError as e:
            raise InvalidRequest(f"the cluster's id {e}") from None

    def __str__(self) -> str:
        return _ARM.format(self.subscription, self.resource_group, self.name)


ClusterRef = Annotated[
    ClusterId,
    PlainValidator(ClusterId.parse, json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]


class Target(Document):
    """A secret to keep: where it lies, what it is called, and which service accounts should name it."""

    namespace: Namespace = "deepintshield"
    secret: ObjectName = "ar-pull-secret"
    service_accounts: Annotated[tuple[AccountName, ...], Field(max_length=20)] = ()

    @field_validator("namespace")
    @classmethod
    def _is_not_reserved(cls, value: str) -> str:
        if _RESERVED_NAMESPACE.fullmatch(value):
            raise ValueError("is reserved for the cluster's own components")
        return value

    def __str__(self) -> str:
        return f"{self.namespace}/{self.secret}"


def _are_different_secrets(value: tuple[Target, ...]) -> tuple[Target, ...]:
    if len({str(target) for target in value}) < len(value):
        raise ValueError("the same secret is named twice")
    return value


Targets = Annotated[tuple[Target, ...], Field(min_length=1, max_length=16), AfterValidator(_are_different_secrets)]


class Hub(Document):
    """The Google side: who to ask for a token, and which registries it opens.

    probe: an image (HOST/PROJECT/REPOSITORY/IMAGE[:TAG]) that a good token can pull.
    token_lifetime: in seconds; more than 3600 needs an organisation policy at Google (up to 12 hours).
    entra_resource: what the Entra token is for. A dedicated app registration (api://APPID) is the safer choice: a token
    for the default is also an assertion that Entra itself accepts.
    """

    credential_config: CredentialConfig
    registries: Annotated[tuple[str, ...], Field(min_length=1, max_length=20)]
    probe: Annotated[str, Field(max_length=512)]
    entra_resource: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:/._-]+$", max_length=255)] = (
        "api://AzureADTokenExchange"
    )
    scope: Literal[
        "https://www.googleapis.com/auth/cloud-platform.read-only",
        "https://www.googleapis.com/auth/cloud-platform",
    ] = "https://www.googleapis.com/auth/cloud-platform.read-only"
    token_lifetime: Annotated[int, Field(ge=1, le=12 * 3600, strict=True)] = 3600

    @field_validator("registries")
    @classmethod
    def _are_google_registries(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        trusted: frozenset[str] = (info.context or {}).get("trusted_hosts", frozenset())
        if not all(_REGISTRY.fullmatch(host) or host in trusted for host in value):
            raise ValueError("must be LOCATION-docker.pkg.dev, gcr.io, or hosts of the setting TRUSTED_GOOGLE_HOSTS")
        return value

    @field_validator("probe")
    @classmethod
    def _is_in_a_registry_of_its_own(cls, value: str, info: ValidationInfo) -> str:
        host = Image.parse(value).host
        if host not in info.data.get("registries", {host}):
            raise ValueError("must name an image in one of the registries")
        return value

    @property
    def probe_image(self) -> "Image":
        return Image.parse(self.probe)

    @property
    def life(self) -> timedelta:
        """How long a token is asked to live."""
        return timedelta(seconds=self.token_lifetime)

    @property
    def identity(self) -> str:
        """The hub's content as a digest: whoever says the same shares one mint."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Image:
    """HOST/NAME[:TAG]; name is PROJECT/REPOSITORY/IMAGE at Artifact Registry."""

    host: str
    name: str
    tag: str | None

    @classmethod
    def parse(cls, text: str) -> "Image":
        """Raises ValueError; nothing is unescaped or cut off."""
        found = _IMAGE.fullmatch(text)
        if not found:
            raise ValueError("must be HOST/PROJECT/REPOSITORY/IMAGE[:TAG]")
        return cls(found["host"], found["name"], found["tag"])

    def __str__(self) -> str:
        return f"{self.host}/{self.name}" + (f":{self.tag}" if self.tag else "")


class Endpoint(Document):
    """How to reach an API server, as Azure Resource Manager said at `read_at`."""

    server: Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?$")]
    ca: Annotated[str, Field(max_length=64_000)]
    local_accounts: bool = False
    read_at: AwareDatetime


class Cluster(Document):
    """A member of the fleet. hub: the name of a configured hub, or one of its own."""

    cluster: ClusterRef
    hub: Annotated[
        Annotated[HubName, Tag(_BY_NAME)] | Annotated[Hub, Tag(_BY_CONTENT)],
        Discriminator(lambda value: _BY_NAME if isinstance(value, str) else _BY_CONTENT),
    ]
    targets: Targets = (Target(),)
    adopt: StrictBool = False
    refresher: Literal["central", "in-cluster"] = "central"


class RefreshMessage(Document):
    """What lies on the queue: never a token."""

    cluster: ClusterRef
    reason: Literal["due", "manual", "onboarding"]


State = Literal["pending", "fresh", "stale", "expired", "unknown"]


class TargetStatus(Document):
    """How one secret is. Times are those of the token in it; category, detail and remedy those of the last failure
    since the last success; note: what is not as wanted although the secret is; unseen: the cluster refreshes it, and we
    may not look.
    """

    uid: str | None = None
    issued_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    last_success: AwareDatetime | None = None
    category: str | None = None
    detail: str | None = None
    remedy: str | None = None
    note: str | None = None
    unseen: bool = False

    def state(self, now: datetime) -> State:
        """pending: never written. stale: the last try failed, but the token in the secret is still good."""
        if self.unseen:
            return "unknown"
        if self.expires_at is None:
            return "pending"
        if self.expires_at <= now:
            return "expired"
        return "stale" if self.category else "fresh"


class Status(Document):
    """How a cluster is. failures: messages in a row that the queue gave up; life: of the tokens it gets; endpoint:
    newer than the one it was onboarded with; located_at: when Azure was last asked for it.
    """

    cluster: ClusterRef
    next_due: AwareDatetime
    failures: int = 0
    life: timedelta = timedelta(hours=1)
    targets: dict[str, TargetStatus] = Field(default_factory=dict)
    endpoint: Endpoint | None = None
    located_at: AwareDatetime | None = None
