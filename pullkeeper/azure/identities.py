"""Managed identities and their federated credentials in Azure.

Source of the rules: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import stamina
from azure.core.exceptions import HttpResponseError

from pullkeeper.azure.arm import Arm
from pullkeeper.errors import ArmThrottled, FederatedCredentialConflict, InternalError

MOST_CREDENTIALS: Final = 20
"""Federated credentials that one identity can have."""
_OURS: Final = {"managed-by": "pullkeeper"}
LENT: Final = {"pullkeeper": "lent"}
_PATIENCE: Final = timedelta(seconds=60)
"""With others who write at the same time: a write takes seconds, and a fleet may be onboarded in one go."""


class _Missing(InternalError):
    """No such identity."""


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """ours: made by Pullkeeper, by its tag. lent: somebody's who lets Pullkeeper have service accounts count as it."""

    subscription: str
    resource_group: str
    name: str
    tenant_id: str
    client_id: str
    principal_id: str
    ours: bool
    lent: bool

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{self.name}"
        )


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """Which tokens from elsewhere count as the identity: compared to the letter, a slash at the end included."""

    name: str
    issuer: str
    subject: str


class AzureIdentities:
    """Identities under one identity that may make them. Raises ArmDenied, ArmThrottled, EntraError."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    async def find(self, subscription: str, group: str, name: str) -> ManagedIdentity | None:
        at = _at(subscription, group, name)
        async with await self._client(subscription) as client:
            try:
                async with self._arm.answered(at, missing=_Missing):
                    found = await client.user_assigned_identities.get(group, name)
            except _Missing:
                return None
        return _identity(subscription, group, found)

    async def make(self, subscription: str, group: str, name: str, location: str) -> ManagedIdentity:
        """Raises InternalError where the resource group is not there."""
        body = {"location": location, "tags": _OURS}
        at = _at(subscription, group, name)
        async with await self._client(subscription) as client:
            try:
                async with self._arm.answered(at, conflicts=True):
                    made = await client.user_assigned_identities.create_or_update(group, name, body)
            except HttpResponseError as e:
                raise ArmThrottled(e.message, at) from None
        return _identity(subscription, group, made)

    async def delete(self, identity: ManagedIdentity) -> None:
        at = _at(identity.subscription, identity.resource_group, identity.name)
        async with await self._client(identity.subscription) as client:
            try:
                async with self._arm.answered(at, conflicts=True):
                    await client.user_assigned_identities.delete(identity.resource_group, identity.name)
            except HttpResponseError as e:
                raise ArmThrottled(e.message, at) from None

    async def credentials(self, identity: ManagedIdentity) -> list[FederatedCredential]:
        """All of them, over all pages."""
        async with (
            await self._client(identity.subscription) as client,
            self._arm.answered(
                _at(identity.subscription, identity.resource_group, identity.name), missing=FederatedCredentialConflict
            ),
        ):
            return [credential async for credential in _listed(client, identity)]

    async def trust(self, identity: ManagedIdentity, credential: FederatedCredential, audience: str) -> None:
        """Add a federated credential. Raises FederatedCredentialConflict: the pair has another name by now, somebody
        else has taken the last place or keeps writing (Azure takes one write per identity at a time), or the identity
        is gone.
        """
        at = _at(identity.subscription, identity.resource_group, identity.name)
        body = {
            "properties": {"issuer": credential.issuer, "subject": credential.subject, "audiences": [audience]},
        }
        async with await self._client(identity.subscription) as client:
            writes = client.federated_identity_credentials
            try:
                async for attempt in _patiently():
                    with attempt:
                        async with self._alone(at):
                            await writes.create_or_update(identity.resource_group, identity.name, credential.name, body)
            except InternalError as e:
                if any(part in e.detail for part in ("already exists", "Too many", "exceed")):
                    raise FederatedCredentialConflict(e.detail, at) from None
                raise

    async def distrust(self, identity: ManagedIdentity, name: str) -> None:
        """Remove a federated credential, if it is there."""
        at = _at(identity.subscription, identity.resource_group, identity.name)
        async with await self._client(identity.subscription) as client:
            async for attempt in _patiently():
                with attempt:
                    async with self._alone(at):
                        await client.federated_identity_credentials.delete(identity.resource_group, identity.name, name)

    @asynccontextmanager
    async def _alone(self, at: Mapping[str, str]) -> AsyncIterator[None]:
        """Around one write of a federated credential."""
        try:
            async with self._arm.answered(at, conflicts=True, missing=FederatedCredentialConflict):
                yield
        except HttpResponseError as e:
            raise _Busy(e.message, at) from None

    async def _client(self, subscription: str) -> Any:
        from azure.mgmt.msi.aio import ManagedServiceIdentityClient  # noqa: PLC0415 - as in azure_clusters

        return await self._arm.open(ManagedServiceIdentityClient, subscription)


class _Busy(FederatedCredentialConflict):
    """Somebody else writes federated credentials of the same identity."""


def _patiently() -> AsyncIterator[stamina.Attempt]:
    """Azure takes about one write per identity every four seconds, and says how long to wait."""
    return stamina.retry_context(
        on=_worth_waiting, attempts=8, timeout=_PATIENCE, wait_initial=1.0, wait_max=10.0, wait_jitter=2.0
    )


def _worth_waiting(error: Exception) -> bool | timedelta:
    return isinstance(error, (ArmThrottled, _Busy)) and error.again(_PATIENCE / 2)


async def _listed(client: Any, identity: ManagedIdentity) -> AsyncIterator[FederatedCredential]:
    async for found in client.federated_identity_credentials.list(identity.resource_group, identity.name):
        yield FederatedCredential(str(found.name), str(found.issuer), str(found.subject))


def _identity(subscription: str, group: str, found: Any) -> ManagedIdentity:
    return ManagedIdentity(
        subscription=subscription,
        resource_group=group,
        name=str(found.name),
        tenant_id=str(found.tenant_id),
        client_id=str(found.client_id),
        principal_id=str(found.principal_id),
        ours=(found.tags or {}).items() >= _OURS.items(),
        lent=(found.tags or {}).items() >= LENT.items(),
    )


def _at(subscription: str, group: str, name: str) -> dict[str, str]:
    return {"subscription": subscription, "group": group, "name": name}
