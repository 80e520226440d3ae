"""What Azure Resource Manager's stand-in refuses to write: identities, federated credentials and clusters."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from local.azure.entra import EXCHANGE
from local.azure.routing import WindowLimit
from tests.local.conftest import BLUE, GROUP, SUBSCRIPTION, Azure, Response

ISSUER: Final = "https://westeurope.oic.prod-aks.azure.com/tenant/blue/"
SUBJECT: Final = "system:serviceaccount:hub:pull"
IDENTITIES: Final = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
CREDENTIALS: Final = f"{IDENTITIES}/Blue/federatedIdentityCredentials"
HERE: Final = {"location": "westeurope"}
UPDATE: Final = {**HERE, "properties": {}}


async def send(azure: Azure, method: str, path: str, body: Any = None, **headers: str) -> Response:
    version = "2026-08-01" if "managedClusters" in path else "2024-11-30"
    return await azure.send(method, f"{path}?api-version={version}", body=body, **headers)


async def add(azure: Azure, name: str = "hub", **change: Any) -> Response:
    """Add a federated credential to the identity Blue."""
    properties = {"issuer": ISSUER, "subject": SUBJECT, "audiences": [EXCHANGE], **change}
    return await send(azure, "PUT", f"{CREDENTIALS}/{name}", {"properties": properties})


async def names(azure: Azure) -> list[str]:
    return [one["name"] for one in (await send(azure, "GET", CREDENTIALS)).body["value"]]


@pytest.fixture
async def identity(azure: Azure) -> None:
    """The identity Blue."""
    azure.arm.federated_credentials.writing = timedelta()
    assert (await send(azure, "PUT", f"{IDENTITIES}/Blue", HERE)).status == 201


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", f"{IDENTITIES}/Blue", {"location": "northeurope"}, (409, "InvalidResourceLocation")),
        ("PUT", f"{IDENTITIES}/green", {"location": ""}, (400, "LocationRequired")),
        ("PUT", f"{IDENTITIES}/-green", HERE, (400, "BadRequest")),
        ("GET", f"{IDENTITIES}/green", None, (404, "ResourceNotFound")),
        ("GET", f"{IDENTITIES}/Blue".replace("Platform", "other"), None, (404, "ResourceGroupNotFound")),
        ("GET", IDENTITIES, None, (501, "NotImplemented")),
        ("PUT", f"{CREDENTIALS}/hub".replace("Blue", "green"), {"properties": {}}, (404, "ParentResourceNotFound")),
        ("GET", CREDENTIALS.replace("Blue", "green"), None, (404, "ParentResourceNotFound")),
        ("DELETE", f"{CREDENTIALS}/hub".replace("Blue", "green"), None, (404, "ParentResourceNotFound")),
    ],
)
async def test_an_invalid_call_for_an_identity_is_refused(
    azure: Azure, method: str, path: str, body: Any, expected: tuple[int, str]
) -> None:
    assert (await send(azure, method, path, body)).error == expected
    assert len(azure.arm.writes) == 1


@pytest.mark.usefixtures("identity")
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
async def test_an_invalid_credential_is_refused(azure: Azure, wrong: dict[str, Any], message: str) -> None:
    response = await add(azure, **wrong)
    assert response.error == (400, "BadRequest")
    assert message in response.message
    assert await names(azure) == []


@pytest.mark.usefixtures("identity")
async def test_issuer_and_subject_are_unique_to_the_letter(azure: Azure) -> None:
    await add(azure)
    await add(azure, "no-slash", issuer=ISSUER.rstrip("/"))
    await add(azure, "upper-case", subject=SUBJECT.upper())
    response = await add(azure, "again")
    assert response.error == (400, "BadRequest")
    assert response.message == "Issuer and subject combination already exists for this Managed Identity."
    assert await names(azure) == ["hub", "no-slash", "upper-case"]


@pytest.mark.usefixtures("identity")
async def test_an_identity_takes_one_write_in_four_seconds(azure: Azure) -> None:
    responses = [await add(azure, subject=f"{SUBJECT}{number}") for number in range(6)]
    azure.clock.advance(timedelta(seconds=4))
    assert [response.status for response in responses] == [201, 200, 200, 200, 200, 429]
    assert 0 < int(responses[-1].headers["Retry-After"]) <= 4
    assert (await add(azure)).status == 200


async def test_new_identities_of_a_region_share_one_limit_and_changes_do_not_count(azure: Azure) -> None:
    creations = azure.arm.identities.creations
    creations.burst, creations.refill = 2, timedelta(seconds=10)
    created = [await send(azure, "PUT", f"{IDENTITIES}/{name}", HERE) for name in ("one", "two", "three")]
    changed = await send(azure, "PUT", f"{IDENTITIES}/one", HERE)
    elsewhere = await send(azure, "PUT", f"{IDENTITIES}/north", {"location": "northeurope"})
    assert [one.status for one in (*created, changed, elsewhere)] == [201, 201, 429, 200, 201]
    refused = created[-1]
    assert refused.error == (429, "TooManyRequests")
    assert f"/subscriptions/{SUBSCRIPTION}/westeurope has issued too many requests. Retry after" in refused.message
    assert 0 < int(refused.headers["Retry-After"]) <= 20
    azure.clock.advance(timedelta(seconds=20))
    assert (await send(azure, "PUT", f"{IDENTITIES}/three", HERE)).status == 201


async def test_new_identities_of_a_tenant_share_one_limit(azure: Azure) -> None:
    creations = azure.arm.identities.tenant_creations
    creations.burst, creations.refill = 1, timedelta(seconds=10)
    created = [await send(azure, "PUT", f"{IDENTITIES}/{name}", HERE) for name in ("one", "two")]
    assert [one.status for one in created] == [201, 429]
    assert f"/tenants/{azure.entra.tenant}/westeurope" in created[1].message
    assert azure.arm.identities.find(f"{IDENTITIES}/two") is None


def test_a_region_takes_eighty_identities_of_a_subscription_in_any_twenty_seconds() -> None:
    """As azure-docs, includes/managed-identity-limits.md, says; a bucket would refill meanwhile."""
    began, limit = datetime.now(UTC), WindowLimit(80, timedelta(seconds=20) / 80)
    assert [limit.take("here", began) for _ in range(81)] == [None] * 80 + ["20"]
    assert limit.take("here", began + timedelta(seconds=19)) == "1"
    assert [limit.take("here", began + timedelta(seconds=20)) for _ in range(81)] == [None] * 80 + ["20"]


@pytest.mark.parametrize(
    ("state", "body", "expected"),
    [
        ({}, {"properties": {}}, (400, "LocationRequired")),
        ({}, {"location": "northeurope", "properties": {}}, (409, "InvalidResourceLocation")),
        ({}, HERE, (400, "InvalidRequestContent")),
        ({}, [], (400, "InvalidRequestContent")),
        ({}, b"{", (400, "InvalidRequestContent")),
        (
            {},
            {**HERE, "properties": {"securityProfile": {"workloadIdentity": {"enabled": True}}}},
            (400, "InvalidParameter"),
        ),
        (
            {"oidc_issuer": ISSUER},
            {**HERE, "properties": {"oidcIssuerProfile": {"enabled": False}}},
            (400, "OIDCIssuerFeatureCannotBeDisabled"),
        ),
        ({"oidc_issuer": ISSUER}, UPDATE, (400, "OIDCIssuerFeatureCannotBeDisabled")),
        ({"power_state": "Stopped"}, UPDATE, (409, "OperationNotAllowed")),
        ({"provisioning_state": "Updating"}, UPDATE, (409, "OperationNotAllowed")),
    ],
)
async def test_an_invalid_update_of_a_cluster_changes_nothing(
    azure: Azure, state: dict[str, Any], body: Any, expected: tuple[int, str]
) -> None:
    for name, value in state.items():
        setattr(azure.blue, name, value)
    assert (await send(azure, "PUT", BLUE, body)).error == expected
    assert azure.arm.writes == []


@pytest.mark.parametrize(
    ("header", "value", "path", "expected"),
    [
        ("If_Match", '"old"', BLUE, (412, "PreconditionFailed")),
        ("If_Match", "*", f"{BLUE}-missing", (412, "PreconditionFailed")),
        ("If_None_Match", "*", BLUE, (501, "NotImplemented")),
    ],
)
async def test_conditions_are_checked(
    azure: Azure, header: str, value: str, path: str, expected: tuple[int, str]
) -> None:
    assert (await send(azure, "PUT", path, UPDATE, **{header: value})).error == expected


async def test_an_update_of_a_cluster_replaces_all_properties(azure: Azure) -> None:
    """What it sends again is kept, known or not; what it leaves out is removed."""
    azure.arm.clusters.updating = timedelta()
    azure.blue.rest = {"tags": {"team": "platform"}, "properties": {"futureProfile": {"deep": [{"er": 1}]}}}
    before = (await send(azure, "GET", BLUE)).body
    await send(azure, "PUT", BLUE, before)
    after = (await send(azure, "GET", BLUE)).body
    assert (after["tags"], after["properties"]) == (before["tags"], before["properties"])
    await send(azure, "PUT", BLUE, UPDATE)
    emptied = (await send(azure, "GET", BLUE)).body
    assert "tags" not in emptied
    assert "futureProfile" not in emptied["properties"]


async def test_a_cluster_takes_twenty_updates_at_once_and_one_a_minute(azure: Azure) -> None:
    azure.arm.clusters.updating = timedelta()
    responses = [await send(azure, "PUT", BLUE, UPDATE) for _ in range(21)]
    azure.clock.advance(timedelta(minutes=1))
    assert {response.status for response in responses[:20]} == {200}
    assert responses[20].status == 429
    assert "PutManagedClusterHandler" in responses[20].message
    assert (await send(azure, "PUT", BLUE, UPDATE)).status == 200
