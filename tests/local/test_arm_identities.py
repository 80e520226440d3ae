"""Managed identities and their federated credentials in Azure Resource Manager's stand-in, asked by Microsoft's own
client.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.msi.aio import ManagedServiceIdentityClient

from local.azure.arm import ONBOARDER, READER, Arm
from local.azure.assertions import FederatedCredential
from local.azure.caller import Caller
from local.azure.entra import AKS, EXCHANGE, Entra, Identity
from local.clock import Clock
from local.serving import Authority, Server

SUBSCRIPTION = "5eed5eed-0000-4000-8000-000000000001"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/Platform"
BLUE = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Blue"
LOWER = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/Platform/providers/Microsoft.ManagedIdentity"
ISSUER = "https://westeurope.oic.prod-aks.azure.com/tenant/cluster/"
SUBJECT = "system:serviceaccount:hub:pull"


@dataclass(frozen=True, slots=True)
class Azure:
    clock: Clock
    entra: Entra
    caller: Identity
    arm: Arm
    client: ManagedServiceIdentityClient

    async def make(self, name: str = "Blue", location: str = "westeurope", **tags: str) -> Any:
        return await self.client.user_assigned_identities.create_or_update(
            "Platform", name, {"location": location, "tags": tags}
        )

    async def trust(
        self, name: str = "hub", issuer: Any = ISSUER, subject: Any = SUBJECT, audiences: Any = (EXCHANGE,)
    ) -> Any:
        """A federated credential of Blue's."""
        properties = {"issuer": issuer, "subject": subject, "audiences": list(audiences)}
        return await self.client.federated_identity_credentials.create_or_update(
            "Platform", "Blue", name, {"properties": properties}
        )

    async def names(self) -> list[str]:
        listed = self.client.federated_identity_credentials.list("Platform", "Blue")
        return [str(one.name) async for one in listed]

    async def distrust(self, name: str) -> int:
        """The status of the answer."""
        deleted = self.client.federated_identity_credentials.delete
        status: int = await deleted("Platform", "Blue", name, cls=_status)
        return status


@pytest.fixture
async def azure(authority: Authority) -> AsyncIterator[Azure]:
    clock = Clock()
    entra = Entra(clock)
    caller = entra.add_identity("pullkeeper")
    arm = Arm(entra, clock)
    arm.add_group(SUBSCRIPTION, "platform")
    arm.assign(caller.principal_id, GROUP, ONBOARDER)
    arm.federated_credentials.writing = timedelta()
    server = Server(arm.application, authority=authority)
    await server.start()
    async with ManagedServiceIdentityClient(
        Caller(entra, caller), SUBSCRIPTION, base_url=server.url, retry_total=0
    ) as client:
        yield Azure(clock, entra, caller, arm, client)
    await server.stop()


def _status(answer: Any, *_: object) -> int:
    """What the SDK keeps to itself."""
    status: int = answer.http_response.status_code
    return status


def _patient(azure: Azure) -> None:
    """Lift the limit on writes, for tests of something else."""
    azure.arm.federated_credentials.rate.burst = azure.arm.identities.rate.burst = 1000


async def _refused(call: Callable[[], Any]) -> tuple[int | None, str | None, str | None]:
    """Status, code and message, as the SDK reads them."""
    with pytest.raises(HttpResponseError) as raised:
        await call()
    error = raised.value.error
    return raised.value.status_code, getattr(error, "code", None), getattr(error, "message", None)


async def test_an_identity_reads_as_azure_writes_it(azure: Azure) -> None:
    made = await azure.make(team="platform")

    found = await azure.client.user_assigned_identities.get("PLATFORM", "blue")

    assert found.as_dict() == made.as_dict()
    assert found.id == f"{LOWER}/userAssignedIdentities/Blue"
    assert (found.name, found.type) == ("Blue", "Microsoft.ManagedIdentity/userAssignedIdentities")
    assert (found.location, found.tags) == ("westeurope", {"team": "platform"})
    assert found.tenant_id == azure.entra.tenant
    assert found.client_id != found.principal_id


