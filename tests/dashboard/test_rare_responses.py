"""What the page does with responses that are rare: late, refused, of another clock, of secrets that soon expire."""

from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from tests.dashboard.canned import HANG, PATIENCE, Canned, cluster_id, line, path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
_HIDE: Final = """
    Object.defineProperty(document, "hidden", {{value: {}, configurable: true}});
    document.dispatchEvent(new Event("visibilitychange"));
"""


async def test_one_load_at_a_time_and_none_forever(canned: Canned, canned_page: Page) -> None:
    """Until all of it has succeeded, the page does not say of when it is. A large fleet is loaded less often."""
    lines = [line(f"c{number}", "fresh", 50) for number in range(401)]
    canned.answers["clusters"] = {"clusters": lines[1:], "continuation": "a&b"}
    canned.answers["clusters?a&b"] = {"clusters": lines[:1], "continuation": None}
    canned.answers |= {"status": HANG, "operations": (502, "<html>Bad Gateway</html>")}
    await canned_page.add_init_script(PATIENCE)
    await canned.open(canned_page)
    await expect(canned_page.locator("#listed")).to_have_text("401 of 401 clusters")
    pause = canned_page.get_by_role("button", name="Pause")
    await expect(pause).to_have_attribute("title", "Loads again every 15 s. Stop that")
    await pause.click()
    await canned_page.get_by_role("button", name="Resume").click()
    await pause.click()
    await canned_page.evaluate("for (const give of patience) give()")
    await expect(canned_page.locator("#failures .problem")).to_contain_text(
        ["has status 502", "No response within 60 s."]
    )
    await expect(canned_page.locator("#as-of")).to_have_text("Loading")
    assert len(canned.calls("clusters")) == 2, "one for each page"
    assert {one.cache for one in canned.asked} == {"no-cache"}
    canned.asked.clear()
    await canned_page.clock.run_for(60_000)
    await canned_page.evaluate("call('GET', 'status'), null")
    await expect(canned_page.get_by_role("button", name="Resume")).to_be_visible()
    assert len(canned.asked) == 1, "it was paused while it loaded"


async def test_what_is_urgent_comes_first_by_the_apps_clock(canned: Canned, canned_page: Page) -> None:
    def failed(name: str, state: str, minutes_left: int) -> dict[str, Any]:
        return line(name, state, minutes_left, category="arm_throttled", detail="no", remedy=f"fix {name}")

    healthy = {**line("healthy", "fresh", 55), "hub": None, "states": {"fresh": 1, "removed": 2}}
    canned.list_clusters(
        healthy, failed("late", "stale", 20), failed("later", "stale", 7), failed("lost", "expired", -5)
    )
    await canned.open(canned_page)
    await expect(canned_page.locator("#rows .name a")).to_have_text(["lost", "later", "late", "healthy"])
    life = canned_page.locator("#rows .life")
    await expect(life).to_have_text(["expired 4 min ago", "7 min left", "20 min left", "55 min left"])
    tones = await life.evaluate_all("(lives) => lives.map((life) => life.dataset.tone)")
    assert tones == ["bad", "bad", "warn", "ok"]
    await expect(canned_page.locator("#safe")).to_have_text("1 of 4 secrets are safe")
    await expect(canned_page).to_have_title("1 expired · Pullkeeper")
    await canned_page.get_by_text("The remedy of each cluster").click()
    await expect(canned_page.locator("#problems article")).to_have_attribute("data-tone", "bad")
    remedies = canned_page.locator("#problems details li code")
    await expect(remedies).to_have_text(["fix lost", "fix later", "fix late"])

    await canned_page.get_by_role("button", name="Pause").click()
    await canned_page.clock.run_for(120_000)
    await expect(life.last).to_have_text("53 min left")
    canned.list_clusters(healthy, failed("late", "stale", 20), failed("lost", "expired", -5))
    unchanged = await life.last.element_handle()
    await canned_page.get_by_role("button", name="Resume").click()
    await expect(remedies).to_have_text(["fix lost", "fix late"])
    await expect(remedies.last).to_be_visible()
    assert await canned_page.evaluate("(life) => life.isConnected", unchanged)

    async with canned_page.context.expect_page():
        await canned_page.locator("#rows").get_by_role("link", name="late").click(modifiers=["ControlOrMeta"])
    await expect(canned_page.get_by_role("dialog")).to_have_count(0)
    steps = await canned_page.evaluate("history.length")
    await canned_page.get_by_role("search").get_by_label("Hub").select_option("a hub of its own")
    await expect(canned_page.locator("#rows .name a")).to_have_text(["healthy"])
    assert await canned_page.evaluate("history.length") == steps


async def test_a_late_failure_is_not_shown_as_another_clusters(canned: Canned, canned_page: Page) -> None:
    search = {"category": "cluster_rbac_denied", "detail": "may not list namespaces"}
    second = {**line("second", "fresh", 50, note="there is no account app"), "search": search}
    canned.list_clusters(line("first", "fresh", 50), second)
    canned.answers[path_of("first")] = HANG
    await canned_page.add_init_script(PATIENCE)
    await canned.open(canned_page, cluster=cluster_id("first"))
    await expect(canned_page.get_by_role("dialog", name="first")).to_contain_text("Loading")
    await canned_page.evaluate("setPaused(true)")  # what is loaded later would hide it
    await canned_page.keyboard.press("Escape")
    await canned_page.locator("#rows").get_by_role("link", name="second").click()
    panel = canned_page.get_by_role("dialog", name="second")
    await expect(panel.locator(".targets li")).to_have_count(1)
    await canned_page.evaluate("for (const give of patience) give()")
    await canned_page.evaluate("call('GET', 'status')")
    await expect(panel.locator(".targets li")).to_contain_text("there is no account app")
    await expect(panel.locator(".problem")).to_contain_text(["may not list namespaces"])


async def test_who_looks_again_sees_what_is_new(canned: Canned, canned_page: Page) -> None:
    await canned.open(canned_page)
    await expect(canned_page.locator("#as-of")).to_contain_text("As of")
    await canned_page.evaluate(_HIDE.format("true"))
    async with canned_page.expect_response("**/api/clusters"):
        await canned_page.evaluate(_HIDE.format("false"))
