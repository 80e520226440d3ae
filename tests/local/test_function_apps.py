"""Function apps in Azure Resource Manager's stand-in, and what a client asks before it comes to one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import pytest

from local.azure.arm import READER, Arm
from local.azure.entra import ARM_AS_AZ_ASKS, Entra, Identity
from local.azure.function_apps import SITES, VERSION, FunctionApp
from local.clock import Clock
from local.serving import Authority, Server

SUBSCRIPTION: Final = "5eed5eed-0000-4000-8000-000000000001"
APP_ID: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/Platform/providers/{SITES}/pullkeeper"
KEYS: Final = f"{APP_ID}/host/default/listKeys"
PROVIDER: Final = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Web"


@dataclass(frozen=True, slots=True)
class Azure:
    arm: Arm
    entra: Entra
    caller: Identity
    url: str

    def allow(self, *actions: str, scope: str = APP_ID) -> None:
        self.arm.assign(self.caller.principal_id, scope, frozenset(actions))

    async def call(self, method: str, path: str, version: str = VERSION) -> tuple[int, Any]:
        """The status, and the code of a refusal or else the body. The token is for the name that az asks for."""
        headers = {"Authorization": f"Bearer {self.entra.token(self.caller, ARM_AS_AZ_ASKS)}"}
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.request(method, path, params={"api-version": version}, headers=headers) as answer,
        ):
            body = await answer.json()
            return answer.status, body["error"]["code"] if "error" in body else body


@pytest.fixture
async def azure(authority: Authority) -> AsyncIterator[Azure]:
    clock = Clock()
    entra = Entra(clock)
    arm = Arm(entra, clock)
    arm.function_apps.add(FunctionApp(APP_ID, "pullkeeper.example", "the-key"))
    server = Server(arm.application, authority=authority)
    await server.start()
    yield Azure(arm, entra, entra.add_identity("caller"), server.url)
    await server.stop()


async def test_who_may_read_an_app_finds_its_address_in_any_case(azure: Azure) -> None:
    assert await azure.call("GET", APP_ID) == (403, "AuthorizationFailed")
    azure.allow(f"{SITES}/read")
    for path in (APP_ID, APP_ID.replace("Platform", "platform")):
        status, body = await azure.call("GET", path)
        assert (status, body["properties"]["defaultHostName"]) == (200, "pullkeeper.example")
    assert await azure.call("GET", APP_ID, "2016-08-01") == (400, "InvalidApiVersionParameter")


async def test_an_app_that_is_not_there_is_not_found(azure: Azure) -> None:
    azure.allow("*", scope=f"/subscriptions/{SUBSCRIPTION}")
    for method, path in (("GET", f"{APP_ID}-2"), ("POST", KEYS.replace("pullkeeper/", "pullkeeper-2/"))):
        assert await azure.call(method, path) == (404, "ResourceNotFound")


async def test_keys_want_an_action_of_their_own(azure: Azure) -> None:
    azure.allow(*READER)
    assert await azure.call("POST", KEYS) == (403, "AuthorizationFailed")
    azure.allow(f"{SITES}/host/listKeys/action")
    status, body = await azure.call("POST", KEYS)
    assert (status, body["functionKeys"]) == (200, {"default": "the-key"})


async def test_a_role_on_a_resource_shows_its_subscription_and_no_other(azure: Azure) -> None:
    azure.arm.assign("somebody else", "/subscriptions/another", READER)
    assert (await azure.call("GET", "/subscriptions", "2022-12-01"))[1]["value"] == []
    azure.allow(f"{SITES}/read")
    _, body = await azure.call("GET", "/subscriptions", "2022-12-01")
    assert [one["subscriptionId"] for one in body["value"]] == [SUBSCRIPTION]
    assert body["value"][0]["tenantId"] == azure.entra.tenant
    assert await azure.call("GET", "/subscriptions") == (400, "InvalidApiVersionParameter")


async def test_what_a_provider_serves_is_told_to_who_may_read_the_subscription(azure: Azure) -> None:
    azure.allow(*READER)
    assert await azure.call("GET", PROVIDER, "2024-11-01") == (403, "AuthorizationFailed")
    azure.allow(*READER, scope=f"/subscriptions/{SUBSCRIPTION}")
    status, body = await azure.call("GET", PROVIDER, "2024-11-01")
    assert status == 200
    assert {"resourceType": "sites", "apiVersions": [VERSION]} in body["resourceTypes"]
    assert await azure.call("GET", f"{PROVIDER}2", "2024-11-01") == (404, "InvalidResourceNamespace")
