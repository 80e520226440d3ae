"""Managed identities and federated credentials in Azure Resource Manager's stand-in, used by Microsoft's own client."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.msi.aio import ManagedServiceIdentityClient

from local.azure.entra import EXCHANGE
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


async def test_issuer_and_subject_are_unique_to_the_letter(sdk: Sdk) -> None:
    await sdk.create()
    await sdk.add()
    await sdk.add("no-slash", issuer=ISSUER.rstrip("/"))
    await sdk.add("upper-case", subject=SUBJECT.upper())

    message = "Issuer and subject combination already exists for this Managed Identity."
    assert await _error(sdk.add("again")) == (400, "BadRequest", message)
    assert await sdk.names() == ["hub", "no-slash", "upper-case"]


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