async def test_entra_gives_tokens_for_what_was_made_here(azure: Azure) -> None:
    made = await azure.make()

    claims = azure.entra.verify(azure.entra.token(azure.entra.identities[made.client_id], AKS), AKS)

    assert (claims["oid"], claims["appid"]) == (made.principal_id, made.client_id)
    assert claims["xms_mirid"] == made.id


async def test_making_again_keeps_the_ids_and_replaces_the_tags(azure: Azure) -> None:
    body = {"location": "West Europe", "tags": {"a": "1"}}
    put = azure.client.user_assigned_identities.create_or_update

    statuses = [await put("Platform", "Blue", body, cls=_status)]
    before = await azure.client.user_assigned_identities.get("Platform", "Blue")
    statuses.append(await put("Platform", "blue", {"location": "westeurope"}, cls=_status))
    after = await azure.client.user_assigned_identities.get("Platform", "Blue")

    assert statuses == [201, 200]
    assert (before.client_id, before.principal_id) == (after.client_id, after.principal_id)
    assert (before.tags, after.tags) == ({"a": "1"}, {})


async def test_an_identity_stays_where_it_is(azure: Azure) -> None:
    await azure.make()

    status, code, _ = await _refused(lambda: azure.make(location="northeurope"))

    assert (status, code) == (409, "InvalidResourceLocation")


async def test_an_identity_needs_a_location_and_a_name(azure: Azure) -> None:
    put = azure.client.user_assigned_identities.create_or_update

    assert (await _refused(lambda: put("Platform", "Blue", {"tags": {}})))[:2] == (400, "LocationRequired")
    assert (await _refused(lambda: azure.make("-blue")))[0] == 400
    assert azure.arm.writes == []


async def test_what_is_deleted_is_gone_from_entra_too_and_deleting_again_is_fine(azure: Azure) -> None:
    made = await azure.make()
    await azure.trust()
    delete = azure.client.user_assigned_identities.delete

    assert [await delete("Platform", name, cls=_status) for name in ("Blue", "blue")] == [200, 204]
    with pytest.raises(ResourceNotFoundError, match="userAssignedIdentities/Blue' under resource group 'Platform'"):
        await azure.client.user_assigned_identities.get("Platform", "Blue")
    assert made.client_id not in azure.entra.identities
    assert azure.arm.federated_credentials.trusted(made.client_id) == []


async def test_a_new_identity_has_nothing_of_its_namesake(azure: Azure) -> None:
    first = await azure.make()
    await azure.trust()
    await azure.client.user_assigned_identities.delete("Platform", "Blue")

    second = await azure.make()

    assert first.client_id != second.client_id
    assert await azure.names() == []


async def test_a_group_that_is_not_there_is_named(azure: Azure) -> None:
    azure.arm.assign(azure.caller.principal_id, f"/subscriptions/{SUBSCRIPTION}", ONBOARDER)
    put = azure.client.user_assigned_identities.create_or_update

    refused = await _refused(lambda: put("elsewhere", "Blue", {"location": "westeurope"}))

    assert refused == (404, "ResourceGroupNotFound", "Resource group 'elsewhere' could not be found.")


async def test_the_identities_of_a_group_are_listed_over_all_pages(azure: Azure) -> None:
    azure.arm.identities.page_size = 2
    for number in range(5):
        azure.arm.identities.add(f"{BLUE}{number}")
    azure.arm.identities.add(BLUE.replace("Platform", "Other"))

    listed = azure.client.user_assigned_identities.list_by_resource_group("platform")

    assert [f"Blue{number}" for number in range(5)] == [one.name async for one in listed]


async def test_a_credential_reads_as_it_was_written(azure: Azure) -> None:
    await azure.make()

    made = await azure.trust()

    found = await azure.client.federated_identity_credentials.get("Platform", "Blue", "HUB")
    assert found.as_dict() == made.as_dict()
    assert found.id == f"{LOWER}/userAssignedIdentities/Blue/federatedIdentityCredentials/hub"
    assert found.type == "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials"
    assert (found.issuer, found.subject, found.audiences) == (ISSUER, SUBJECT, [EXCHANGE])


async def test_a_credential_is_replaced_under_its_name(azure: Azure) -> None:
    identity = await azure.make()
    await azure.trust()

    await azure.trust(subject="system:serviceaccount:hub:other")

    trusted = azure.arm.federated_credentials.trusted(identity.client_id)
    assert [FederatedCredential(ISSUER, "system:serviceaccount:hub:other", EXCHANGE)] == trusted


