"""What goes in and out of onboarding: the request, the operation with its steps, the handover."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, Field, StrictBool, StringConstraints, ValidationInfo, model_validator

from pullkeeper.azure.identities import MOST_CREDENTIALS
from pullkeeper.model import Cluster, ClusterRef, Document, Hub, HubName, ObjectName, Target, Targets
from pullkeeper.publisher.credential_config import CredentialConfig

ResourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{2,119}$")]
"""Of a managed identity or a federated credential: Azure's rule for the latter, which is the stricter one."""
GUIDES_IDENTITY: Final = "deepintshield-pull-identity"
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9./:_@-]{3,400}$")]


class Workload(Document):
    """The publisher's application, as its installation guide deploys it."""

    image: ImageName
    replicas: Annotated[int, Field(ge=0, le=100, strict=True)] = 2
    config_secret: ObjectName = "deepintshield-config"


class Onboarding(Document):
    """Body of `POST /api/clusters`. Only `cluster` is needed; the defaults are those of the installation guide.

    hub: the name of a configured hub. Or credentialConfig (the document of the publisher) with registries and probe.
    With neither, it goes as far as the handover and ends `AwaitingFederation`; sent again with one, it completes.
    """

    cluster: ClusterRef
    hub: HubName | None = None
    credential_config: CredentialConfig | None = None
    registries: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    probe: str | None = None
    targets: Targets = (Target(service_accounts=("deepintshield-sa",)),)
    identity: ResourceName = GUIDES_IDENTITY
    federated_credential: ResourceName = "deepintshield-federated-credential"
    audience: Literal["api://AzureADTokenExchange"] = "api://AzureADTokenExchange"
    enable_workload_identity: StrictBool = False
    adopt: StrictBool = False
    retire_cron_job: StrictBool = False
    workload: Workload | None = None
    refresher: Literal["central", "in-cluster"] = "central"
    chain: Literal["entra", "kubernetes"] = "entra"
    refresher_image: ImageName | None = None
    dry_run: StrictBool = False

    @model_validator(mode="after")
    def _names_one_hub_at_most(self, info: ValidationInfo) -> Self:
        """Raises InvalidRequest, past pydantic, for what is wrong with a hub that is brought."""
        if self.hub and self.credential_config:
            raise ValueError("name a hub or bring a credentialConfig, not both")
        if self.credential_config and not (self.registries and self.probe):
            raise ValueError("a credentialConfig needs registries and probe beside it")
        if not self.credential_config and (self.registries or self.probe):
            raise ValueError("registries and probe go with a credentialConfig")
        if self.credential_config:
            Hub.parse(self._brought(), trusted_hosts=(info.context or {}).get("trusted_hosts", frozenset()))
        return self

    @model_validator(mode="after")
    def _names_whose_job_it_is(self) -> Self:
        if self.refresher == "in-cluster" and not all(target.service_accounts for target in self.targets):
            raise ValueError("refresher in-cluster needs serviceAccounts in every target: its job runs as the first")
        return self

    @model_validator(mode="after")
    def _fits_into_one_identity(self) -> Self:
        accounts = {(target.namespace, account) for target in self.targets for account in target.service_accounts}
        if len(accounts) > MOST_CREDENTIALS:
            raise ValueError(f"more than {MOST_CREDENTIALS} serviceAccounts: an identity can trust no more")
        return self

    def wanted_hub(self) -> str | Hub | None:
        """Whose tokens the cluster gets; None: that is not known yet. What is brought was validated with the rest."""
        return Hub.model_construct(**self._brought()) if self.credential_config else self.hub

    def _brought(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("credential_config", "registries", "probe")}

    @property
    def traces(self) -> tuple[object, ...]:
        """What it may leave behind, in the cluster and in Azure: two onboardings with the same are undone alike."""
        return self.targets, self.identity, self.federated_credential, self.refresher, self.workload is None

    def member(self, hub: str | Hub) -> Cluster:
        return Cluster(cluster=self.cluster, hub=hub, targets=self.targets, adopt=self.adopt, refresher=self.refresher)


class Handover(Document):
    """What the publisher must trust, and the commands that do it at Google.

    issuer and subject are what stands in the token that reaches Google; audience what its provider must allow.
    """

    tenant_id: str
    client_id: str
    object_id: str
    issuer: str
    subject: str
    audience: str
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
ENDED: frozenset[OperationStatus] = frozenset({"Succeeded", "AwaitingFederation", "Failed"})


class Result(Document):
    """handover: where there is one. seconds: from the request to the end. left: what is left, and why: by offboarding,
    or of earlier onboardings and the guide's CronJob. manifests: for the pipeline to apply, where the app cannot.
    issuer: of the cluster's service account tokens. complete: False where offboarding could not take away all that is
    Pullkeeper's.
    """

    handover: Handover | None = None
    seconds: float | None = None
    left: tuple[str, ...] = ()
    manifests: str | None = None
    issuer: str | None = None
    complete: bool = True


class OnboardingMessage(Document):
    """What lies on the queue `onboarding`."""

    operation: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Operation(Document):
    """Answer of `GET /api/operations/{id}`."""

    id: str
    kind: Kind
    status: OperationStatus = "Queued"
    cluster: ClusterRef
    dry_run: bool = False
    keep_workload: bool = False
    created_at: AwareDatetime
    updated_at: AwareDatetime
    steps: tuple[Step, ...] = ()
    result: Result | None = None
