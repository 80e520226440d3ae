"""What the page shows of a fleet, how it is filtered, and what it does to it."""

import asyncio

import pytest
from playwright.async_api import Route, expect

from pullkeeper.version import REPOSITORY
from tests.dashboard.conftest import Open, find_barriers, photograph, query_of
from tests.end_to_end.conftest import until
from tests.http.conftest import App, cluster_path

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_HIDE = """
    Object.defineProperty(document, "hidden", {value: true});
    document.dispatchEvent(new Event("visibilitychange"));
"""


async def test_the_first_look_says_how_many_are_safe_what_is_broken_and_what_to_type(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    await expect(page.get_by_role("heading", level=1)).to_have_text("2 secrets are not written yet.")
    await expect(page.locator("#safe")).to_have_text("122 of 124 secrets are safe")
    await expect(page.get_by_role("img")).to_have_accessible_name(
        "3 of 3 clusters have at least half of the token's life left."
    )
    cards = page.locator("#problems article")
    await expect(cards.get_by_role("heading")).to_have_text(["cluster_rbac_denied", "cluster_unreachable"])
    worst = (await fleet.call("GET", cluster_path(fleet.world.cloud.clusters["bank-audit"]))).body["worst"]
    await expect(cards.first.locator(".detail")).to_have_text(worst["detail"])
    await expect(cards.first.locator("code")).to_have_text(worst["remedy"])
    runbook = cards.first.get_by_role("link", name="Runbook")
    await expect(runbook).to_have_attribute("href", f"{REPOSITORY}/blob/main/docs/runbook/cluster_rbac_denied.md")
    await expect(runbook).to_have_attribute("rel", "noopener noreferrer")
    await expect(page.locator("#hubs article")).to_contain_text(["mainDiagnose", "financeDiagnose"])
    await expect(page.locator("#hubs article").first).to_contain_text("Last mint")
    await expect(page.locator("#app")).to_contain_text("Overdue shards0")
    dashboard.check()


async def test_a_remedy_is_copied(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet, permissions=["clipboard-read", "clipboard-write"])
    page = await dashboard.open_fleet()
    await page.get_by_role("button", name="Copy: remedy for bank-audit").click()
    await expect(page.locator("#announcement")).to_have_text("Copied")
    assert (await page.evaluate("navigator.clipboard.readText()")).startswith("kubectl get namespace deepintshield")
    await page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    await page.get_by_role("button", name="Copy: remedy for bank-audit").click()
    await expect(page.locator("#announcement")).to_contain_text("copy it with your keyboard")
    assert (await page.evaluate("String(getSelection())")).startswith("kubectl get namespace deepintshield")


async def test_filters_stay_in_the_address(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    names = page.locator("#rows .name a")
    await expect(names).to_have_text(["bank-audit", "bank-edge", "bank-main", "shop-north", "shop-west"])
    filters = page.get_by_role("search")
    await filters.get_by_label("Hub").select_option("finance")
    await filters.get_by_label("State").select_option("pending")
    await filters.get_by_label("Find").fill(" Unreach")
    await expect(names).to_have_text(["bank-edge"])
    assert query_of(page) == "hub=finance&state=pending&text=+Unreach"
    await page.reload()
    await expect(names).to_have_text(["bank-edge"])
    await expect(filters.get_by_label("Find")).to_have_value(" Unreach")
    await page.get_by_role("button", name="Clear").click()
    await expect(filters.get_by_label("Find")).to_be_focused()
    await expect(names).to_have_count(5)
    fresh = page.get_by_role("group", name="Secrets by state").get_by_role("button", name="fresh")
    await fresh.click()
    await expect(fresh).to_have_attribute("aria-pressed", "true")
    await expect(names).to_have_count(3)
    assert query_of(page) == "state=fresh"
    await fresh.click()
    await expect(names).to_have_count(5)


async def test_a_cluster_opens_its_targets_page_by_page(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    await page.get_by_role("link", name="bank-main").click()
    panel = page.get_by_role("dialog", name="bank-main")
    targets = panel.locator(".targets li")
    await expect(targets).to_have_count(100)
    await expect(targets.first).to_contain_text("team-000/ar-pull-secretfresh")
    await panel.get_by_role("button", name="Show more: 20 are left").click()
    await expect(targets).to_have_count(120)
    await page.reload()
    await expect(page.get_by_role("dialog", name="bank-main")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert query_of(page) == ""


async def test_a_late_response_is_not_shown_as_another_clusters(fleet: App, browse: Open) -> None:
    page = await (await browse(fleet)).open_fleet()
    go = asyncio.Event()

    async def respond_late(route: Route) -> None:
        await go.wait()
        await route.continue_()

    await page.route("**/api/clusters/*/*/bank-main", respond_late)
    await page.get_by_role("link", name="bank-main").click()
    await expect(page.get_by_role("dialog", name="bank-main")).to_be_visible()
    await page.go_back()
    await page.get_by_role("link", name="shop-west").click()
    targets = page.get_by_role("dialog", name="shop-west").locator(".targets li")
    await expect(targets).to_have_count(1)
    async with page.expect_response("**/api/clusters/*/*/bank-main") as response:
        go.set()
    await (await response.value).finished()
    await page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    assert await targets.count() == 1


async def test_a_diagnosis_names_the_hop_that_failed(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    await page.get_by_role("button", name="Diagnose hub finance").click()
    hub = page.locator("#hubs article").filter(has=page.get_by_role("link", name="finance"))
    await expect(hub.locator(".hops .heading")).to_contain_text(["okmanaged-identity", "okentra-token"])
    await page.locator("#problems").get_by_role("link", name="bank-audit").click()
    panel = page.get_by_role("dialog", name="bank-audit")
    await panel.get_by_role("button", name="Diagnose").click()
    failed = panel.locator(".hops > li").filter(has_text="failed")
    await expect(failed.first.locator(".heading")).to_contain_text("failedpermission")
    await expect(failed.first.locator(".copyable")).to_be_visible()
    await expect(failed.first.get_by_role("link", name="Runbook")).to_be_visible()
    await photograph(page, "diagnosis")
    assert await find_barriers(page) == []
    dashboard.check()


async def test_the_whole_fleet_is_refreshed(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    before = (await fleet.call("GET", cluster_path(fleet.world.cloud.clusters["shop-west"]))).body["worst"]

    async def is_written_again() -> bool:
        now = (await fleet.call("GET", cluster_path(fleet.world.cloud.clusters["shop-west"]))).body["worst"]
        return bool(now["lastSuccess"] > before["lastSuccess"])

    await page.get_by_role("button", name="Refresh all").click()
    await expect(page.locator("#announcement")).to_contain_text("Refresh of the whole fleet is queued")
    await until(is_written_again)


async def test_the_failure_of_a_route_is_shown_with_its_remedy(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open(cluster="/subscriptions/x/resourceGroups/y/providers/z/w/gone")
    panel = page.get_by_role("dialog")
    await expect(panel.locator(".category")).to_have_text("invalid_request")
    await expect(panel).to_contain_text("the cluster's id must be")
    await expect(panel.get_by_role("link", name="Runbook")).to_have_attribute(
        "href", f"{REPOSITORY}/blob/main/docs/runbook/invalid_request.md"
    )


async def test_data_is_loaded_again_only_while_somebody_looks(fleet: App, browse: Open) -> None:
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet()
    await page.clock.install()
    await page.reload()
    await expect(page.locator("#as-of")).to_contain_text("As of")
    async with page.expect_response("**/api/clusters"):
        await page.clock.run_for(11_000)

    async def loads_in_a_minute() -> int:
        before = len(dashboard.requests)
        await page.clock.run_for(60_000)
        return len(dashboard.requests) - before

    await page.get_by_role("button", name="Pause").click()
    assert await loads_in_a_minute() == 0
    await page.get_by_role("button", name="Resume").click()
    await page.evaluate(_HIDE)
    await page.wait_for_load_state("networkidle")
    assert await loads_in_a_minute() == 0


async def test_a_broken_cluster_is_repaired_and_refreshed_and_leaves(fleet: App, browse: Open) -> None:
    """The page shows by itself what has changed."""
    cluster = await fleet.world.join("repaired")
    await cluster.server.stop()
    await fleet.call("POST", f"{cluster_path(cluster)}/refresh")

    async def has_failed() -> bool:
        return (await fleet.call("GET", cluster_path(cluster))).body["worst"]["category"] is not None

    await until(has_failed)
    dashboard = await browse(fleet)
    page = await dashboard.open_fleet(text="repaired")
    await page.locator("#rows").get_by_role("link", name="repaired").click()
    panel = page.get_by_role("dialog", name="repaired")
    await expect(panel.locator(".problem")).to_contain_text("cluster_unreachable")
    await cluster.server.start()
    await panel.get_by_role("button", name="Refresh now").click()
    await expect(panel.get_by_role("status")).to_have_text("Refresh of repaired is queued (1 message).")
    await expect(panel.locator(".problem")).to_have_count(0)
    await expect(panel.locator(".targets")).to_contain_text("fresh")
    await page.keyboard.press("Escape")
    await expect(page.locator("#rows .state")).to_have_text("fresh")
    await fleet.world.services.fleet.remove(cluster.id)
    await expect(page.locator("#rows .state")).to_have_count(0, timeout=20_000)
    dashboard.check()
