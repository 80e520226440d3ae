"""What must hold for every resource of a deployment. A rule takes the resources and returns its findings.

`test_resources.py` runs them over the snapshots, `test_defects.py` over a deployment with a defect for each.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pullkeeper.fleet.creation import QUEUES, TABLES
from pullkeeper.settings import Settings
from tests.docs.pages import ROOT, rows
from tests.docs.test_reference import REFERENCE, code_spans
from tests.infra.compiler import Resource

Rule = Callable[[list[Resource]], list[str]]

STORAGE: Final = "Microsoft.Storage/storageAccounts"
SITE: Final = "Microsoft.Web/sites"
ROLE: Final = "Microsoft.Authorization/roleDefinitions"
ASSIGNMENT: Final = "Microsoft.Authorization/roleAssignments"
CONFIG: Final = f"{SITE}/config"
_PLAIN_NAME: Final = r"[a-z0-9][a-z0-9-]*[a-z0-9]"
_GUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAMES: Final[Mapping[str, str]] = {
    # learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
    ASSIGNMENT: _GUID,
    ROLE: _GUID,
    "Microsoft.Consumption/budgets": rf"(?=.{{1,63}}$){_PLAIN_NAME}",
    "Microsoft.Dashboard/dashboards": rf"(?=.{{2,23}}$){_PLAIN_NAME}",
    "Microsoft.Insights/scheduledQueryRules": rf"(?=.{{1,260}}$){_PLAIN_NAME}",
    "Microsoft.Insights/workbooks": _GUID,
    "Microsoft.Insights/components": rf"(?=.{{1,260}}$){_PLAIN_NAME}",
    "Microsoft.ManagedIdentity/userAssignedIdentities": rf"(?=.{{3,128}}$){_PLAIN_NAME}",
    "Microsoft.Network/natGateways": rf"(?=.{{1,80}}$){_PLAIN_NAME}",
    "Microsoft.Network/networkSecurityGroups": rf"(?=.{{1,80}}$){_PLAIN_NAME}",
    "Microsoft.Network/privateEndpoints": rf"(?=.{{2,64}}$){_PLAIN_NAME}",
    "Microsoft.Network/publicIPAddresses": rf"(?=.{{1,80}}$){_PLAIN_NAME}",
    "Microsoft.Network/virtualNetworks": rf"(?=.{{2,64}}$){_PLAIN_NAME}",
    "Microsoft.OperationalInsights/workspaces": rf"(?=.{{4,63}}$){_PLAIN_NAME}",
    "Microsoft.Resources/resourceGroups": r"[\w.()-]{0,89}[\w()-]",
    STORAGE: r"[a-z0-9]{3,24}",
    f"{STORAGE}/blobServices/containers": rf"[a-z0-9]+/default/(?=.{{3,63}}$){_PLAIN_NAME}",
    f"{STORAGE}/queueServices/queues": rf"[a-z0-9]+/default/(?=.{{3,63}}$){_PLAIN_NAME}",
    f"{STORAGE}/tableServices/tables": r"[a-z0-9]+/default/[A-Za-z][A-Za-z0-9]{2,62}",
    "Microsoft.Web/serverfarms": rf"(?=.{{1,60}}$){_PLAIN_NAME}",
    SITE: rf"(?=.{{2,60}}$){_PLAIN_NAME}",
}
_FIXED: Final = {
    # Children whose names Azure or this app's own parts prescribe.
    "Microsoft.Dashboard/dashboards/dashboardDefinitions",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Network/privateDnsZones",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups",
    f"{STORAGE}/blobServices",
    f"{STORAGE}/queueServices",
    f"{STORAGE}/tableServices",
    f"{SITE}/basicPublishingCredentialsPolicies",
    CONFIG,
    f"{SITE}/extensions",
}
_SECRET: Final = re.compile(
    r"\blist(Keys|AccountSas|ServiceSas|Secrets|Credentials)\(|AccountKey=|SharedAccessSignature|sig=|private_key|"
    r"InstrumentationKey=|password",
    re.IGNORECASE,
)
BUILT_IN: Final = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b": "Azure Kubernetes Service RBAC Cluster Admin",
}


def of_type(resources: list[Resource], kind: str) -> Iterator[Resource]:
    return (one for one in resources if one["type"] == kind)


def _differ(resources: list[Resource], kind: str, **wanted: Any) -> Iterator[str]:
    """Yield each resource of a kind that has another value for one of these properties."""
    for one in of_type(resources, kind):
        for path, value in wanted.items():
            found = one["properties"]
            for part in path.split("__"):
                found = found.get(part, {})
            if found != value:
                yield f"{one['name']}: {path} is {found}"


def find_keys(resources: list[Resource]) -> list[str]:
    """Storage and telemetry that accept anything but Entra tokens."""
    return [
        *_differ(resources, STORAGE, allowSharedKeyAccess=False, defaultToOAuthAuthentication=True),
        *_differ(resources, "Microsoft.Insights/components", DisableLocalAuth=True),
        *_differ(resources, "Microsoft.OperationalInsights/workspaces", features__disableLocalAuth=True),
    ]


def find_public_blobs(resources: list[Resource]) -> list[str]:
    return [
        *_differ(resources, STORAGE, allowBlobPublicAccess=False, allowCrossTenantReplication=False),
        *_differ(resources, f"{STORAGE}/blobServices/containers", publicAccess="None"),
    ]


def find_weak_transport(resources: list[Resource]) -> list[str]:
    """TLS below 1.2, plain HTTP, FTP, or publishing with a password."""
    policies = [
        f"{one['name']}/{name}: basic publishing is not off"
        for one in of_type(resources, SITE)
        for name in ("ftp", "scm")
        if not any(
            policy["name"] == f"{one['name']}/{name}" and policy["properties"]["allow"] is False
            for policy in of_type(resources, f"{SITE}/basicPublishingCredentialsPolicies")
        )
    ]
    site = {
        "httpsOnly": True,
        "siteConfig__ftpsState": "Disabled",
        "siteConfig__minTlsVersion": "1.2",
        "siteConfig__scmMinTlsVersion": "1.2",
    }
    return [
        *policies,
        *_differ(resources, SITE, **site),
        *_differ(resources, STORAGE, minimumTlsVersion="TLS1_2", supportsHttpsTrafficOnly=True),
    ]


def find_wildcards(resources: list[Resource]) -> list[str]:
    return [
        f"{one['properties']['roleName']}: {action}"
        for one in of_type(resources, ROLE)
        for permission in one["properties"]["permissions"]
        for action in (*permission["actions"], *permission["dataActions"])
        if "*" in action
    ]


def find_secrets(resources: list[Resource]) -> list[str]:
    """Anything in a resource that is a secret, or reads one."""
    return [f"{one['name']}: {found[0]}" for one in resources for found in _SECRET.finditer(json.dumps(one))]


def find_secret_outputs(template: Mapping[str, Any]) -> list[str]:
    """The same for the outputs of a compiled template."""
    outputs = template.get("outputs", {})
    return [
        name for name, output in outputs.items() if _SECRET.search(json.dumps(output)) or "secure" in output["type"]
    ]


def find_wrong_names(resources: list[Resource]) -> list[str]:
    """Names that Azure refuses, or that only the deployment itself can know. A type without a rule is a finding."""
    return [
        f"{one['type']}: {one['name']}"
        for one in resources
        if one["type"] not in _FIXED and not re.fullmatch(_NAMES.get(one["type"], "no rule"), one["name"])
    ]


def find_unpredictable(resources: list[Resource]) -> list[str]:
    """Role assignments whose id a snapshot cannot tell, and resources that are declared twice."""
    ids = Counter(str(one.get("id") or one["name"]).lower() for one in resources)
    return [
        *(one for one, count in ids.items() if count > 1),
        *(str(one.get("id") or one["name"]) for one in of_type(resources, ASSIGNMENT) if "[" in one.get("id", "[")),
    ]


def grants(resources: list[Resource]) -> set[tuple[str, str, str]]:
    """Return who has which role where: refreshes or onboards, the role's name, and the type of the scope."""
    roles = {
        one["name"]: re.sub(r" \(.*", "", str(one["properties"]["roleName"])) for one in of_type(resources, ROLE)
    } | BUILT_IN
    return {
        (
            "onboards" if "-onboarding'" in one["properties"]["principalId"] else "refreshes",
            roles.get(role := one["properties"]["roleDefinitionId"].rpartition("/")[2], role),
            _type_of(one["id"].rpartition(f"/providers/{ASSIGNMENT}")[0]),
        )
        for one in of_type(resources, ASSIGNMENT)
        if one.get("id", "").startswith("/")  # else: find_unpredictable
    }


