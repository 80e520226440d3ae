"""The documents of onboarding: the request, the operation with its steps, the handover, the queue message."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from pullkeeper.azure.identities import MOST_CREDENTIALS, OURS, SHARED
from pullkeeper.clouds import Exchange
from pullkeeper.document import Document
from pullkeeper.model import Cluster, ClusterRef, ObjectName, Target, Targets
from pullkeeper.publisher.credential_config import CredentialConfig
from pullkeeper.publisher.hub import Hub, HubName

ResourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{2,119}$")]
"""Name of a managed identity or a federated credential. Azure's rule for the latter is the stricter one."""
_LONGEST_SUBJECT: Final = 127
"""Of google.subject, in bytes. STS refuses a longer one: https://github.com/google-github-actions/auth/issues/124."""
_RESERVED_TAGS: Final = ("azure", "microsoft", "windows")
"""Azure's own, by their beginning."""


def _are_free_tags(tags: dict[str, str]) -> dict[str, str]:
    """Azure compares names without regard to case."""
    names = [name.lower() for name in tags]
    if len({*names}) < len(names):
        raise ValueError("the same tag is named twice")
    if {*names} & {*OURS, *SHARED} or any(name.startswith(_RESERVED_TAGS) for name in names):
        raise ValueError(f"{', '.join((*OURS, *SHARED))}, and names with {', '.join(_RESERVED_TAGS)}, are reserved")
    return tags


Tags = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[^<>%&\\?/\x00-\x1f]{1,128}$")],
        Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{0,256}$")],
    ],
    Field(max_length=15),
    AfterValidator(_are_free_tags),
]
GUIDE_IDENTITY: Final = "deepintshield-pull-identity"
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9./:_@-]{3,400}$")]


class Workload(Document):
    """The publisher's application, as its installation guide deploys it."""

    image: ImageName
    replicas: Annotated[int, Field(ge=0, le=100, strict=True)] = 2
    config_secret: ObjectName = "deepintshield-config"


class Onboarding(Document):
    """Body of `POST /api/clusters`. Only `cluster` is needed; the defaults are those of the installation guide.

    Send `hub` (the name of a configured hub), or `credentialConfig` (the publisher's document) with `registries` and
    `probe`. Without either, the operation stops after the handover as `AwaitingFederation`; send the body again with
    one of them to complete it.
    """

    cluster: ClusterRef
    hub: HubName | None = None
    credential_config: CredentialConfig | None = None
    registries: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    probe: str | None = None
    targets: Targets = (Target(service_accounts=("deepintshield-sa",)),)
    identity: ResourceName | None = None
    identity_tags: Tags = Field(default_factory=dict)
    federated_credential: ResourceName = "deepintshield-federated-credential"
    audience: Exchange | None = None
    enable_workload_identity: StrictBool = False
    adopt: StrictBool = False
    retire_cron_job: StrictBool = False
    workload: Workload | None = None
    refresher: Literal["central", "in-cluster"] = "central"
    chain: Literal["entra", "kubernetes"] = "entra"
    refresher_image: ImageName | None = None
    dry_run: StrictBool = False

    @model_validator(mode="after")
    def _check_hub(self, info: ValidationInfo) -> Self:
        """Raises InvalidRequest, which pydantic passes through, for an invalid hub in the body."""
        if self.hub and self.credential_config:
            raise ValueError("send either hub or credentialConfig, not both")
        if self.credential_config and not (self.registries and self.probe):
            raise ValueError("credentialConfig needs registries and probe")
        if not self.credential_config and (self.registries or self.probe):
            raise ValueError("registries and probe need credentialConfig")
        if self.credential_config:
            Hub.parse(self._hub_fields(), trusted_hosts=(info.context or {}).get("trusted_hosts", frozenset()))
        return self

    @model_validator(mode="after")
    def _check_service_accounts(self) -> Self:
        if self.refresher == "in-cluster" and not all(target.service_accounts for target in self.targets):
            raise ValueError("refresher in-cluster needs serviceAccounts in every target: its job runs as the first")
        if self.trusts_cluster:
            longest = max(len(subject.encode()) for subject in self.job_subjects)
            if longest > _LONGEST_SUBJECT:
                raise ValueError(
                    f"chain kubernetes: system:serviceaccount:NAMESPACE:ACCOUNT has {longest} bytes for one target, "
                    f"and Google allows {_LONGEST_SUBJECT}: use shorter names, or the chain entra"
                )
        return self

    @model_validator(mode="after")
    def _check_credential_count(self) -> Self:
        accounts = {(target.namespace, account) for target in self.targets for account in target.service_accounts}
        if len(accounts) > MOST_CREDENTIALS:
            raise ValueError(
                f"more than {MOST_CREDENTIALS} serviceAccounts: an identity can have no more federated credentials"
            )
        return self

    @property
    def trusts_cluster(self) -> bool:
        """Whether the provider at Google trusts the cluster's own issuer."""
        return self.refresher == "in-cluster" and self.chain == "kubernetes"

    @property
    def job_subjects(self) -> list[str]:
        """The subjects of the in-cluster refreshers' tokens: the job of a target runs as its first service account."""
        accounts = ((target.namespace, target.service_accounts[0]) for target in self.targets)
        return [f"system:serviceaccount:{namespace}:{account}" for namespace, account in dict.fromkeys(accounts)]

    def wanted_hub(self) -> str | Hub | None:
        """Return the hub's name, or the hub in the body (validated already); None if the request has neither."""
        return Hub.model_construct(**self._hub_fields()) if self.credential_config else self.hub

    def _hub_fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("credential_config", "registries", "probe")}

    @property
    def footprint(self) -> tuple[object, ...]:
        """What decides which objects it creates: undoing one of two requests with the same footprint undoes both."""
        return self.targets, self.identity, self.federated_credential, self.refresher, self.workload is None

    def member(self, hub: str | Hub) -> Cluster:
        return Cluster(cluster=self.cluster, hub=hub, targets=self.targets, adopt=self.adopt, refresher=self.refresher)


