"""How the page gets the function key, and what it does without one."""

import pytest
from playwright.async_api import Route, expect

from tests.dashboard.conftest import Open, query_of
from tests.http.conftest import App

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
    await page.get_by_label("Function key").fill(fleet.host.keys.default)
    await page.keyboard.press("Enter")
    await expect(page.locator("#listed")).to_have_text("2 of 5 clusters")
    assert query_of(page) == "text=shop"


async def test_where_callers_sign_in_with_entra_the_page_leads_there(fleet: App, browse: Open) -> None:
    """An expired sign-in is a redirect to another host, which the page does not follow."""
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet(state="fresh")

    async def redirect(route: Route) -> None:
        await route.fulfill(status=302, headers={"Location": "https://login.example/authorize"})

    await page.route("**/api/status", redirect)
    await page.route("**/.auth/me", lambda route: route.fulfill(status=401))
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#refused")).to_have_text("Your sign-in has ended")
    link = page.get_by_role("link", name="sign in")
    await expect(link).to_have_attribute(
        "href", "/.auth/login/aad?post_login_redirect_uri=%2Fapi%2Fdashboard%3Fstate%3Dfresh"
    )
