"""The documents of onboarding: the request, the operation with its steps, the handover, the queue message."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AwareDatetime,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from pullkeeper.azure.identities import MOST_CREDENTIALS
from pullkeeper.clouds import Exchange
from pullkeeper.document import Document
from pullkeeper.model import Cluster, ClusterRef, Target, Targets, named_in
from pullkeeper.onboarding.tags import Tags
from pullkeeper.onboarding.workload import ImageName, Workload
from pullkeeper.publisher.credential_config import CredentialConfig
from pullkeeper.publisher.hub import Hub, HubName
from pullkeeper.service_accounts import ServiceAccount

ResourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{2,119}$")]
"""Name of a managed identity or a federated credential. Azure's rule for the latter is the stricter one."""
_LONGEST_SUBJECT: Final = 127
"""Of google.subject, in bytes. STS refuses a longer one: https://github.com/google-github-actions/auth/issues/124."""


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
    targets: Targets = (Target(service_accounts=(ServiceAccount(name="deepintshield-sa", federate=True),)),)
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
    def _check_in_cluster(self) -> Self:
        """An in-cluster refresher is a job in each target's namespace, which runs as the first of its accounts."""
        in_cluster = self.refresher == "in-cluster"
        if in_cluster and len(self.named) < len(self.targets):
            raise ValueError("refresher in-cluster needs named namespaces: its jobs run there, so no namespaceSelector")
        if in_cluster and not all(target.service_accounts for target in self.named):
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
    def _check_targets(self) -> Self:
        count = len(self.federated_accounts)
        if count > MOST_CREDENTIALS:
            raise ValueError(
                f"{count} service accounts to federate, and an identity can have {MOST_CREDENTIALS} federated "
                "credentials. Accounts that only name the secret need no federate; the jobs of in-cluster need one each"
            )
        if self.workload and not self.named:
            raise ValueError("workload needs a target with a namespace: it is deployed into the first one")
        return self

    @property
    def named(self) -> tuple[Target, ...]:
        """The targets that were named one by one."""
        return named_in(self.targets)

    @property
    def federated_accounts(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of each service account whose tokens are to be trusted as the cluster's identity: those
        that ask for it, and those that in-cluster refreshers run under.
        """
        has_job = self.refresher == "in-cluster"
        accounts = (
            (target.namespace, name) for target in self.named for name in target.list_federated(has_job=has_job)
        )
        return tuple(dict.fromkeys(accounts))

    @property
    def trusts_cluster(self) -> bool:
        """Whether the provider at Google trusts the cluster's own issuer."""
        return self.refresher == "in-cluster" and self.chain == "kubernetes"

    @property
    def job_subjects(self) -> list[str]:
        """The subjects of the in-cluster refreshers' tokens: the job of a target runs as its first service account."""
        accounts = ((target.namespace, target.account_names[0]) for target in self.named)
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
    """runbook: the address of the category's page, set where the step is shown."""

    name: str
    status: StepStatus = "pending"
    detail: str | None = None
    category: str | None = None
    remedy: str | None = None
    runbook: str | None = None


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
    """An operation without its steps. keep_workload: of an offboarding."""

    id: str
    kind: Kind
    status: OperationStatus = "Queued"
    cluster: ClusterRef
    created_at: AwareDatetime
    updated_at: AwareDatetime
    dry_run: bool = False
    keep_workload: bool = False


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

    steps: tuple[Step, ...] = ()
    result: Result | None = None

    @property
    def removed_everything(self) -> bool:
        """Whether it is an offboarding that kept nothing of ours."""
        ended = self.kind == "offboard" and self.status == "Succeeded" and not (self.keep_workload or self.dry_run)
        return ended and self.result is not None and self.result.complete
