"""What a deployment creates: the rules hold for every set of parameters, and each set has what it asks for."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from local.azure.arm import CLUSTER_USER, ONBOARDER
from pullkeeper.settings import Settings
from tests.docs.test_reference import registered_routes
from tests.infra import rules
from tests.infra.compiler import PARAMETERS, SETS, Resource, read_resources
from tests.infra.rules import RULES, Rule, of_type


def resources_of(name: str) -> list[Resource]:
    return read_resources(PARAMETERS / f"{name}.bicepparam")


@pytest.mark.parametrize("parameters", SETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_holds(rule: Rule, parameters: Path) -> None:
    assert rule(read_resources(parameters)) == []


def test_every_right_that_is_explained_is_granted() -> None:
    granted = {grant for parameters in SETS for grant in rules.grants(read_resources(parameters))}
    assert rules.explained() == granted


def actions(resources: list[Resource]) -> dict[str, set[str]]:
    return {
        re.sub(r" \(.*", "", role["properties"]["roleName"]): set(role["properties"]["permissions"][0]["actions"])
        for role in of_type(resources, rules.ROLE)
    }


def test_custom_roles_have_the_actions_that_the_local_azure_asks_for() -> None:
    """All tests of refreshing and onboarding pass with these rights, and no others."""
    roles = actions(resources_of("many-clusters"))
    assert roles["Pullkeeper refresh"] == CLUSTER_USER
    assert roles["Pullkeeper onboarding"] | roles["Pullkeeper identities"] == ONBOARDER


def test_storage_is_reached_by_private_endpoints_alone() -> None:
    for name in ("private-network", "easy-auth"):
        resources = resources_of(name)
        (account,) = of_type(resources, rules.STORAGE)
        assert account["properties"]["publicNetworkAccess"] == "Disabled"
        assert account["properties"]["networkAcls"] == {"bypass": "None", "defaultAction": "Deny"}
        connections = [
            connection["properties"]
            for endpoint in of_type(resources, "Microsoft.Network/privateEndpoints")
            for connection in endpoint["properties"]["privateLinkServiceConnections"]
        ]
        assert {connection["privateLinkServiceId"] for connection in connections} == {account["id"]}
        assert [connection["groupIds"] for connection in connections] == [["blob"], ["queue"], ["table"]]
        (app,) = of_type(resources, rules.SITE)
        assert "/subnets/" in app["properties"]["virtualNetworkSubnetId"]
    links = [*of_type(resources_of("private-network"), "Microsoft.Network/privateDnsZones/virtualNetworkLinks")]
    assert [link["properties"]["registrationEnabled"] for link in links] == [False] * 3, "no machine gets a name there"
    groups = [*of_type(resources_of("private-network"), "Microsoft.Network/networkSecurityGroups")]
    (inbound,) = {
        (rule["properties"]["access"], rule["properties"]["direction"], rule["properties"]["sourceAddressPrefix"])
        for group in groups
        for rule in group["properties"]["securityRules"]
    }
    assert (len(groups), inbound) == (2, ("Deny", "Inbound", "Internet"))
    (network,) = of_type(resources_of("private-network"), "Microsoft.Network/virtualNetworks")
    held = [subnet["properties"]["networkSecurityGroup"]["id"] for subnet in network["properties"]["subnets"]]
    assert held == [group["id"] for group in groups]


def test_a_package_that_was_replaced_can_be_brought_back() -> None:
    (blobs,) = of_type(resources_of("minimal"), f"{rules.STORAGE}/blobServices")
    assert {name: one["enabled"] for name, one in blobs["properties"].items()} == {
        "deleteRetentionPolicy": True,
        "containerDeleteRetentionPolicy": True,
    }


def test_what_the_host_says_and_what_is_deleted_is_logged() -> None:
    logs = {
        (one["name"].rpartition("/")[2], log["category"], log["enabled"])
        for one in of_type(resources_of("private-network"), "Microsoft.Insights/diagnosticSettings")
        for log in one["properties"]["logs"]
    }
    audited = product(
        (f"audit-{kind}" for kind in ("blobs", "queues", "tables")), ("StorageWrite", "StorageDelete"), [True]
    )
    assert logs == {("host", "FunctionAppLogs", True), *audited}


def test_what_instances_cost_is_bounded() -> None:
    (app,) = of_type(resources_of("minimal"), rules.SITE)
    assert app["properties"]["functionAppConfig"]["scaleAndConcurrency"]["maximumInstanceCount"] == 40


def test_telemetry_and_storage_are_reached_as_the_apps_identity() -> None:
    """Both refuse everything else."""
    settings = rules.settings_of(resources_of("minimal"))
    assert settings["AzureWebJobsStorage__credential"] == "managedidentity"
    assert settings.keys() >= {"APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "AzureWebJobsStorage__clientId"}


def test_only_onboarding_uses_the_identity_that_onboards() -> None:
    (found,) = (
        one["properties"] for one in of_type(resources_of("minimal"), rules.CONFIG) if "appsettings" in one["name"]
    )
    assert [name for name, value in found.items() if "-onboarding'" in value] == ["ONBOARDING_CLIENT_ID"]


def test_a_budget_warns_before_the_money_is_spent() -> None:
    budgets = [one for path in SETS for one in of_type(read_resources(path), "Microsoft.Consumption/budgets")]
    assert budgets
    for budget in budgets:
        warnings = budget["properties"]["notifications"].values()
        assert {one["thresholdType"] for one in warnings} == {"Forecasted", "Actual"}


@pytest.mark.parametrize("parameters", SETS, ids=lambda path: path.stem)
def test_an_assignment_does_not_wait_until_its_identity_is_known_everywhere(parameters: Path) -> None:
    kinds = [one["properties"].get("principalType") for one in of_type(read_resources(parameters), rules.ASSIGNMENT)]
    assert set(kinds) == {"ServicePrincipal"}


def test_without_a_network_the_account_is_open_to_tokens_alone() -> None:
    (account,) = of_type(resources_of("minimal"), rules.STORAGE)
    assert account["properties"]["publicNetworkAccess"] == "Enabled"
    assert account["properties"]["allowSharedKeyAccess"] is False


def auth_settings(name: str) -> list[dict[str, Any]]:
    configs = of_type(resources_of(name), rules.CONFIG)
    return [one["properties"] for one in configs if one["name"].endswith("/authsettingsV2")]


def test_callers_sign_in_for_every_route_that_is_not_anonymous() -> None:
    (settings,) = auth_settings("easy-auth")
    validation = settings["globalValidation"]
    assert (validation["requireAuthentication"], validation["unauthenticatedClientAction"]) == (True, "Return401")
    anonymous = {route.removeprefix("GET ") for route, key in registered_routes().items() if key == "none"}
    assert set(validation["excludedPaths"]) == anonymous
    assert auth_settings("minimal") == []
    assert settings["httpSettings"] == {"requireHttps": True}
    entra = settings["identityProviders"]["azureActiveDirectory"]
    client = entra["registration"]["clientId"]
    assert "tenant().tenantId" in entra["registration"]["openIdIssuer"], "callers of one tenant"
    assert entra["validation"]["allowedAudiences"] == [client, f"api://{client}"]


def test_the_hubs_arrive_as_the_app_reads_them() -> None:
    assert [*Settings.read(rules.settings_of(resources_of("easy-auth"))).hubs.valid] == ["deepintshield"]


def test_clusters_that_may_be_onboarded_are_those_with_rights() -> None:
    allowed = Settings.read(rules.settings_of(resources_of("many-clusters"))).allowed_scopes
    identities = {
        one["id"].partition(f"/providers/{rules.ASSIGNMENT}")[0].lower()
        for one in of_type(resources_of("many-clusters"), rules.ASSIGNMENT)
    }
    assert {scope for scope in identities if "/providers/" not in scope} == allowed


def test_a_cluster_in_a_list_gives_no_right_at_its_neighbours() -> None:
    """Beside the identities of its group, which lie where the cluster lies."""
    group = "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/shop"
    at_group = [
        one["properties"]["roleDefinitionId"].rpartition("/")[2]
        for one in of_type(resources_of("many-clusters"), rules.ASSIGNMENT)
        if one["id"].startswith(f"{group}/providers/{rules.ASSIGNMENT}/")
    ]
    (identities,) = (
        role["name"]
        for role in of_type(resources_of("many-clusters"), rules.ROLE)
        if role["properties"]["roleName"].startswith("Pullkeeper identities")
    )
    assert at_group == [identities]
