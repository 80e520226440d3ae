"""Managed identities and federated credentials in Azure Resource Manager's stand-in, used by Microsoft's own client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.msi.aio import ManagedServiceIdentityClient

from local.azure.assertions import FederatedCredential
from local.azure.entra import AKS, EXCHANGE
from tests.local.conftest import GROUP, SUBSCRIPTION, Azure

BLUE = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Blue"
ISSUER = "https://westeurope.oic.prod-aks.azure.com/tenant/cluster/"
SUBJECT = "system:serviceaccount:hub:pull"


@dataclass(frozen=True, slots=True)
class Sdk:
    """The client, for identities in the group and for federated credentials of the identity Blue."""

    client: ManagedServiceIdentityClient

    async def create(self, name: str = "Blue", location: str = "westeurope", **tags: str) -> Any:
        return await self.client.user_assigned_identities.create_or_update(
            "Platform", name, {"location": location, "tags": tags}
        )

    async def get(self, name: str = "Blue") -> Any:
        return await self.client.user_assigned_identities.get("Platform", name)

    async def delete(self, name: str = "Blue") -> int:
        """The status."""
        status: int = await self.client.user_assigned_identities.delete("Platform", name, cls=_status)
        return status

    async def add(
        self, name: str = "hub", issuer: Any = ISSUER, subject: Any = SUBJECT, audiences: Any = (EXCHANGE,)
    ) -> Any:
        properties = {"issuer": issuer, "subject": subject, "audiences": list(audiences)}
        return await self.client.federated_identity_credentials.create_or_update(
            "Platform", "Blue", name, {"properties": properties}
        )

    async def names(self) -> list[str]:
        listed = self.client.federated_identity_credentials.list("Platform", "Blue")
        return [str(one.name) async for one in listed]

    async def remove(self, name: str = "hub") -> int:
        """The status."""
        removed = self.client.federated_identity_credentials.delete
        status: int = await removed("Platform", "Blue", name, cls=_status)
        return status


def _status(answer: Any, *_: object) -> int:
    status: int = answer.http_response.status_code
    return status


async def _error(call: Awaitable[Any]) -> tuple[int | None, str | None, str]:
    """Status, code and message, as the SDK reads them."""
    with pytest.raises(HttpResponseError) as raised:
        await call
    assert raised.value.error is not None
    return raised.value.status_code, raised.value.error.code, str(raised.value.error.message)


@pytest.fixture
async def sdk(azure: Azure) -> AsyncIterator[Sdk]:
    azure.arm.federated_credentials.writing = timedelta()
    client = ManagedServiceIdentityClient(azure.credential, SUBSCRIPTION, base_url=azure.url, retry_total=0)
    async with client:
        yield Sdk(client)


async def test_an_identity_reads_as_azure_writes_it_and_entra_knows_it(azure: Azure, sdk: Sdk) -> None:
    created = await sdk.create(team="platform")
    found = await sdk.get("blue")
    claims = azure.entra.verify(azure.entra.token(azure.entra.identities[created.client_id], AKS), AKS)

    assert found.as_dict() == created.as_dict()
    assert found.id == BLUE.replace("resourceGroups", "resourcegroups")
    assert (found.location, found.tags, found.tenant_id) == ("westeurope", {"team": "platform"}, azure.entra.tenant)
    assert (claims["oid"], claims["appid"]) == (found.principal_id, found.client_id)


async def test_a_second_put_keeps_the_ids_and_replaces_the_tags(sdk: Sdk) -> None:
    put = sdk.client.user_assigned_identities.create_or_update
    before = await sdk.create(location="West Europe", a="1")

    assert await put("Platform", "blue", {"location": "westeurope"}, cls=_status) == 200
    after = await sdk.get()
    assert (before.client_id, before.principal_id) == (after.client_id, after.principal_id)
    assert (before.tags, after.tags) == ({"a": "1"}, {})


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (lambda sdk: sdk.create(location="northeurope"), 409, "InvalidResourceLocation"),
        (lambda sdk: sdk.create("green", location=""), 400, "LocationRequired"),
        (lambda sdk: sdk.create("-green"), 400, "BadRequest"),
        (lambda sdk: sdk.get("green"), 404, "ResourceNotFound"),
        (lambda sdk: sdk.client.user_assigned_identities.get("other", "Blue"), 404, "ResourceGroupNotFound"),
        (
            lambda sdk: anext(sdk.client.user_assigned_identities.list_by_resource_group("Platform")),
            501,
            "NotImplemented",
        ),
    ],
)
async def test_an_invalid_call_is_refused(
    azure: Azure, sdk: Sdk, call: Callable[[Sdk], Awaitable[Any]], status: int, code: str
) -> None:
    await sdk.create()

    assert (await _error(call(sdk)))[:2] == (status, code)
    assert len(azure.arm.writes) == 1


async def test_a_deleted_identity_is_gone_with_its_credentials(azure: Azure, sdk: Sdk) -> None:
    first = await sdk.create()
    await sdk.add()

    assert [await sdk.delete(), await sdk.delete("blue")] == [200, 204]
    with pytest.raises(ResourceNotFoundError, match="userAssignedIdentities/Blue' under resource group 'Platform'"):
        await sdk.get()
    assert first.client_id not in azure.entra.identities
    assert azure.arm.federated_credentials.find_trusted(first.client_id) == []
    assert (await sdk.create()).client_id != first.client_id
    assert await sdk.names() == []


async def test_a_credential_is_replaced_under_its_name_and_removed_once(azure: Azure, sdk: Sdk) -> None:
    identity = await sdk.create()
    created = await sdk.add()
    await sdk.add("HUB", subject=f"{SUBJECT}-2")

    assert created.id == f"{identity.id}/federatedIdentityCredentials/hub"
    assert (created.issuer, created.subject, created.audiences) == (ISSUER, SUBJECT, [EXCHANGE])
    trusted = azure.arm.federated_credentials.find_trusted(identity.client_id)
    assert [FederatedCredential(ISSUER, f"{SUBJECT}-2", EXCHANGE)] == trusted
    assert await sdk.names() == ["hub"]
    assert [await sdk.remove(), await sdk.remove()] == [200, 204]
    assert [write.method for write in azure.arm.writes] == ["PUT", "PUT", "PUT", "DELETE"]


async def test_issuer_and_subject_are_unique_to_the_letter(sdk: Sdk) -> None:
    await sdk.create()
    await sdk.add()
    await sdk.add("no-slash", issuer=ISSUER.rstrip("/"))
    await sdk.add("upper-case", subject=SUBJECT.upper())

    message = "Issuer and subject combination already exists for this Managed Identity."
    assert await _error(sdk.add("again")) == (400, "BadRequest", message)
    assert await sdk.names() == ["hub", "no-slash", "upper-case"]


async def test_an_identity_has_at_most_twenty_credentials_in_pages_of_ten(azure: Azure, sdk: Sdk) -> None:
    azure.arm.federated_credentials.rate.burst = 1000
    await sdk.create()
    for number in range(20):
        await sdk.add(f"hub-{number:02}", subject=f"{SUBJECT}{number}")

    status, _, message = await _error(sdk.add("hub-20", subject=f"{SUBJECT}20"))
    await sdk.add("hub-19", subject=f"{SUBJECT}20")

    assert (status, "at most 20" in message) == (400, True)
    assert [f"hub-{number:02}" for number in range(20)] == await sdk.names()
    assert azure.journal.count("GET", "/federatedIdentityCredentials$") == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"audiences": []}, "Federated identity credentials must have exactly one audience."),
        ({"audiences": [EXCHANGE, "other"]}, "Federated identity credentials must have exactly one audience."),
        ({"issuer": ""}, "Federated Identity Credential from HTTP body has empty properties"),
        ({"subject": None}, "Federated Identity Credential from HTTP body has empty properties"),
        ({"name": "hu"}, "Federated Identity Credential name 'hu' is invalid."),
        ({"name": "_hub"}, "Federated Identity Credential name '_hub' is invalid."),
        ({"name": "h" * 121}, f"Federated Identity Credential name '{'h' * 121}' is invalid."),
        ({"subject": "system:serviceaccount:*:pull"}, "wildcards"),
        ({"subject": "s" * 601}, "at most 600"),
        ({"issuer": "not a URL"}, "is a URL"),
    ],
)
async def test_an_invalid_credential_is_refused(sdk: Sdk, wrong: dict[str, Any], message: str) -> None:
    await sdk.create()

    status, code, actual = await _error(sdk.add(**wrong))

    assert (status, code, message in actual) == (400, "BadRequest", True)
    assert await sdk.names() == []


@pytest.mark.parametrize("valid", [{"name": "h" * 120}, {"name": "0-_"}, {"subject": "s" * 600}])
async def test_a_credential_at_the_limits_is_accepted(sdk: Sdk, valid: dict[str, Any]) -> None:
    await sdk.create()
    await sdk.add(**valid)

    assert len(await sdk.names()) == 1


async def test_of_two_writes_at_once_one_is_refused(azure: Azure, sdk: Sdk) -> None:
    """Another identity can be written meanwhile."""
    identity = await sdk.create()
    await sdk.create("green")
    azure.arm.federated_credentials.writing = timedelta(seconds=0.5)
    green = {"properties": {"issuer": ISSUER, "subject": SUBJECT, "audiences": [EXCHANGE]}}

    results = await asyncio.gather(
        sdk.add("one"),
        sdk.add("two", subject=f"{SUBJECT}2"),
        sdk.client.federated_identity_credentials.create_or_update("Platform", "green", "hub", green),
        return_exceptions=True,
    )

    [refused] = [one for one in results if isinstance(one, HttpResponseError)]
    assert refused.status_code == 409
    assert refused.error is not None
    assert refused.error.code == "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
    assert f"for the managed identity '{identity.id.lower()}'" in str(refused.error.message)
    assert len(await sdk.names()) == 1


async def test_injected_conflicts_change_nothing(azure: Azure, sdk: Sdk) -> None:
    await sdk.create()
    azure.arm.federated_credentials.conflicts = 2

    assert [(await _error(sdk.add()))[0], (await _error(sdk.remove()))[0]] == [409, 409]
    await sdk.add()
    assert await sdk.names() == ["hub"]


async def test_an_identity_takes_one_write_in_four_seconds(azure: Azure, sdk: Sdk) -> None:
    await sdk.create()
    for number in range(5):
        await sdk.add(subject=f"{SUBJECT}{number}")

    with pytest.raises(HttpResponseError) as raised:
        await sdk.add()
    azure.clock.advance(timedelta(seconds=4))
    await sdk.add()

    response: Any = raised.value.response
    assert (raised.value.status_code, 0 < int(response.headers["Retry-After"]) <= 4) == (429, True)


async def test_a_credential_needs_its_identity(sdk: Sdk) -> None:
    errors = [(await _error(call))[:2] for call in (sdk.add(), sdk.names(), sdk.remove())]

    assert errors == [(404, "ParentResourceNotFound")] * 3
