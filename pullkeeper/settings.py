"""Every setting, read from the environment when it is first needed.

Lazily, because Python 3.13 on Flex Consumption has been seen to hide app settings while the app is being imported. A
wrong setting does not raise where it is read: it is a problem that `GET /api/status` reports, and only what needs the
setting fails. The documentation has a row for each setting; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, PlainValidator, PrivateAttr, StringConstraints, ValidationError, ValidationInfo

from pullkeeper.clouds import CLOUDS, AzureCloud, CloudName
from pullkeeper.document import Document
from pullkeeper.documentation import Documentation
from pullkeeper.errors import InvalidSetting
from pullkeeper.hubs import Hubs
from pullkeeper.setting_problems import Problem, find_problems, is_host, split

_Url = Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[a-z0-9]*)?$")]
_DocumentationUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]{1,100}){0,20}/?$"),
]
Service = Literal["blob", "queue", "table"]
STORAGE: Final = (
    "AZURE_CLOUD",
    *(
        f"AzureWebJobsStorage{part}"
        for part in ("", "__accountName", "__queueServiceUri", "__tableServiceUri", "__credential", "__clientId")
    ),
)
"""What the app needs to reach its tables and queues."""
ONBOARDING: Final = ("ARM_ENDPOINT", "AZURE_AUTHORITY_HOST", "ONBOARDING_SCOPES", "TRUSTED_GOOGLE_HOSTS")
"""What onboarding and offboarding need beside them."""


def _parse_hubs(value: Any, info: ValidationInfo) -> Hubs:
    trusted: frozenset[str] = (info.context or {}).get("trusted_hosts", frozenset())
    return Hubs.parse(value, trusted)


class Settings(Document):
    """The aliases are the names of the app settings. One that is wrong is at its default here: `require` guards what
    must not run with that.
    """

    hubs: Annotated[Hubs, PlainValidator(_parse_hubs), Field(alias="HUBS")] = Field(default_factory=Hubs)
    """The named hubs, as JSON: `{"name": {"credentialConfig": {...}, "registries": [...], "probe": "..."}}`."""

    schedule: Annotated[str, Field(alias="REFRESH_SCHEDULE")] = ""
    """NCRONTAB of the timer. The host reads it; the app only checks it."""

    trusted_google_hosts: Annotated[str, Field(alias="TRUSTED_GOOGLE_HOSTS")] = ""
    """Hosts, comma-separated, that a hub may name instead of Google's: a private endpoint, or the local cloud."""

    client_id: Annotated[str | None, Field(alias="AZURE_CLIENT_ID")] = None
    """The client id of the app's user-assigned identity. Without it the system-assigned one is used."""

    onboarding_client_id: Annotated[str | None, Field(alias="ONBOARDING_CLIENT_ID")] = None
    """The client id of the stronger identity that onboards. Without it one identity does both."""

    onboarding_scopes: Annotated[str, Field(alias="ONBOARDING_SCOPES")] = ""
    """Subscriptions and resource groups (resource ids, comma-separated) whose clusters may be onboarded; none else."""

    onboarding_wait_hours: Annotated[int, Field(alias="ONBOARDING_WAIT_HOURS", ge=1, le=168)] = 24
    """For how long an operation may wait for Azure in all: for a service that is throttling, or a change under way."""

    cloud_name: Annotated[CloudName, Field(alias="AZURE_CLOUD")] = "AzurePublic"
    """The Azure cloud: addresses and audiences follow from it."""

    arm_endpoint: Annotated[_Url | None, Field(alias="ARM_ENDPOINT")] = None
    """Azure Resource Manager at another address than the cloud's: the local cloud."""

    authority_host: Annotated[_Url | None, Field(alias="AZURE_AUTHORITY_HOST")] = None
    """Entra at another address than the cloud's. Refreshers that run in a cluster ask there."""

    documentation_url: Annotated[_DocumentationUrl, Field(alias="DOCUMENTATION_URL")] = Documentation().base
    """The address of the folder that contains `docs`: where remedies link to the pages of the runbook."""

    storage: Annotated[str | None, Field(alias="AzureWebJobsStorage", repr=False)] = None
    """A connection string: for development only (Azurite)."""

    storage_account: Annotated[
        str | None, Field(alias="AzureWebJobsStorage__accountName"), StringConstraints(pattern=r"^[a-z0-9]{3,24}$")
    ] = None
    """The storage account by name, reached with an identity; its addresses are those of the cloud."""

    blob_service: Annotated[_Url | None, Field(alias="AzureWebJobsStorage__blobServiceUri")] = None
    queue_service: Annotated[_Url | None, Field(alias="AzureWebJobsStorage__queueServiceUri")] = None
    table_service: Annotated[_Url | None, Field(alias="AzureWebJobsStorage__tableServiceUri")] = None
    """The storage account by addresses. The host needs blob (locks, timer) and queue; the app needs queue and table."""

    storage_credential: Annotated[
        str | None,
        Field(alias="AzureWebJobsStorage__credential"),
        StringConstraints(pattern=r"(?i)^managedidentity$"),
    ] = None
    storage_client_id: Annotated[str | None, Field(alias="AzureWebJobsStorage__clientId")] = None
    """The identity that reaches the storage account. Without it that of AZURE_CLIENT_ID does."""

    application_insights: Annotated[str | None, Field(alias="APPLICATIONINSIGHTS_CONNECTION_STRING", repr=False)] = None
    export: Annotated[str, Field(alias="PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY")] = ""
    exported_logger: Annotated[str, Field(alias="PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME")] = ""
    traces_exporter: Annotated[str, Field(alias="OTEL_TRACES_EXPORTER")] = ""
    """Read by Microsoft's worker: where events go, whether they are exported, those of which logger, and whether a span
    is exported for every call too.
    """

    _problems: tuple[Problem, ...] = PrivateAttr(())

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read all settings; never raises. A setting without a value counts as not set."""
        names = [str(field.alias) for field in cls.model_fields.values()]
        given = {name: environment[name] for name in names if environment.get(name)}
        context = {"trusted_hosts": _valid_hosts(given.get("TRUSTED_GOOGLE_HOSTS", ""))}
        faults: dict[str, str] = {}
        try:
            settings = cls.model_validate(given, context=context)
        except ValidationError as e:
            faults = {str(fault["loc"][0]): fault["msg"] for fault in e.errors()}
            right = {name: value for name, value in given.items() if name not in faults}
            settings = cls.model_validate(right, context=context)
        if settings.hubs.faults:
            faults["HUBS"] = "; ".join(settings.hubs.faults.values())
        problems = find_problems(given, faults, environment, names)
        settings._problems = tuple(problems)  # noqa: SLF001 - its own
        return settings

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is missing, wrong or misspelled."""
        return self._problems

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self._problems if problem.severity == "error")

    def fault(self, *names: str) -> InvalidSetting | None:
        """Return the failure for those of these settings that are missing or wrong, None if there are none."""
        found = [problem.detail for problem in self.errors if problem.setting in names]
        return InvalidSetting("; ".join(found)) if found else None

    def require(self, *names: str) -> None:
        """Raise InvalidSetting that names those of these settings that are missing or wrong."""
        if fault := self.fault(*names):
            raise fault

    def storage_address(self, service: Service) -> str:
        """The address of a storage service that has no connection string. Raises InvalidSetting if neither it nor the
        account's name is set.
        """
        self.require(f"AzureWebJobsStorage__{service}ServiceUri")
        own: str | None = getattr(self, f"{service}_service")
        return own or f"https://{self.storage_account}.{service}.{self.cloud.storage}"

    @property
    def cloud(self) -> AzureCloud:
        """The cloud, with the addresses that settings override."""
        named = CLOUDS[self.cloud_name]
        return replace(named, arm=self.arm_endpoint or named.arm, authority=self.authority_host or named.authority)

    @property
    def documentation(self) -> Documentation:
        return Documentation(self.documentation_url.rstrip("/"))

    @property
    def has_one_identity(self) -> bool:
        """Whether the identity that refreshes onboards too."""
        return self.onboarding_client_id in {None, self.client_id}

    @property
    def onboarding_wait(self) -> timedelta:
        return timedelta(hours=self.onboarding_wait_hours)

    @property
    def allowed_scopes(self) -> frozenset[str]:
        """In lower case: Azure compares ids without regard to case."""
        return frozenset(split(self.onboarding_scopes.lower()))

    @property
    def trusted_hosts(self) -> frozenset[str]:
        return _valid_hosts(self.trusted_google_hosts)


def _valid_hosts(text: str) -> frozenset[str]:
    return frozenset(filter(is_host, split(text)))
