"""What the page does if it is asked for something that is refused, slow, or asked for twice."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.dashboard.canned import HANG, PATIENCE, Canned, cluster_id, line, operation, path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_diagnosis_runs_once_and_ends_if_it_fails(canned: Canned, canned_page: Page) -> None:
    canned.list_clusters(line("a", "fresh", 50))
    route = f"{path_of('a')}/diagnosis"
    canned.answers[route] = HANG
    await canned_page.add_init_script(PATIENCE)
    await canned.open(canned_page, cluster=cluster_id("a"))
    diagnose = canned_page.get_by_role("dialog").get_by_role("button", name="Diagnos")
    await diagnose.click()
    await expect(diagnose).to_contain_text("Diagnosing")
    await diagnose.press("Enter")
    await canned_page.evaluate("for (const give of patience) give()")
    await expect(canned_page.locator("#panel .problem")).to_contain_text("No response within 60 s.")
    await expect(diagnose).to_have_text("Diagnose a")
    assert len(canned.calls(route)) == 1


async def test_a_key_that_is_refused_later_is_asked_for_again_and_not_kept(canned: Canned, canned_page: Page) -> None:
    """Nothing is loaded without one, and no dialog lies before the form."""
    canned.list_clusters(line("a", "fresh", 50))
    await canned.open(canned_page, cluster=cluster_id("a"))
    await expect(canned_page.locator("#panel .targets li")).to_have_count(1)
    canned.answers[f"{path_of('a')}/refresh"] = (401, "")
    await canned_page.get_by_role("button", name="Refresh now").click()
    await expect(canned_page.get_by_label("Function key")).to_be_focused()
    await expect(canned_page.get_by_role("dialog")).to_have_count(0)
    canned.asked.clear()
    await canned_page.clock.run_for(60_000)
    await canned_page.evaluate("call('GET', 'status')")
    assert [one.path for one in canned.asked] == ["status"]
    key = canned_page.get_by_label("Function key")
    await expect(key).to_have_attribute("type", "password")
    await expect(key).to_have_attribute("autocomplete", "off")
    await key.fill("another")
    await canned_page.keyboard.press("Enter")
    await expect(canned_page.locator("#listed")).to_have_text("1 of 1 cluster")
    assert await canned_page.locator("#key").input_value() == ""
    await canned_page.goto(f"{canned.url}/api/dashboard?code=")
    assert await canned_page.evaluate("sessionStorage.getItem('pullkeeper.key')") == "another", (
        "an empty one replaces none"
    )


async def test_a_refusal_is_shown_until_the_next_success(canned: Canned, canned_page: Page) -> None:
    canned.list_clusters(line("own", "unknown", 50))
    canned.answers |= {
        "status": {"totals": {"clusters": 1, "targets": {}, "overdue": 1}},
        "refresh": (500, {"error": "x"}),
    }
    await canned.open(canned_page)
    await expect(canned_page.get_by_role("heading", level=1)).to_have_text(
        "No failure is known, but something is broken."
    )
    await canned_page.get_by_role("button", name="Refresh all").click()
    await expect(canned_page.locator("#failures")).to_contain_text("has status 500 and says no more")
    canned.answers["refresh"] = (403, {"title": "Forbidden", "detail": "may not", "category": "invalid_request"})
    await canned_page.get_by_role("button", name="Refresh all").click()
    await expect(canned_page.locator("#failures")).to_contain_text("may not")
    canned.answers["refresh"] = (202, {"queued": 1})
    await canned_page.get_by_role("button", name="Refresh all").click()
    await expect(canned_page.locator("#failures .problem")).to_have_count(0)


async def test_an_operation_is_followed_while_it_is_open(canned: Canned, canned_page: Page) -> None:
    path = f"operations/{'0' * 32}"
    canned.answers[path] = operation("Running")
    await canned.open(canned_page, operation="0" * 32)
    await expect(canned_page.locator("#panel .state")).to_have_text("running")
    async with canned_page.expect_response(f"**/api/{path}"):
        await canned_page.clock.run_for(1_000)
    await canned_page.keyboard.press("Escape")
    await expect(canned_page.get_by_role("dialog")).to_have_count(0)
    for _ in range(2):
        canned.asked.clear()
        await canned_page.clock.run_for(5_000)
        await canned_page.evaluate("call('GET', 'status')")
    assert canned.calls(path) == []


async def test_the_form_sends_what_is_ticked_once_and_waits_for_the_plan(canned: Canned, canned_page: Page) -> None:
    hub: dict[str, Any] = {
        "registries": [],
        "lastMint": None,
        "expiresAt": None,
        "mintSeconds": None,
        "warning": None,
        "failure": None,
    }
    hubs = [{**hub, "name": "broken", "fault": "has no registry"}, {**hub, "name": "main", "fault": None}]
    canned.answers["status"] = {"hubs": hubs, "problems": []}
    planned = operation("Running", dryRun=True)
    listed = [*[operation("Succeeded")] * 6, planned]
    canned.answers |= {f"operations/{planned['id']}": planned, "operations": {"operations": listed, "counts": {}}}
    await canned.open(canned_page)
    await expect(canned_page.locator("#hubs article").first).to_contain_text("has no registry")
    await expect(canned_page.locator("#operations li").first).to_contain_text("running")
    await canned_page.get_by_role("button", name="Onboard a cluster").click()
    form = canned_page.get_by_role("dialog", name="Onboard a cluster")
    assert await form.get_by_label("Hub").locator("option").evaluate_all("(all) => all.map((one) => one.value)") == [
        "main",
        "",
    ]
    await form.get_by_label("Azure resource id").fill(f" {cluster_id('a')} ")
    for box in await form.get_by_role("checkbox").all():
        await box.check()
    canned.answers["clusters"] = (202, planned)
    await form.get_by_role("button", name="Show the plan").click()
    await expect(form.locator("#onboard-progress .state")).to_have_text("running")
    await expect(form.get_by_role("button", name="Show the plan")).to_be_disabled()
    go = form.get_by_role("button", name="Onboard a", exact=True)
    await expect(go).to_have_count(0)
    result = {"left": ["a role"], "handover": {"commands": ["gcloud iam"]}, "manifests": None, "seconds": 1}
    canned.answers[f"operations/{planned['id']}"] = {**planned, "status": "Succeeded", "result": result}
    await canned_page.clock.run_for(1_000)
    await expect(go).to_be_visible()
    await expect(form.locator("#onboard-progress li")).to_have_text(["a role"])
    await expect(form.locator("#onboard-progress .copyable code")).to_have_text(["gcloud iam"])
    await form.get_by_label("Hub").select_option("")
    await form.get_by_role("button", name="Show the plan").click()
    await expect(go).to_be_visible()
    sent, without_hub = [one.body for one in canned.asked if one.method == "POST"]
    assert without_hub == {name: value for name, value in sent.items() if name != "hub"}
    accounts = [{"name": "deepintshield-sa", "federate": True}]
    assert sent == {
        "cluster": cluster_id("a"),
        "hub": "main",
        "targets": [{"namespace": "deepintshield", "secret": "ar-pull-secret", "serviceAccounts": accounts}],
        **dict.fromkeys(("enableWorkloadIdentity", "adopt", "retireCronJob", "dryRun"), True),
    }
    canned.answers[f"operations/{planned['id']}"] = {**planned, "status": "Failed"}
    await form.get_by_role("button", name="Show the plan").click()
    await expect(form.locator("#onboard-progress .state")).to_have_text("failed")
    await expect(go).to_have_count(0)
