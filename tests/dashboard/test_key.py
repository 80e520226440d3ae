"""How the page gets the function key, and what it does without one."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from local.azurite import Azurite
from local.serving import Authority
from tests.dashboard.conftest import Open, find_barriers, query_of
from tests.http.conftest import App, host_app, principal

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]


async def test_the_key_leaves_the_address_and_stays_in_the_tab(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet(state="fresh")
    assert query_of(page) == "state=fresh"
    await page.reload()
    await expect(page.locator("#listed")).to_have_text("3 of 5 clusters")
    assert [url for url in dashboard.requests if fleet.host.keys.default in url] == dashboard.requests[:1]
    await page.get_by_role("button", name="Forget the key").click()
    await expect(page.get_by_role("heading", name="This page needs a function key")).to_be_visible()
    await expect(page.get_by_role("alert").filter(visible=True)).to_have_count(0)


async def test_a_key_behind_the_hash_never_reaches_the_server(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open(key=None)
    await page.goto("about:blank")
    await page.goto(f"{fleet.host.url}/api/dashboard#code={fleet.host.keys.default}")
    await expect(page.locator("#listed")).to_have_text("5 of 5 clusters")
    assert page.url.endswith("/api/dashboard")


async def test_a_wrong_key_is_refused_and_the_right_one_pasted(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open(key="wrong", text="shop")
    await expect(page.locator("#refused")).to_have_text("The app refuses this key")
    await expect(page.locator("#entra")).to_be_hidden()
    assert await page.evaluate("sessionStorage.length") == 0
    await page.get_by_label("Function key").fill(fleet.host.keys.default)
    await page.keyboard.press("Enter")
    await expect(page.locator("#listed")).to_have_text("2 of 5 clusters")
    assert query_of(page) == "text=shop"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signed_in_app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    async with host_app(f"{request.node.nodeid}-signed-in", azurite, authority, WEBSITE_AUTH_ENABLED="True") as app:
        yield app


async def test_a_sign_in_with_entra_needs_no_key(signed_in_app: App, browse: Open) -> None:
    """The platform turns the browser's cookie into the principal."""
    await signed_in_app.world.join("aks-1")
    dashboard = await browse(signed_in_app, extra_http_headers=principal("Pullkeeper.Read"))
    page = await dashboard.open(key=None)
    await expect(page.locator("#listed")).to_have_text("1 of 1 cluster")
    dashboard.check()
    await expect(page.get_by_role("button", name="Forget the key")).to_have_count(0)
    await page.get_by_role("button", name="Refresh all").click()
    refusal = "the caller does not have the app role Pullkeeper.Onboard"
    await expect(page.locator("#failures")).to_contain_text(refusal)
    await page.locator("#rows").get_by_role("link", name="aks-1").click()
    await page.get_by_role("dialog").get_by_role("button", name="Refresh now").click()
    await expect(page.get_by_role("dialog").locator(".problem").first).to_contain_text(refusal)


async def test_without_a_sign_in_the_page_leads_to_entra(signed_in_app: App, browse: Open) -> None:
    """The platform responds with 401, or with a redirect to another host, which the page does not follow."""
    dashboard = await browse(signed_in_app)
    for refusal in ({"status": 401}, {"status": 302, "headers": {"Location": "https://login.example/authorize"}}):
        await dashboard.intercept(partial(_refuse, refusal))
        page = await dashboard.open(key=None, state="fresh")
        await expect(page.get_by_role("heading")).to_have_text("Sign in to see the fleet")
        await expect(page.get_by_label("Function key")).to_be_hidden()
        link = page.get_by_role("link", name="Sign in with Entra")
        await expect(link).to_be_focused()
        came_from = "%2Fapi%2Fdashboard%3Fstate%3Dfresh"
        await expect(link).to_have_attribute("href", f"/.auth/login/aad?post_login_redirect_uri={came_from}")
        assert await find_barriers(page) == []


async def _refuse(refusal: Any, route: Route) -> None:
    await route.fulfill(**refusal)
