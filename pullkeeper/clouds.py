"""What differs between the Azure clouds.

The same in all: the AKS server application, and the resource of tokens for Azure Storage.
"""

from dataclasses import dataclass
from typing import Final, Literal

CloudName = Literal["AzurePublic", "AzureUSGovernment", "AzureChina"]
Exchange = Literal["api://AzureADTokenExchange", "api://AzureADTokenExchangeUSGov", "api://AzureADTokenExchangeChina"]
"""The audience of token exchange, one for each cloud."""


@dataclass(frozen=True, slots=True)
class AzureCloud:
    """One Azure cloud.

    arm: the address of Azure Resource Manager. arm_resource: what tokens for it are requested for; it need not be the
    address. authority: Entra's address. exchange: the resource of the tokens that a publisher's provider gets, and the
    audience that Entra requires of assertions. storage: how the addresses of storage accounts end.
    """

    arm: str
    arm_resource: str
    authority: str
    exchange: Exchange
    storage: str


CLOUDS: Final[dict[CloudName, AzureCloud]] = {
    "AzurePublic": AzureCloud(
        arm="https://management.azure.com",
        arm_resource="https://management.azure.com",
        authority="https://login.microsoftonline.com",
        exchange="api://AzureADTokenExchange",
        storage="core.windows.net",
    ),
    "AzureUSGovernment": AzureCloud(
        arm="https://management.usgovcloudapi.net",
        arm_resource="https://management.core.usgovcloudapi.net",
        authority="https://login.microsoftonline.us",
        exchange="api://AzureADTokenExchangeUSGov",
        storage="core.usgovcloudapi.net",
    ),
    "AzureChina": AzureCloud(
        arm="https://management.chinacloudapi.cn",
        arm_resource="https://management.chinacloudapi.cn",
        authority="https://login.chinacloudapi.cn",
        exchange="api://AzureADTokenExchangeChina",
        storage="core.chinacloudapi.cn",
    ),
}
PUBLIC: Final = CLOUDS["AzurePublic"]
