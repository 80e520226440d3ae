"""What Azure Resource Manager's stand-in checks before a provider sees the request, and what it refuses."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from local.azure.arm import CLUSTER_USER, READER
from local.azure.entra import AKS, ARM, ARM_FOR_AZ, Entra
from local.azure.function_apps import SITES, VERSION, FunctionApp
from local.azure.managed_cluster import KIND, ManagedCluster
from local.azure.managed_identities import IDENTITIES
from local.azure.routing import RateLimit
from tests.local.conftest import API_SERVER, BLUE, CLUSTERS, GROUP, SUBSCRIPTION, Azure

AKS_VERSION: Final = "api-version=2026-08-01"
WEB_VERSION: Final = f"api-version={VERSION}"
APP_ID: Final = f"{GROUP}/providers/{SITES}/pullkeeper"
FIX: Final = "For more details please go to https://aka.ms/ARMResourceNotFoundFix"
IDENTITY: Final = f"{GROUP}/providers/{IDENTITIES}/hub"
KEYS: Final = f"{APP_ID}/host/default/listKeys"


@pytest.mark.parametrize(
    ("query", "token", "status", "code"),
    [
        ("", "none", 400, "MissingApiVersionParameter"),
        ("?api-version=2020-01-01", "good", 400, "InvalidApiVersionParameter"),
        (f"?{AKS_VERSION}", "none", 401, "AuthenticationFailed"),
        (f"?{AKS_VERSION}", "for AKS", 401, "InvalidAuthenticationTokenAudience"),
        (f"?{AKS_VERSION}", "expired", 401, "ExpiredAuthenticationToken"),
        (f"?{AKS_VERSION}", "of another tenant", 401, "InvalidAuthenticationToken"),
        (f"?{AKS_VERSION}", "not a JWT", 401, "InvalidAuthenticationToken"),
    ],
)
async def test_a_request_needs_a_version_and_a_token(
    azure: Azure, query: str, token: str, status: int, code: str
) -> None:
    tokens = {
        "none": "",
        "good": azure.entra.token(azure.caller, ARM),
        "for AKS": azure.entra.token(azure.caller, AKS),
        "expired": azure.entra.token(azure.caller, ARM, timedelta(seconds=-2)),
        "of another tenant": Entra(azure.clock).token(azure.caller, ARM),
        "not a JWT": "x",
    }
    response = await azure.send("GET", f"{BLUE}{query}", token=tokens[token])

    assert response.error == (status, code)


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        (
            f"{CLUSTERS}/green",
            "ResourceNotFound",
            f"The Resource '{KIND}/green' under resource group 'Platform' was not found. {FIX}",
        ),
        (
            BLUE.replace("Platform", "Other"),
            "ResourceGroupNotFound",
            "Resource group 'Other' could not be found.",
        ),
        (
            BLUE.replace(SUBSCRIPTION, "elsewhere"),
            "SubscriptionNotFound",
            "The subscription 'elsewhere' could not be found.",
        ),
    ],
)
async def test_a_missing_level_is_named(azure: Azure, path: str, code: str, message: str) -> None:
    response = await azure.send("GET", f"{path}?{AKS_VERSION}")

    assert (response.error, response.message) == ((404, code), message)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{BLUE}/listClusterAdminCredential"),
        ("POST", f"{BLUE}/listClusterUserCredential?format=azure&{AKS_VERSION}"),
        ("PUT", f"{CLUSTERS}/green?{AKS_VERSION}"),
        ("DELETE", BLUE),
        ("GET", CLUSTERS),
        ("GET", f"{CLUSTERS}/a/b/c"),
        ("GET", GROUP),
        ("GET", f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Web"),
    ],
)
async def test_what_is_not_played_is_a_501(azure: Azure, method: str, path: str) -> None:
    path = path if "?" in path else f"{path}?{AKS_VERSION}"
    assert (await azure.send(method, path, body={"location": "x"})).error == (501, "NotImplemented")


async def test_without_a_role_the_403_names_action_and_scope(azure: Azure) -> None:
    azure.assign(frozenset())

    response = await azure.send("GET", f"{BLUE}?{AKS_VERSION}")

    assert response.error == (403, "AuthorizationFailed")
    assert response.message == (
        f"The client '{azure.caller.client_id}' with object id '{azure.caller.principal_id}' does not have "
        f"authorization to perform action 'Microsoft.ContainerService/managedClusters/read' over scope '{BLUE}' or the "
        "scope is invalid. If access was recently granted, please refresh your credentials."
    )
    assert (await azure.send("GET", f"{CLUSTERS}/missing?{AKS_VERSION}")).status == 403


@pytest.mark.parametrize(
    ("actions", "scope", "get", "credential"),
    [
        (CLUSTER_USER, BLUE, 200, 200),
        (CLUSTER_USER, GROUP.upper(), 200, 200),
        (READER, f"/subscriptions/{SUBSCRIPTION}", 200, 403),
        (CLUSTER_USER, f"{CLUSTERS}/Bl", 403, 403),
        (CLUSTER_USER, f"{CLUSTERS}/green", 403, 403),
        (CLUSTER_USER, GROUP.removesuffix("form"), 403, 403),
    ],
)
async def test_a_role_counts_for_its_actions_at_its_scope_and_below(
    azure: Azure, actions: frozenset[str], scope: str, get: int, credential: int
) -> None:
    azure.assign(actions, scope)

    assert (await azure.send("GET", f"{BLUE}?{AKS_VERSION}")).status == get
    assert (await azure.send("POST", f"{BLUE}/listClusterUserCredential?{AKS_VERSION}")).status == credential


async def test_calls_are_limited_and_the_limit_refills_by_the_clock(azure: Azure) -> None:
    azure.arm.clusters.add(ManagedCluster(f"{CLUSTERS}/green", API_SERVER, "the CA"))
    azure.arm.clusters.reads.burst, azure.arm.clusters.reads.refill = 3, timedelta(minutes=1)
    first = [(await azure.send("GET", f"{BLUE}?{AKS_VERSION}")).status for _ in range(3)]
    refused = await azure.send("GET", f"{BLUE.lower()}?{AKS_VERSION}")

    assert first == [200] * 3
    assert refused.error == (429, "Throttled")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert "GetManagedClusterHandler.GET request limit has been exceeded" in refused.message
    assert (await azure.send("GET", f"{CLUSTERS}/green?{AKS_VERSION}")).status == 200
    azure.clock.advance(timedelta(minutes=1))
    assert [(await azure.send("GET", f"{BLUE}?{AKS_VERSION}")).status for _ in range(2)] == [200, 429]


def test_aks_allows_sixty_calls_at_once_and_one_a_second_after_that() -> None:
    """As learn.microsoft.com/azure/aks/quotas-skus-regions says."""
    now, limit = datetime.now(UTC), RateLimit(60)

    assert [limit.take("blue", now) for _ in range(62)] == [None] * 60 + ["1", "1"]
    assert limit.take("blue", now + timedelta(seconds=1)) is None


@pytest.mark.parametrize(
    ("kind", "method", "path"),
    [
        ("read", "GET", f"{BLUE}?{AKS_VERSION}"),
        ("write", "POST", f"{BLUE}/listClusterUserCredential?{AKS_VERSION}"),
        ("delete", "DELETE", f"{IDENTITY}?api-version=2024-11-30"),
    ],
)
async def test_a_principal_has_a_limit_in_each_subscription(azure: Azure, kind: str, method: str, path: str) -> None:
    _let_one_pass_a_minute(azure.arm.limits.by_kind[kind])
    another = azure.entra.token(azure.entra.add_identity("another"), ARM)
    first, refused = await azure.send(method, path), await azure.send(method, path)
    assert first.status < 300
    assert refused.error == (429, "SubscriptionRequestsThrottled")
    assert f"Number of '{kind}' requests for subscription '{SUBSCRIPTION}' actor" in refused.message
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert (await azure.send(method, path, token=another)).error == (403, "AuthorizationFailed")
    azure.clock.advance(timedelta(minutes=1))
    assert (await azure.send(method, path)).status < 300


def _let_one_pass_a_minute(limit: RateLimit) -> None:
    """However slow the machine is, the next call comes before the minute is over."""
    limit.burst, limit.refill = 1, timedelta(minutes=1)


async def test_the_clusters_of_a_subscription_are_listed_for_a_role_on_it(azure: Azure) -> None:
    azure.arm.clusters.add(ManagedCluster(BLUE.replace(SUBSCRIPTION, "another"), API_SERVER, "the CA"))
    azure.blue.rest = {"tags": {"team": "platform"}}
    path = f"/subscriptions/{SUBSCRIPTION}/providers/{KIND}?api-version=2026-06-01"
    listed, one = await azure.send("GET", path), await azure.send("GET", f"{BLUE}?{AKS_VERSION}")
    azure.assign(READER, GROUP)
    refused = await azure.send("GET", path)
    azure.assign(READER)
    _let_one_pass_a_minute(azure.arm.clusters.lists)

    assert listed.body == {"value": [one.body]}
    assert one.body["tags"] == {"team": "platform"}
    assert refused.error == (403, "AuthorizationFailed")
    assert (await azure.send("GET", path)).error == (429, "Throttled")


async def test_user_credentials_of_a_region_share_one_limit(azure: Azure) -> None:
    azure.arm.clusters.add(ManagedCluster(f"{CLUSTERS}/green", API_SERVER, "the CA"))
    azure.arm.clusters.add(ManagedCluster(f"{CLUSTERS}/north", API_SERVER, "the CA", location="northeurope"))
    _let_one_pass_a_minute(azure.arm.clusters.others)

    paths = [f"{CLUSTERS}/{name}/listClusterUserCredential?{AKS_VERSION}" for name in ("Blue", "north", "green")]
    assert [(await azure.send("POST", path)).status for path in paths] == [200, 200, 429]


async def test_a_function_app_gives_its_address_and_with_an_action_of_its_own_its_keys(azure: Azure) -> None:
    azure.arm.function_apps.add(FunctionApp(APP_ID, "pullkeeper.example", "the-key"))
    azure.assign(READER, APP_ID)
    app = await azure.send("GET", f"{APP_ID.lower()}?{WEB_VERSION}", token=azure.entra.token(azure.caller, ARM_FOR_AZ))
    refused = await azure.send("POST", f"{KEYS}?{WEB_VERSION}")
    azure.assign(frozenset({f"{SITES}/host/listKeys/action"}))
    keys = await azure.send("POST", f"{KEYS}?{WEB_VERSION}")

    assert app.body["properties"]["defaultHostName"] == "pullkeeper.example"
    assert refused.error == (403, "AuthorizationFailed")
    assert keys.body["functionKeys"] == {"default": "the-key"}
    missing = KEYS.replace("pullkeeper/", "pullkeeper-2/")
    assert (await azure.send("POST", f"{missing}?{WEB_VERSION}")).error == (404, "ResourceNotFound")


async def test_subscriptions_are_those_in_which_the_caller_has_a_role(azure: Azure) -> None:
    azure.assign(READER, APP_ID)
    azure.arm.assign("another principal", "/subscriptions/another", READER)

    response = await azure.send("GET", "/subscriptions?api-version=2022-12-01")

    [found] = response.body["value"]
    assert (found["subscriptionId"], found["tenantId"]) == (SUBSCRIPTION, azure.entra.tenant)
    assert (await azure.send("GET", f"/subscriptions?{AKS_VERSION}")).error == (400, "InvalidApiVersionParameter")
