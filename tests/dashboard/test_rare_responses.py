"""What the page does with responses that are rare: late, refused, of another clock, of secrets that soon expire."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from local.cloud import SUBSCRIPTION
from tests.dashboard.canned import HANG, PATIENCE, Canned, cluster_id, hub, line, path_of

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
    await canned_page.set_viewport_size({"width": 1280, "height": 3000})
    await expect(canned_page.locator("[aria-rowindex='40']")).to_be_attached()
    for kept, shown, top in ((2, 402, "document.body.scrollHeight"), (402, 3, "0")):
        await canned_page.locator(f"[aria-rowindex='{kept}'] a").focus()
        await canned_page.evaluate(f"scrollTo(0, {top})")
        await expect(canned_page.locator(f"[aria-rowindex='{shown}']")).to_be_attached()
        await expect(canned_page.locator(f"[aria-rowindex='{kept}'] a")).to_be_focused()
    pause = canned_page.get_by_role("button", name="Pause")
    await expect(pause).to_have_attribute("title", "Loads again every 15 s. Stop that")
    await pause.click()
    await canned_page.get_by_role("button", name="Resume").click()
    await pause.click()
    await canned_page.evaluate("for (const give of patience) give()")
    await expect(canned_page.get_by_role("alert").locator(".problem")).to_contain_text(
        ["has status 502", "No response within 60 s."]
    )
    await expect(canned_page.locator("#failures code")).to_contain_text(
        ["az functionapp log tail", "az functionapp show --ids"]
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

    healthy = {**line("healthy", "fresh", 60), "hub": None, "states": {"fresh": 1, "removed": 2}}
    canned.list_clusters(
        healthy, failed("late", "stale", 20), failed("later", "stale", 7), failed("lost", "expired", -5)
    )
    await canned.open(canned_page)
    await expect(canned_page.locator("#rows .name a")).to_have_text(["lost", "later", "late", "healthy"])
    life = canned_page.locator("#rows .life")
    await expect(life).to_have_text(["expired 4 min ago", "7 min left", "20 min left", "60 min left"])
    tones = await life.evaluate_all("(lives) => lives.map((life) => life.dataset.tone)")
    assert tones == ["bad", "bad", "warn", "ok"]
    await expect(canned_page.locator("#rows .states small")).to_have_text(["1 fresh, 2 removed"])
    await expect(canned_page.get_by_role("group", name="Secrets by state").get_by_role("button")).to_have_text(
        ["1 expired", "2 stale", "1 fresh", "2 removed"]
    )
    await expect(canned_page.locator("#safe")).to_have_text("1 of 4 secrets are safe")
    await expect(canned_page.get_by_role("heading", level=1)).to_have_text(
        "1 secret has expired, 2 could not be refreshed and still work."
    )
    await expect(canned_page.locator("#summary")).to_have_attribute("data-tone", "bad")
    await expect(canned_page.get_by_role("img")).to_have_accessible_name(
        "1 of 4 clusters have at least half of the token's life left."
    )
    await expect(canned_page).to_have_title("1 expired · Pullkeeper")
    await canned_page.get_by_text("The remedy of each cluster").click()
    await expect(canned_page.locator("#problems article")).to_have_attribute("data-tone", "bad")
    await expect(canned_page.locator("#problems .deadline")).to_have_text("expired 4 min ago")
    remedies = canned_page.locator("#problems details li code")
    await expect(remedies).to_have_text(["fix lost", "fix later", "fix late"])

    await canned_page.get_by_role("button", name="Pause").click()
    await canned_page.clock.run_for(120_000)
    await expect(life.last).to_have_text("58 min left")
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


async def test_many_failures_are_few_problems_the_worst_first(canned: Canned, canned_page: Page) -> None:
    throttled = [
        line(f"c{number}", "stale", 20, category="arm_throttled", detail="no", remedy=f"fix {number}")
        for number in range(21)
    ]
    denied = {"category": "cluster_rbac_denied", "detail": "may not"}
    unreached = {"category": "cluster_unreachable", "detail": "no route"}
    expired = {**line("expired", "expired", -5, **denied), "search": denied}
    canned.list_clusters(*throttled, {**line("fresh", "fresh", 50), "search": unreached}, expired)
    failure = {"category": "sts_rejected", "detail": "refused"}
    warning = {"category": "registry_refused", "detail": "no access"}
    minted = line("x", "fresh", 30)["worst"]
    life = {"lastMint": minted["issuedAt"], "expiresAt": minted["expiresAt"]}
    wrong = {"setting": "HUBS", "severity": "error", "detail": "is no JSON", "runbook": "see there"}
    canned.answers["status"] = {
        "documentation": "https://docs.example",
        "problems": [wrong],
        "hubs": [hub("main", failure=failure), hub("spare", warning=warning, **life), hub("new")],
        "totals": {"clusters": 23, "targets": {}, "overdue": 2},
        "queues": {"refresh": 3},
        "version": "1.2.3",
    }
    await canned.open(canned_page)
    cards = canned_page.locator("#problems article")
    bad = ["HUBS", "sts_rejected", "refresh_stopped", "cluster_rbac_denied"]
    warn = ["registry_refused", "cluster_unreachable", "arm_throttled"]
    await expect(cards.get_by_role("heading")).to_have_text([*bad, *warn])
    tones = await cards.evaluate_all("(cards) => cards.map((card) => card.dataset.tone)")
    assert tones == ["bad"] * len(bad) + ["warn"] * len(warn)
    await expect(cards.locator(".reach")).to_have_text(
        ["", "hub main", "", "1 cluster", "hub spare", "1 cluster", "21 clusters"]
    )
    await expect(cards.get_by_role("link", name="Runbook")).to_have_attribute(
        "href", "https://docs.example/docs/runbook/refresh_stopped.md"
    )
    await expect(cards.last.locator(".deadline")).to_contain_text("first expires in")
    await expect(cards.last.locator("details li")).to_have_count(20)
    await expect(cards.last.locator("footer a")).to_have_text([*[f"c{number}" for number in range(5)], "list all 21"])
    hubs = canned_page.locator("#hubs article")
    assert await hubs.evaluate_all("(hubs) => hubs.map((one) => one.dataset.tone)") == ["bad", "warn", "muted"]
    await expect(hubs.locator(".problem")).to_contain_text(["refused", "no access"])
    await expect(hubs.locator(".life")).to_contain_text(["min left"])
    await expect(canned_page.locator("#app")).to_contain_text(
        "Last runneverOverdue shards2Queue refresh3 messagesVersion1.2.3"
    )
    await expect(cards.nth(2).locator(".copyable code")).to_contain_text("az functionapp restart")
    await canned_page.get_by_role("search").get_by_label("State").select_option("fresh")
    await cards.last.get_by_role("link", name="list all 21").click()
    await expect(canned_page.locator("#listed")).to_have_text("21 of 23 clusters")
    canned.list_clusters(*throttled)
    await canned_page.evaluate("keepLoading()")
    await expect(canned_page.get_by_role("heading", level=1)).to_have_text(
        "21 secrets could not be refreshed and still work."
    )
    await expect(canned_page.locator("#summary")).to_have_attribute("data-tone", "bad")


async def test_a_late_failure_is_not_shown_as_another_clusters(canned: Canned, canned_page: Page) -> None:
    search = {"category": "cluster_rbac_denied", "detail": "may not list namespaces"}
    second = {**line("second", "fresh", 50, note="there is no account app"), "search": search}
    unseen = {**line("a", "fresh", 50), "states": {}, "worst": None}
    canned.list_clusters(line("first", "fresh", 50, note="no namespace"), second, unseen)
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

    old = await canned_page.locator("#rows").get_by_text("second").element_handle()
    await canned_page.evaluate("fleet.lines.forEach((one) => one.hub += '.'), drawAll()")
    assert not await canned_page.evaluate("(old) => old.isConnected", old), "nothing was drawn anew"
    await canned_page.keyboard.press("Escape")
    await expect(canned_page.locator("#rows").get_by_role("link", name="second")).to_be_focused()
    names = canned_page.locator("#rows .name a")
    await expect(names).to_have_text(["first", "second", "a"])
    await expect(canned_page.locator("#rows .message")).to_have_text(
        ["no namespace", "cluster_rbac_denied may not list namespaces", ""]
    )
    for text, found in (
        ("rbac_denied", ["second"]),
        ("shop", ["first", "second", "a"]),
        (SUBSCRIPTION, ["first", "second", "a"]),
    ):
        await canned_page.get_by_role("search").get_by_label("Find").fill(text)
        await expect(names).to_have_text(found)


async def test_who_looks_again_sees_what_is_new(canned: Canned, canned_page: Page) -> None:
    """What is still loading is not taken for an empty fleet."""
    canned.list_clusters(line("a", "fresh", 50))
    canned.answers |= {"status": HANG, "clusters?2": HANG}
    canned.answers["clusters"]["continuation"] = "2"
    await canned_page.add_init_script(PATIENCE)
    await canned.open(canned_page, text="b", hub="gone")
    await expect(canned_page.locator("#listed")).to_have_text("0 of 1 cluster, 1 loaded")
    await expect(canned_page.locator("#nothing")).to_be_hidden()
    await expect(canned_page.locator("#filter-hub")).to_have_value("gone")
    await canned_page.evaluate("fleet.lines.clear(), drawAll()")
    await expect(canned_page.get_by_role("heading", level=1)).to_have_text("Loading the fleet")
    canned.answers.clear()
    await canned_page.evaluate("for (const give of patience) give()")
    await expect(canned_page.locator("#failures .problem")).to_have_count(2)
    await canned_page.evaluate(_HIDE.format("true"))
    await canned_page.clock.pause_at(datetime.now(UTC) + timedelta(days=2))
    async with canned_page.expect_response("**/api/clusters"):
        await canned_page.evaluate(_HIDE.format("false"))
    await canned_page.clock.resume()
    await expect(canned_page.get_by_role("heading", level=1)).to_have_text("No cluster is in the fleet yet.")
    await expect(canned_page.locator("#nothing")).to_be_visible()
    await expect(canned_page.locator("#hubs")).to_have_text("The setting HUBS names none.")
    canned.answers["clusters"] = {"of": "another form"}
    await canned_page.evaluate("keepLoading().catch(() => {})")
    canned.answers.clear()
    async with canned_page.expect_response("**/api/clusters"):
        await canned_page.clock.run_for(11_000)
    await canned_page.get_by_role("button", name="Pause").click()
    canned.asked.clear()
    for hidden in ("true", "false"):
        await canned_page.evaluate(_HIDE.format(hidden))
    await canned_page.evaluate("call('GET', 'status')")
    assert len(canned.asked) == 1, "it stays paused"