def _type_of(scope: str) -> str:
    before, _, resource = scope.rpartition("/providers/")
    return (
        "/".join(resource.split("/")[:2])
        if before
        else "resource group"
        if "/resourceGroups/" in scope
        else "subscription"
    )


def explained() -> set[tuple[str, str, str]]:
    """Return the same from the table of docs/security.md."""
    table = rows(ROOT / "docs" / "security.md", "identity that")
    return {
        (who, code_spans(role)[0], scope) for who, role, scopes, _ in table for scope in re.split(r", | or ", scopes)
    }


def find_unexplained(resources: list[Resource]) -> list[str]:
    return [f"{who}: {role} at {scope}" for who, role, scope in sorted(grants(resources) - explained())]


def settings_of(resources: list[Resource]) -> dict[str, str]:
    """Return the app settings. What is known only in Azure gets a value of the right form."""
    (found,) = (one["properties"] for one in of_type(resources, CONFIG) if one["name"].endswith("/appsettings"))
    return {name: _evaluate(name, value) for name, value in found.items()}


def _evaluate(name: str, value: str) -> str:
    if not value.startswith("["):
        return value
    if service := re.search(r"'(blob|queue|table)'", value):
        return f"https://account.{service[1]}.core.windows.net"
    return "AzurePublic" if name == "AZURE_CLOUD" else "00000000-0000-0000-0000-000000000001"


def find_wrong_settings(resources: list[Resource]) -> list[str]:
    """Settings that neither the app nor the platform knows, and what the app itself finds missing or wrong."""
    settings = settings_of(resources)
    known = {str(field.alias) for field in Settings.model_fields.values()}
    platform = {name for row in rows(REFERENCE, "setting of the platform") for name in code_spans(row[0])}
    problems = Settings.read(settings | {"WEBSITE_SITE_NAME": "pullkeeper"}).problems
    return [*(problem.detail for problem in problems), *sorted(settings.keys() - known - platform)]


def find_missing_storage(resources: list[Resource]) -> list[str]:
    """Queues and tables of the app that are not created, and others that are."""
    wanted = {f"queues/{name}" for name in QUEUES} | {f"tables/{name}" for name in TABLES}
    found = {
        f"{kind}/{one['name'].rpartition('/')[2]}"
        for service, kind in (("queueServices", "queues"), ("tableServices", "tables"))
        for one in of_type(resources, f"{STORAGE}/{service}/{kind}")
    }
    return sorted(wanted ^ found)


RULES: Final[tuple[Rule, ...]] = (
    find_keys,
    find_public_blobs,
    find_weak_transport,
    find_wildcards,
    find_secrets,
    find_wrong_names,
    find_unpredictable,
    find_unexplained,
    find_wrong_settings,
    find_missing_storage,
)
