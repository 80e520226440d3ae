"""The form that onboards a cluster: the plan first, then the same for real."""

import pytest
from playwright.async_api import Page, expect

from tests.dashboard.conftest import Open, photograph
from tests.http.conftest import App, cluster_path

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]


async def _open_form(page: Page, cluster: str) -> None:
    await page.get_by_role("button", name="Onboard a cluster").click()
    form = page.get_by_role("dialog", name="Onboard a cluster")
    await form.get_by_label("Azure resource id").fill(cluster)


async def test_a_cluster_is_onboarded_after_its_plan(app: App, browse: Open) -> None:
    cluster = await app.add_cluster("new-1")
    dashboard = await browse(app)
    page = await dashboard.open_fleet()
    await _open_form(page, str(cluster.id))
    form = page.get_by_role("dialog", name="Onboard a cluster")
    await form.get_by_label("Hub").select_option("finance")
    await form.get_by_label("Namespace").fill("shop")
    await form.get_by_text("Further fields").click()
    await form.get_by_label("A JSON object").fill('{"identity": "new-1-identity", "dryRun": false}')
    await form.get_by_role("button", name="Show the plan").click()
    go = form.get_by_role("button", name="Onboard new-1")
    await expect(go).to_be_visible()
    await expect(form.locator(".steps li").filter(has_text="pull secret")).to_contain_text("planned")
    assert (await app.call("GET", cluster_path(cluster))).status == 404
    await photograph(page, "plan")

    await go.click()
    await expect(form.get_by_role("heading", name="Onboarding new-1")).to_be_visible()
    await expect(form.locator("#onboard-progress > p .state")).to_have_text("succeeded")
    await expect(form.locator(".steps li").filter(has_text="pull secret")).to_contain_text("1 secrets written")
    await expect(go).to_have_count(0)
    line = (await app.call("GET", cluster_path(cluster))).body
    assert (line["hub"], line["worst"]["target"], line["worst"]["state"]) == ("finance", "shop/ar-pull-secret", "fresh")

    await form.get_by_role("button", name="Close").click()
    await expect(page.locator("#rows .name a")).to_have_text("new-1")
    await page.locator("#operations").get_by_role("link", name="onboard new-1", exact=True).click()
    await expect(page.get_by_role("dialog", name="onboard new-1").locator(".steps li").first).to_contain_text("done")
    dashboard.check()


async def test_a_changed_form_needs_a_new_plan(app: App, browse: Open) -> None:
    cluster = await app.add_cluster("new-2")
    dashboard = await browse(app)
    page = await dashboard.open_fleet()
    await _open_form(page, str(cluster.id))
    await page.get_by_role("button", name="Show the plan").click()
    go = page.get_by_role("button", name="Onboard new-2")
    await expect(go).to_be_visible()
    await page.get_by_label("Secret", exact=True).fill("another")
    await expect(go).to_have_count(0)


async def test_a_refused_request_says_what_is_wrong(app: App, browse: Open) -> None:
    dashboard = await browse(app)
    page = await dashboard.open_fleet()
    await _open_form(page, "/subscriptions/mine")
    await page.get_by_role("button", name="Show the plan").click()
    progress = page.locator("#onboard-progress")
    await expect(progress.locator(".category")).to_have_text("invalid_request")
    await expect(progress).to_contain_text("cluster: must be /subscriptions/GUID/resourceGroups/GROUP")
    await page.get_by_text("Further fields").click()
    for further in ("[1]", '"text"', "{"):
        await page.get_by_label("A JSON object").fill(further)
        await expect(progress).to_be_empty()
        await page.get_by_role("button", name="Show the plan").click()
        await expect(progress).to_contain_text("Further fields: it is no JSON object" if further != "{" else "JSON at")


async def test_a_step_that_fails_shows_its_remedy(app: App, browse: Open) -> None:
    cluster = await app.add_cluster("new-3")
    await cluster.server.stop()
    dashboard = await browse(app)
    page = await dashboard.open_fleet()
    await _open_form(page, str(cluster.id))
    await page.get_by_role("button", name="Show the plan").click()
    failed = page.locator("#onboard-progress .steps .problem")
    await expect(failed.locator(".category")).to_have_text("cluster_unreachable", timeout=60_000)
    await expect(failed.get_by_role("button", name="Copy: remedy for cluster_unreachable")).to_be_visible()
    await expect(page.get_by_role("button", name="Onboard new-3")).to_have_count(0)
