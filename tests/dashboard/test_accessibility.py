"""The page for everybody: no barrier that axe-core knows, in light and dark, wide and on a phone; the keyboard."""

from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from tests.dashboard.conftest import Open, find_barriers, photograph
from tests.http.conftest import App

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_PHONE: Final = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
_DEVICES: Final[dict[str, dict[str, Any]]] = {
    f"{colours}{suffix}": {"color_scheme": colours, **device}
    for suffix, device in (("", {}), ("-phone", _PHONE))
    for colours in ("light", "dark")
}


@pytest.mark.parametrize("device", _DEVICES)
async def test_no_view_has_a_barrier(fleet: App, browse: Open, device: str) -> None:
    dashboard = await browse(fleet, **_DEVICES[device])
    page = await dashboard.open_fleet()
    await page.emulate_media(reduced_motion="reduce")
    await photograph(page, f"fleet-{device}")
    barriers = {"fleet": await find_barriers(page)}
    await page.locator("#problems").get_by_role("link", name="bank-edge").click()
    await expect(page.locator("#panel .targets li")).to_have_count(1)
    await photograph(page, f"cluster-{device}")
    barriers["cluster"] = await find_barriers(page)
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Onboard a cluster").click()
    barriers["onboarding"] = await find_barriers(page)
    await page.keyboard.press("Escape")
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    barriers["clusters"] = await find_barriers(page)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    await page.get_by_role("button", name="Forget the key").click()
    await expect(page.get_by_label("Function key")).to_be_focused()
    barriers["key"] = await find_barriers(page)
    assert {view: found for view, found in barriers.items() if found} == {}


async def _tab_to(page: Page, name: str) -> None:
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == name:
            return
    raise AssertionError(f"the keyboard does not reach {name}")


async def test_the_keyboard_is_enough(fleet: App, browse: Open) -> None:
    """Skip to the clusters, step through the rows, open one, close it, and be back at the row."""
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    await _tab_to(page, "Skip to the clusters")
    await page.keyboard.press("Enter")
    await _tab_to(page, "bank-audit")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="bank-edge")
    await expect(panel.locator(".targets li")).to_have_count(1)
    await _tab_to(page, "Refresh now")
    await page.keyboard.press("Escape")
    await expect(panel).to_have_count(0)
    await expect(page.locator("#rows").get_by_role("link", name="bank-edge")).to_be_focused()


async def test_the_focus_survives_new_data(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    for place in ("#rows", "#problems"):
        link = page.locator(place).get_by_role("link", name="bank-edge")
        await link.focus()
        old = await link.element_handle()
        await page.evaluate("for (const line of fleet.lines.values()) line.worst.detail += '.'; drawAll()")
        assert not await page.evaluate("(old) => old.isConnected", old), "nothing was drawn anew"
        await expect(link).to_be_focused()


async def test_screen_readers_hear_the_table_as_a_whole(fleet: App, browse: Open) -> None:
    """Rows that are not in the page are counted."""
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    await expect(page.get_by_role("table", name="Clusters")).to_have_attribute("aria-rowcount", "6")
    await expect(page.get_by_role("row").nth(2)).to_have_attribute("aria-rowindex", "3")
    await expect(page.get_by_role("cell", name="bank-edge platform")).to_have_count(1)
