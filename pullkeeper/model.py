"""The vocabulary of the design as types: clusters, targets, messages and statuses. All of them are frozen."""

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StringConstraints,
    Tag,
    field_validator,
)

from pullkeeper.document import UNION_TAGS, Document
from pullkeeper.errors import InvalidRequest
from pullkeeper.publisher.hub import Hub, HubName

_CLUSTER_ID = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"/resourceGroups/(?P<resource_group>[\w.()-]{0,89}[\w()-])"
    r"/providers/Microsoft\.ContainerService/managedClusters/(?P<name>[a-z0-9]([\w-]{0,61}[a-z0-9])?)",
    re.IGNORECASE | re.ASCII,
)
_ARM = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerService/managedClusters/{}"
_RESERVED_NAMESPACE = re.compile(r"kube-.*|gatekeeper-system|azure-arc|aks-.*|calico-system|tigera-operator")

_BY_NAME, _BY_CONTENT = UNION_TAGS
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Namespace = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}$")]
ObjectName = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]
AccountName = Annotated[ObjectName, StringConstraints(max_length=63)]
"""Kubernetes allows 253 characters; but the largest request has to fit into a table's property, which holds 32 Ki."""


class ClusterId(NamedTuple):
    """An AKS cluster by its Azure resource id, in lower case: Azure compares ids without regard to case."""

    subscription: str
    resource_group: str
    name: str

    @classmethod
    def parse(cls, text: Any) -> "ClusterId":
        """Raises ValueError for anything but the id of an AKS cluster; nothing is unescaped or stripped."""
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
        """Build the id from the three parts of a route. Raises InvalidRequest."""
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
    """A secret to keep: its namespace, its name, and the service accounts that should reference it."""

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


class Endpoint(Document):
    """Address and CA of an API server, as read from Azure Resource Manager at `read_at`."""

    server: Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?$")]
    ca: Annotated[str, Field(max_length=64_000)]
    local_accounts: bool = False
    read_at: AwareDatetime


class Cluster(Document):
    """A member of the fleet. hub: the name of a configured hub, or a hub of the cluster's own."""

    cluster: ClusterRef
    hub: Annotated[
        Annotated[HubName, Tag(_BY_NAME)] | Annotated[Hub, Tag(_BY_CONTENT)],
        Discriminator(lambda value: _BY_NAME if isinstance(value, str) else _BY_CONTENT),
    ]
    targets: Targets = (Target(),)
    adopt: StrictBool = False
    refresher: Literal["central", "in-cluster"] = "central"
