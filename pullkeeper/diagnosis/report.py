"""What a diagnosis says: the hops from the app's identity to the pods, in order, each with what was seen there."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Field

from pullkeeper.document import Document
from pullkeeper.model import ClusterRef

HopName = Literal[
    "managed-identity",
    "entra-token",
    "token-exchange",
    "impersonation",
    "registry-permission",
    "probe-image",
    "cluster-state",
    "oidc-issuer",
    "federated-credential",
    "api-server",
    "authentication",
    "permission",
    "namespace",
    "service-account",
    "credential-config",
    "secret",
    "pods",
]
"""In the order in which they are shown. The first six are those of a hub."""
HopState = Literal["ok", "warning", "failed", "skipped"]


class Hop(Document):
    """One hop. subject: what was looked at where a hop has several: a registry, a target, a service account. detail:
    one sentence. evidence: what was seen, by name. because: the hop that has to be repaired first; None where it is
    skipped for another reason, which detail gives. runbook: address of the category's page.
    """

    name: HopName
    subject: str | None = None
    state: HopState
    detail: str
    evidence: Mapping[str, str] = Field(default_factory=dict)
    because: HopName | None = None
    category: str | None = None
    remedy: str | None = None
    runbook: str | None = None


class Diagnosis(Document):
    """The hops of a cluster, or of a hub. state: the worst of them; skipped ones do not count. seconds: how long it
    took.
    """

    version: str
    cluster: ClusterRef | None = None
    hub: str | None = None
    at: AwareDatetime
    seconds: float
    state: HopState
    hops: tuple[Hop, ...]
