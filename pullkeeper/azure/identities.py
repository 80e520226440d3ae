"""Managed identities and their federated credentials in Azure.

Source of the rules: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pullkeeper.azure.arm import Arm
from pullkeeper.azure.quotas import Quota
from pullkeeper.errors import FederatedCredentialConflict, InternalError

MOST_CREDENTIALS: Final = 20
"""Azure's limit of federated credentials for one identity."""
SHARED: Final = {"pullkeeper": "shared"}
"""The tag with which the owner of an identity allows Pullkeeper to add federated credentials to it."""
OURS: Final = {"managed-by": "pullkeeper"}
"""The tag of identities that Pullkeeper has created."""
_CREATION: Final = timedelta(milliseconds=250)
"""Azure allows 80 in 20 s, in a subscription and region."""
_WRITE: Final = timedelta(seconds=4)
"""Azure takes about one write of an identity's federated credentials in this time, and one at a time."""


class _Missing(InternalError):
    """There is no such identity."""


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """A user-assigned identity."""

    subscription: str
    resource_group: str
    name: str
    tenant_id: str
    client_id: str
    principal_id: str
    location: str
    tags: Mapping[str, str]

    @property
    def ours(self) -> bool:
        """Whether Pullkeeper created it."""
        return self.tags.items() >= OURS.items()

    @property
    def shared(self) -> bool:
        """Whether its owner has tagged it with SHARED."""
        return self.tags.items() >= SHARED.items()

    @property
    def context(self) -> dict[str, str]:
        """What a failure reports of the identity."""
        return _context(self.subscription, self.resource_group, self.name)

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{self.name}"
        )


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """The tokens that Entra accepts for an identity. Azure compares every character, a slash at the end included.

    audience: as Azure has it; "" for one that is still to be written.
    """

    name: str
    issuer: str
    subject: str
    audience: str = ""


class AzureIdentities:
    """Identities and their federated credentials. Every call raises ArmError, EntraError."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    async def find(self, subscription: str, group: str, name: str) -> ManagedIdentity | None:
        client = await self._client(subscription)
        try:
            async with self._arm.map_errors(_context(subscription, group, name), missing=_Missing):
                found = await client.user_assigned_identities.get(group, name)
        except _Missing:
            return None
        return _parse_identity(subscription, group, found)

    async def create(
        self, subscription: str, group: str, name: str, location: str, tags: Mapping[str, str]
    ) -> ManagedIdentity:
        """Create an identity with our tag and these, or replace its tags. Raises InternalError if the resource group is
        missing, PolicyDenied, ScopeLocked.
        """
        body = {"location": location, "tags": {**tags, **OURS}}
        quota = Quota(f"identities in {subscription}/{location}", _CREATION)
        client = await self._client(subscription)
        async with self._arm.map_errors(_context(subscription, group, name), quota=quota):
            created = await client.user_assigned_identities.create_or_update(group, name, body)
        return _parse_identity(subscription, group, created)

    async def delete(self, identity: ManagedIdentity) -> None:
        client = await self._client(identity.subscription)
        async with self._arm.map_errors(identity.context):
            await client.user_assigned_identities.delete(identity.resource_group, identity.name)

    async def list_credentials(self, identity: ManagedIdentity) -> list[FederatedCredential]:
        """Read all pages of credentials. Raises FederatedCredentialConflict if the identity is gone."""
        client = await self._client(identity.subscription)
        async with self._arm.map_errors(identity.context, missing=FederatedCredentialConflict):
            return [
                FederatedCredential(
                    str(found.name), str(found.issuer), str(found.subject), ",".join(found.audiences or ())
                )
                async for found in client.federated_identity_credentials.list(identity.resource_group, identity.name)
            ]

    async def add_credential(self, identity: ManagedIdentity, credential: FederatedCredential, audience: str) -> None:
        """Add a federated credential, or update the one of that name.

        Raises FederatedCredentialConflict: another credential has this issuer and subject by now, or the identity is
        full or gone. FederatedCredentialBusy: another client is writing to it.
        """
        properties = {"issuer": credential.issuer, "subject": credential.subject, "audiences": [audience]}
        client = await self._client(identity.subscription)
        async with self._map_write_errors(identity):
            await client.federated_identity_credentials.create_or_update(
                identity.resource_group, identity.name, credential.name, {"properties": properties}
            )

    async def remove_credential(self, identity: ManagedIdentity, name: str) -> None:
        """Remove a federated credential, if it is there."""
        client = await self._client(identity.subscription)
        async with self._map_write_errors(identity):
            await client.federated_identity_credentials.delete(identity.resource_group, identity.name, name)

    def _map_write_errors(self, identity: ManagedIdentity) -> AbstractAsyncContextManager[None]:
        kind = FederatedCredentialConflict
        return self._arm.map_errors(
            identity.context, missing=kind, conflict=kind, quota=Quota(f"credentials of {identity}", _WRITE)
        )

    async def _client(self, subscription: str) -> Any:
        from azure.mgmt.msi.aio import ManagedServiceIdentityClient  # noqa: PLC0415 - as in azure/clusters.py

        return await self._arm.open(ManagedServiceIdentityClient, subscription)


def _parse_identity(subscription: str, group: str, found: Any) -> ManagedIdentity:
    return ManagedIdentity(
        subscription=subscription,
        resource_group=group,
        name=str(found.name),
        tenant_id=str(found.tenant_id),
        client_id=str(found.client_id),
        principal_id=str(found.principal_id),
        location=str(found.location),
        tags=dict(found.tags or {}),
    )


def _context(subscription: str, group: str, name: str) -> dict[str, str]:
    return {"subscription": subscription, "group": group, "name": name}
