"""Every setting, read from the environment once, when it is first needed.

Lazily, because Python 3.13 on Flex Consumption has been seen to hide app settings while the app is being imported.
The README has a row for each; a test compares the two.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import Field, Json, StringConstraints, field_validator, model_validator

from pullkeeper.model import Document, Hub, HubName

_HOST: Final = re.compile(r"[a-z0-9.-]+(:[0-9]{1,5})?")
_Url = Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[a-z0-9]*)?$")]


class Settings(Document):
    """The aliases are the names of the app settings. REFRESH_SCHEDULE is not here: the platform itself reads it."""

    hubs: Annotated[Json[dict[HubName, Hub]], Field(alias="HUBS")] = Field(default_factory=dict)
    """The named hubs, as JSON: `{"name": {"credentialConfig": {...}, "registries": [...], "probe": "..."}}`."""

    trusted_google_hosts: Annotated[str, Field(alias="TRUSTED_GOOGLE_HOSTS")] = ""
    """Hosts, comma-separated, that may stand for Google's in a hub: a private endpoint, or the local cloud."""

    client_id: Annotated[str | None, Field(alias="AZURE_CLIENT_ID")] = None
    """The client id of the app's user-assigned identity. Without it the system-assigned one is used."""

    onboarding_client_id: Annotated[str | None, Field(alias="ONBOARDING_CLIENT_ID")] = None
    """The client id of the stronger identity that onboards. Without it one identity does both."""

    onboarding_scopes: Annotated[str, Field(alias="ONBOARDING_SCOPES")] = ""
    """Subscriptions and resource groups (resource ids, comma-separated) whose clusters may be onboarded; none else."""

    arm_endpoint: Annotated[_Url, Field(alias="ARM_ENDPOINT")] = "https://management.azure.com"
    """Azure Resource Manager: another one in sovereign clouds."""

    authority_host: Annotated[_Url, Field(alias="AZURE_AUTHORITY_HOST")] = "https://login.microsoftonline.com"
    """Entra: another one in sovereign clouds. Refreshers that run in a cluster ask there."""

    storage: Annotated[str | None, Field(alias="AzureWebJobsStorage", repr=False)] = None
    """A connection string: for one machine only (Azurite)."""

    table_service: Annotated[_Url | None, Field(alias="AzureWebJobsStorage__tableServiceUri")] = None
    queue_service: Annotated[_Url | None, Field(alias="AzureWebJobsStorage__queueServiceUri")] = None
    """The storage account by identity: what infra sets in Azure."""

    @field_validator("trusted_google_hosts")
    @classmethod
    def _are_listed(cls, value: str) -> str:
        if not all(_HOST.fullmatch(host) for host in _listed(value)):
            raise ValueError("must be hosts (with a port, if any) in lower case, separated by commas")
        return value

    @model_validator(mode="after")
    def _names_a_storage_account(self) -> Self:
        if not (self.storage or (self.table_service and self.queue_service)):
            raise ValueError(
                "set AzureWebJobsStorage__tableServiceUri and AzureWebJobsStorage__queueServiceUri, "
                "or AzureWebJobsStorage for development"
            )
        return self

    @property
    def allowed_scopes(self) -> frozenset[str]:
        """In lower case: Azure compares ids without regard to case."""
        return _listed(self.onboarding_scopes.lower())

    @property
    def trusted_hosts(self) -> frozenset[str]:
        return _listed(self.trusted_google_hosts)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Raises InvalidRequest that names each setting that is wrong. A setting without a value counts as not set."""
        known = {field.alias: environment.get(field.alias or "") for field in cls.model_fields.values()}
        return cls.parse(
            {name: value for name, value in known.items() if value},
            trusted_hosts=_listed(environment.get("TRUSTED_GOOGLE_HOSTS", "")),
        )


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())
