"""The addresses of each Azure cloud are those that Microsoft's SDKs have, and all of them follow from one setting."""

import pytest
from azure.core import AzureClouds
from azure.identity import AzureAuthorityHosts
from azure.mgmt.core.tools import get_arm_endpoints

from pullkeeper.clouds import CLOUDS, CloudName
from pullkeeper.errors import InvalidSetting
from pullkeeper.settings import STORAGE, Settings

_SDK = {
    "AzurePublic": (AzureClouds.AZURE_PUBLIC_CLOUD, AzureAuthorityHosts.AZURE_PUBLIC_CLOUD),
    "AzureUSGovernment": (AzureClouds.AZURE_US_GOVERNMENT, AzureAuthorityHosts.AZURE_GOVERNMENT),
    "AzureChina": (AzureClouds.AZURE_CHINA_CLOUD, AzureAuthorityHosts.AZURE_CHINA),
}
each_cloud = pytest.mark.parametrize("name", CLOUDS)


@each_cloud
def test_addresses_and_scopes_are_those_of_the_sdks(name: CloudName) -> None:
    cloud, (setting, authority) = CLOUDS[name], _SDK[name]
    endpoints = get_arm_endpoints(setting)

    assert f"{cloud.arm}/" == endpoints["resource_manager"]
    assert [f"{cloud.arm_resource}/.default"] == endpoints["credential_scopes"]
    assert cloud.authority == f"https://{authority}"


@pytest.mark.parametrize(
    ("name", "exchange", "table"),
    [
        ("", "api://AzureADTokenExchange", "https://acct.table.core.windows.net"),
        ("AzurePublic", "api://AzureADTokenExchange", "https://acct.table.core.windows.net"),
        ("AzureUSGovernment", "api://AzureADTokenExchangeUSGov", "https://acct.table.core.usgovcloudapi.net"),
        ("AzureChina", "api://AzureADTokenExchangeChina", "https://acct.table.core.chinacloudapi.cn"),
    ],
)
def test_everything_follows_from_one_setting(name: CloudName, exchange: str, table: str) -> None:
    settings = Settings.read({"AZURE_CLOUD": name, "AzureWebJobsStorage__accountName": "acct"})

    assert settings.cloud == CLOUDS[name or "AzurePublic"]
    assert settings.cloud.exchange == exchange
    assert settings.storage_address("table") == table


def test_addresses_of_their_own_leave_scope_and_audience_to_the_cloud() -> None:
    settings = Settings.read(
        {
            "AZURE_CLOUD": "AzureChina",
            "ARM_ENDPOINT": "https://arm.example",
            "AZURE_AUTHORITY_HOST": "https://e.example",
        }
    )

    assert (settings.cloud.arm, settings.cloud.authority) == ("https://arm.example", "https://e.example")
    assert settings.cloud.arm_resource == CLOUDS["AzureChina"].arm_resource
    assert settings.cloud.exchange == CLOUDS["AzureChina"].exchange


@pytest.mark.parametrize("name", ["azurepublic", "AzureGermany", "AzureUSGovernment "])
def test_an_unknown_cloud_is_an_error(name: str) -> None:
    settings = Settings.read({"AZURE_CLOUD": name, "AzureWebJobsStorage__accountName": "acct"})

    assert "AZURE_CLOUD" in {problem.setting for problem in settings.errors}
    with pytest.raises(InvalidSetting, match="AZURE_CLOUD"):
        settings.require(*STORAGE)