async def test_the_same_pair_under_another_name_is_refused(azure: Azure) -> None:
    await azure.make()
    await azure.trust()

    status, _, message = await _refused(lambda: azure.trust("again"))

    assert (status, message) == (400, "Issuer and subject combination already exists for this Managed Identity.")
    assert await azure.names() == ["hub"]


async def test_pairs_are_compared_to_the_letter(azure: Azure) -> None:
    await azure.make()
    await azure.trust()

    await azure.trust("no-slash", issuer=ISSUER.rstrip("/"))
    await azure.trust("upper-case", subject=SUBJECT.upper())

    assert await azure.names() == ["hub", "no-slash", "upper-case"]


async def test_an_identity_has_room_for_twenty(azure: Azure) -> None:
    """Replacing one of them still goes; a further one does not."""
    _patient(azure)
    await azure.make()
    for number in range(20):
        await azure.trust(f"hub-{number:02}", subject=f"{SUBJECT}{number}")

    status, _, message = await _refused(lambda: azure.trust("hub-20", subject=f"{SUBJECT}20"))
    await azure.trust("hub-19", subject=f"{SUBJECT}20")

    assert status == 400
    assert message
    assert "at most 20" in message
    assert [f"hub-{number:02}" for number in range(20)] == await azure.names()


async def test_lists_come_in_pages_of_the_size_asked_for(azure: Azure) -> None:
    _patient(azure)
    await azure.make()
    azure.arm.federated_credentials.page_size = 3
    for number in range(5):
        await azure.trust(f"hub-{number}", subject=f"{SUBJECT}{number}")

    listed = azure.client.federated_identity_credentials.list("Platform", "Blue", top=2).by_page()

    assert [len([one async for one in page]) async for page in listed] == [2, 2, 1]


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
        ({"name": "hub.pull"}, "Federated Identity Credential name 'hub.pull' is invalid."),
        ({"subject": "system:serviceaccount:*:pull"}, None),
        ({"subject": "s" * 601}, None),
        ({"issuer": f"{ISSUER}{'i' * 600}"}, None),
        ({"issuer": "not a URL"}, None),
    ],
)
async def test_a_credential_against_the_rules_is_refused(
    azure: Azure, wrong: dict[str, Any], message: str | None
) -> None:
    await azure.make()

    status, code, told = await _refused(lambda: azure.trust(**wrong))

    assert (status, code) == (400, "BadRequest")
    assert message in {None, told}
    assert await azure.names() == []


@pytest.mark.parametrize("right", [{"name": "h" * 120}, {"name": "0-_"}, {"subject": "s" * 600}])
async def test_a_credential_at_the_edge_of_the_rules_is_taken(azure: Azure, right: dict[str, Any]) -> None:
    await azure.make()

    await azure.trust(**right)

    assert len(await azure.names()) == 1


async def test_two_writes_at_once_do_not_both_go(azure: Azure) -> None:
    identity = await azure.make()
    azure.arm.federated_credentials.writing = timedelta(seconds=0.5)

    results = await asyncio.gather(
        azure.trust("one"), azure.trust("two", subject=f"{SUBJECT}2"), return_exceptions=True
    )
    await azure.distrust("none")

    refused = [one for one in results if isinstance(one, ResourceExistsError)]
    assert len(refused) == 1
    assert refused[0].error is not None
    assert refused[0].error.code == "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
    assert refused[0].error.message == (
        f"Too many Federated Identity Credentials are written concurrently for the managed identity "
        f"'{identity.id.lower()}'. Concurrent Federated Identity Credentials writes under the same managed identity "
        "are not supported."
    )
    assert len(await azure.names()) == 1


async def test_a_write_stays_when_its_caller_has_gone(azure: Azure) -> None:
    await azure.make()
    azure.arm.federated_credentials.writing = timedelta(seconds=30)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(azure.trust(), 0.5)

    azure.arm.federated_credentials.writing = timedelta()
    assert await azure.names() == ["hub"]
    assert len(azure.arm.writes) == 2


