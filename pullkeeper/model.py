"""The vocabulary of the design as types: clusters, targets, messages and statuses. All of them are frozen."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

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
    model_validator,
)

from pullkeeper.document import UNION_TAGS, Document
from pullkeeper.errors import InvalidRequest
from pullkeeper.publisher.hub import Hub, HubName
from pullkeeper.selector import NamespaceSelector
from pullkeeper.service_accounts import Namespace, ObjectName, ServiceAccount, ServiceAccounts, is_namespace

_CLUSTER_ID = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"/resourceGroups/(?P<resource_group>[\w.()-]{0,89}[\w()-])"
    r"/providers/Microsoft\.ContainerService/managedClusters/(?P<name>[a-z0-9]([\w-]{0,61}[a-z0-9])?)",
    re.IGNORECASE | re.ASCII,
)
_ARM = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerService/managedClusters/{}"
RESERVED_NAMESPACE: Final = re.compile(r"kube-.*|gatekeeper-system|azure-arc|aks-.*|calico-system|tigera-operator")

_BY_NAME, _BY_CONTENT = UNION_TAGS
MOST_TARGETS: Final = 500
"""Of a cluster, named and found ones together."""
_MOST_SELECTORS: Final = 10
"""Of a cluster: each is part of its admission policy, and is compared with every namespace."""


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


def is_reserved(namespace: str) -> bool:
    """Whether a namespace is one of the cluster's own components: it never gets a secret."""
    return bool(RESERVED_NAMESPACE.fullmatch(namespace))


class Target(Document):
    """A secret to keep in one namespace: its name, and the service accounts that should reference it.

    It is named in a request, or found for a SelectorTarget. Its text is its identity in statuses and events.
    """

    namespace: Namespace = "deepintshield"
    secret: ObjectName = "ar-pull-secret"
    service_accounts: ServiceAccounts = ()

    @field_validator("namespace")
    @classmethod
    def _is_not_reserved(cls, value: str) -> str:
        if is_reserved(value):
            raise ValueError("is reserved for the cluster's own components")
        return value

    @property
    def account_names(self) -> tuple[str, ...]:
        return tuple(account.name for account in self.service_accounts)

    def list_federated(self, *, has_job: bool) -> list[str]:
        """Return the accounts to federate: those that ask for it, and the first one if it runs an in-cluster job."""
        accounts = self.service_accounts
        return [one.name for one in accounts if one.federate or (has_job and one is accounts[0])]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.secret}"


class SelectorTarget(Document):
    """A wish: a secret to keep in every namespace with certain labels.

    The fleet's table holds the wish. Each namespace that is found for it becomes a Target (`target_in`) with a status
    of its own; a status says `namespace/secret`, and the secret's name leads back to the wish. prune: remove the secret
    from a namespace that has lost the labels.
    """

    namespace_selector: NamespaceSelector
    exclude: Annotated[tuple[Namespace, ...], Field(max_length=MOST_TARGETS)] = ()
    prune: StrictBool = False
    secret: ObjectName = "ar-pull-secret"
    service_accounts: ServiceAccounts = ()

    @model_validator(mode="before")
    @classmethod
    def _has_no_namespace(cls, value: dict[str, Any]) -> Any:
        if "namespace" in value or not {*value} & {"namespaceSelector", "namespace_selector"}:
            raise ValueError("give either namespace, or namespaceSelector with exclude and prune")
        return value

    @field_validator("service_accounts")
    @classmethod
    def _is_not_federated(cls, value: tuple[ServiceAccount, ...]) -> tuple[ServiceAccount, ...]:
        if any(account.federate for account in value):
            raise ValueError(
                "federate needs a namespace: a federated credential names one, and those of a selector are not known"
            )
        return value

    def matches(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether the secret belongs into a namespace. Reserved ones never match, nor does what is no name."""
        excluded = namespace in self.exclude or is_reserved(namespace) or not is_namespace(namespace)
        return not excluded and self.namespace_selector.matches(labels)

    def target_in(self, namespace: str) -> Target:
        """Return the target for a namespace that was found."""
        return Target(namespace=namespace, secret=self.secret, service_accounts=self.service_accounts)


Wish = Annotated[
    Annotated[Target, Tag(_BY_NAME)] | Annotated[SelectorTarget, Tag(_BY_CONTENT)],
    Discriminator(lambda value: _BY_CONTENT if _has_selector(value) else _BY_NAME),
]
_SELECTOR_FIELDS: Final = frozenset({"namespaceSelector", "namespace_selector", "exclude", "prune"})


def _has_selector(value: Any) -> bool:
    return isinstance(value, SelectorTarget) or (isinstance(value, dict) and not _SELECTOR_FIELDS.isdisjoint(value))


def _are_different_secrets(value: tuple[Wish, ...]) -> tuple[Wish, ...]:
    named, selectors = named_in(value), selectors_in(value)
    if len({str(target) for target in named}) < len(named):
        raise ValueError("the same secret is named twice")
    if len({target.secret for target in selectors}) < len(selectors):
        raise ValueError(
            "two selectors for one secret: combine them in one (operator In), or give the secrets different names"
        )
    if len(selectors) > _MOST_SELECTORS:
        raise ValueError(f"a cluster can have {_MOST_SELECTORS} namespaceSelectors at most, not {len(selectors)}")
    return value


Targets = Annotated[
    tuple[Wish, ...], Field(min_length=1, max_length=MOST_TARGETS), AfterValidator(_are_different_secrets)
]


def named_in(targets: Iterable[Wish]) -> tuple[Target, ...]:
    """Return the targets with a namespace."""
    return tuple(target for target in targets if isinstance(target, Target))


def selectors_in(targets: Iterable[Wish]) -> tuple[SelectorTarget, ...]:
    return tuple(target for target in targets if isinstance(target, SelectorTarget))


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

    @property
    def named(self) -> tuple[Target, ...]:
        """The targets that were named one by one."""
        return named_in(self.targets)

    @property
    def selectors(self) -> tuple[SelectorTarget, ...]:
        return selectors_in(self.targets)

    def list_targets(self, found: Iterable[str]) -> tuple[Target, ...]:
        """Return the named targets, then those that were found for selectors.

        found: their identities, `namespace/secret`. One that is named too is left out.
        """
        named = self.named
        return (*named, *list_found(self.selectors, {*found} - {str(target) for target in named}))


def list_found(selectors: Iterable[SelectorTarget], found: Iterable[str]) -> tuple[Target, ...]:
    """Return the targets with these identities (`namespace/secret`), in order. One whose selector is gone has no
    service accounts.
    """
    by_secret = {selector.secret: selector for selector in selectors}
    parts = [identity.partition("/") for identity in sorted(found)]
    return tuple(
        by_secret[secret].target_in(namespace) if secret in by_secret else Target(namespace=namespace, secret=secret)
        for namespace, _, secret in parts
    )