class Handover(Document):
    """What the publisher must trust, and the gcloud commands that set it up.

    issuer and subject: as in the token that reaches Google. audience: what the provider must allow. identities: object
    ids of further identities of the same issuer to trust, those of clusters that refresh themselves.
    """

    tenant_id: str
    client_id: str
    object_id: str
    issuer: str
    subject: str
    audience: str
    identities: tuple[str, ...] = ()
    commands: tuple[str, ...]


Kind = Literal["onboard", "offboard"]
StepStatus = Literal["pending", "running", "done", "planned", "failed", "skipped"]


class Step(Document):
    name: str
    status: StepStatus = "pending"
    detail: str | None = None
    category: str | None = None
    remedy: str | None = None


OperationStatus = Literal["Queued", "Running", "Succeeded", "AwaitingFederation", "Failed"]
FINAL_STATUSES: frozenset[OperationStatus] = frozenset({"Succeeded", "AwaitingFederation", "Failed"})


class Result(Document):
    """seconds: from the request to the end. left: what offboarding kept, or what onboarding found of earlier ones and
    of the guide, each with the reason. manifests: for the pipeline to apply, where the app cannot. issuer: of the
    cluster's service account tokens. complete: False where offboarding could not remove everything of Pullkeeper's.
    """

    handover: Handover | None = None
    seconds: float | None = None
    left: tuple[str, ...] = ()
    manifests: str | None = None
    issuer: str | None = None
    complete: bool = True


OperationId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class OnboardingMessage(Document):
    """Message on the queue `onboarding`. turn: which of the operation's messages it is; each continues it once."""

    operation: OperationId
    turn: Annotated[int, Field(ge=0, strict=True)] = 0


class OperationSummary(Document):
    """An operation without its steps."""

    id: str
    kind: Kind
    status: OperationStatus = "Queued"
    cluster: ClusterRef
    created_at: AwareDatetime
    updated_at: AwareDatetime


class OperationsQuery(Document):
    """The query of `GET /api/operations`: of which cluster, in which status, and after which operation."""

    cluster: ClusterRef | None = None
    status: OperationStatus | None = None
    continuation: OperationId | None = None


class OperationsPage(Document):
    """The newest operation first. counts: all operations by status, listed here or not. continuation: of the next page;
    None on the last.
    """

    operations: tuple[OperationSummary, ...]
    counts: Mapping[OperationStatus, int]
    continuation: str | None = None


class Operation(OperationSummary):
    """Response of `GET /api/operations/{id}`."""

    dry_run: bool = False
    keep_workload: bool = False
    steps: tuple[Step, ...] = ()
    result: Result | None = None

    @property
    def removed_everything(self) -> bool:
        """Whether it is an offboarding that kept nothing of ours."""
        ended = self.kind == "offboard" and self.status == "Succeeded" and not (self.keep_workload or self.dry_run)
        return ended and self.result is not None and self.result.complete