async def test_two_identities_are_written_at_once(azure: Azure) -> None:
    await azure.make()
    await azure.make("green")
    azure.arm.federated_credentials.writing = timedelta(seconds=0.2)
    body = {"properties": {"issuer": ISSUER, "subject": SUBJECT, "audiences": [EXCHANGE]}}

    await asyncio.gather(
        azure.trust(),
        azure.client.federated_identity_credentials.create_or_update("Platform", "green", "hub", body),
    )

    assert len(azure.arm.writes) == 4


async def test_conflicts_come_on_demand_and_change_nothing(azure: Azure) -> None:
    await azure.make()
    azure.arm.federated_credentials.conflicts = 2

    statuses = [(await _refused(azure.trust))[0], (await _refused(lambda: azure.distrust("hub")))[0]]
    await azure.trust()

    assert statuses == [409, 409]
    assert await azure.names() == ["hub"]


async def test_an_identity_takes_one_write_in_four_seconds(azure: Azure) -> None:
    await azure.make()
    for number in range(5):
        await azure.trust(subject=f"{SUBJECT}{number}")

    with pytest.raises(HttpResponseError) as raised:
        await azure.trust()
    azure.clock.advance(timedelta(seconds=4))
    await azure.trust()

    assert raised.value.status_code == 429
    answer: Any = raised.value.response
    assert 0 < int(answer.headers["Retry-After"]) <= 4


async def test_entra_hears_of_a_credential_later(azure: Azure) -> None:
    identity = await azure.make()
    azure.arm.federated_credentials.propagation = timedelta(minutes=2)

    await azure.trust()

    assert await azure.names() == ["hub"]
    assert azure.arm.federated_credentials.trusted(identity.client_id) == []
    azure.clock.advance(timedelta(minutes=2))
    trusted = azure.arm.federated_credentials.trusted(identity.client_id)
    assert [FederatedCredential(ISSUER, SUBJECT, EXCHANGE)] == trusted


async def test_a_credential_is_deleted_once(azure: Azure) -> None:
    await azure.make()
    await azure.trust()

    assert [await azure.distrust("hub"), await azure.distrust("hub")] == [200, 204]
    with pytest.raises(ResourceNotFoundError, match="Blue/federatedIdentityCredentials/hub"):
        await azure.client.federated_identity_credentials.get("Platform", "Blue", "hub")


async def test_a_credential_needs_its_identity(azure: Azure) -> None:
    refusals = [(await _refused(call))[:2] for call in (azure.trust, azure.names, lambda: azure.distrust("hub"))]

    assert refusals == [(404, "ParentResourceNotFound")] * 3


@pytest.mark.parametrize("missing", ["write", "read", "delete"])
async def test_each_verb_on_credentials_needs_its_own_right(azure: Azure, missing: str) -> None:
    """Rights on identities are none on their credentials."""
    await azure.make()
    await azure.trust()
    action = f"Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/{missing}"
    azure.arm.unassign(azure.caller.principal_id, GROUP, ONBOARDER)
    azure.arm.assign(azure.caller.principal_id, GROUP, ONBOARDER - {action})
    calls = {"write": azure.trust, "read": azure.names, "delete": lambda: azure.distrust("hub")}

    status, code, message = await _refused(calls[missing])

    assert (status, code) == (403, "AuthorizationFailed")
    assert message
    assert f"action '{action}' over scope '{BLUE}" in message


async def test_who_reads_writes_nothing(azure: Azure) -> None:
    azure.arm.unassign(azure.caller.principal_id, GROUP, ONBOARDER)
    azure.arm.assign(azure.caller.principal_id, GROUP, READER)

    status, _, message = await _refused(azure.make)

    assert status == 403
    assert message
    assert "'Microsoft.ManagedIdentity/userAssignedIdentities/write'" in message


async def test_the_log_has_every_change_and_nothing_else(azure: Azure) -> None:
    await azure.make()
    await azure.trust()
    await azure.names()
    await _refused(lambda: azure.trust("again"))
    await azure.distrust("none")
    await azure.distrust("hub")
    await azure.client.user_assigned_identities.delete("Platform", "Blue")

    credential = f"{BLUE}/federatedIdentityCredentials/hub"
    assert [("PUT", BLUE), ("PUT", credential), ("DELETE", credential), ("DELETE", BLUE)] == azure.arm.writes
