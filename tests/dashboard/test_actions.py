"""What the page does if it is asked for something that is refused, slow, or asked for twice."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Page, expect

from tests.dashboard.canned import HANG, PATIENCE, Canned, cluster_id, hub, line, operation, path_of

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
    await canned.receive(route)
    await canned_page.evaluate("for (const give of patience) give()")
    await expect(canned_page.locator("#panel .problem")).to_contain_text("No response within 60 s.")
    await expect(diagnose).to_have_text("Diagnose a")
    assert len(canned.calls(route)) == 1

    hop = {"subject": None, "detail": "no", "evidence": {"seen": "x"}, "because": None, "category": None}
    hops = [
        {
            **hop,
            "name": "secret",
            "subject": "a/b",
            "state": "failed",
            "remedy": "fix it",
            "category": "secret_missing",
        },
        {**hop, "name": "pods", "state": "skipped", "because": "secret"},
    ]
    canned.answers[route] = {"at": datetime.now(UTC).isoformat(), "seconds": 1, "state": "failed", "hops": hops}
    await diagnose.click()
    listed = canned_page.locator("#panel .hops > li")
    await expect(listed).to_contain_text(["failedsecreta/b", "skippedpods no (secret comes first)"])
    await expect(listed.locator(".category")).to_have_text(["secret_missing"])
    await expect(canned_page.locator("#announcement")).to_have_text("The diagnosis of a: failed")
    await expect(listed.locator("dl").first).to_be_visible()
    await expect(listed.locator("dl").last).to_be_hidden()


async def test_an_open_cluster_is_loaded_again_with_as_many_pages(canned: Canned, canned_page: Page) -> None:
    one = line("a", "fresh", 50)
    canned.list_clusters(one)
    canned.answers[path_of("a")] = (500, "")
    await canned.open(canned_page, cluster=cluster_id("a"))
    problem, targets = canned_page.locator("#panel .problem"), canned_page.locator("#panel .targets li")
    await expect(problem).to_contain_text("has status 500")
    first = {**one, "states": {"fresh": 2}, "continuation": "a&b", "refresher": "in-cluster"}
    first["nextDue"] = (datetime.now(UTC) + timedelta(hours=3, minutes=20, seconds=30)).isoformat()
    canned.answers |= {path_of("a"): first, f"{path_of('a')}?a&b": one}
    await canned_page.evaluate("keepLoading()")
    await expect(targets).to_have_count(1)
    await expect(problem).to_have_count(0)
    await expect(canned_page.locator("#panel")).to_contain_text("Hub main, refreshed by itself, next due in 3 h 20 min")
    first["nextDue"] = datetime.now(UTC).isoformat()
    await canned_page.evaluate("keepLoading()")
    await expect(canned_page.locator("#panel")).to_contain_text("next due now")
    await canned_page.get_by_role("button", name="Show more: 1 are left").click()
    await expect(targets).to_have_count(2)
    canned.answers[path_of("a")] = one
    await canned_page.evaluate("keepLoading()")
    await expect(targets).to_have_count(1)
    canned.answers[f"{path_of('a')}/refresh"] = (403, {"title": "Forbidden", "detail": "may not"})
    await canned_page.get_by_role("button", name="Refresh now").click()
    await expect(problem).to_contain_text(["may not"])


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
    await expect(canned_page).to_have_title("! Pullkeeper")
    await canned_page.get_by_role("button", name="Pause").click()
    await canned_page.get_by_role("button", name="Refresh all").click()
    await expect(canned_page.locator("#failures")).to_contain_text("has status 500 and says no more")
    canned.answers["refresh"] = (403, {"title": "Forbidden", "detail": "may not", "category": "invalid_request"})
    await canned_page.get_by_role("button", name="Refresh all").click()
    await expect(canned_page.locator("#failures")).to_contain_text("may not")
    announcement = canned_page.get_by_role("status").filter(visible=True).first
    await expect(announcement).to_have_text("may not")
    canned.answers["refresh"] = (202, {"queued": 1})
    async with canned_page.expect_response("**/api/clusters"):
        await canned_page.get_by_role("button", name="Refresh all").click()
    await expect(canned_page.locator("#failures .problem")).to_have_count(0)
    await canned_page.clock.pause_at(datetime.now(UTC) + timedelta(days=2))
    assert await canned_page.evaluate("hurry(), period()") == 2000
    await canned_page.clock.run_for(20_000)
    assert await canned_page.evaluate("period()") == 10_000, "it hurries for a while"
    for _ in range(2):
        await canned_page.evaluate("announce('done')")
        await canned_page.clock.run_for(3_000)
    await expect(announcement).to_have_class("shown")
    await canned_page.clock.run_for(1_000)
    await expect(announcement).not_to_have_class("shown")


async def test_an_operation_is_followed_while_it_is_open(canned: Canned, canned_page: Page) -> None:
    path = f"operations/{'0' * 32}"
    canned.answers[path] = operation("Running")
    await canned.open(canned_page, operation="0" * 32)
    await expect(canned_page.locator("#panel .state")).to_have_text("running")
    await expect(canned_page.locator("#panel").get_by_role("link", name="Open a")).to_be_visible()
    await canned_page.clock.pause_at(datetime.now(UTC) + timedelta(days=2))
    canned.asked.clear()
    for _ in range(5):
        await canned_page.evaluate("call('GET', 'status')")
    assert len(canned.calls(path)) <= 1, "it is asked for once a second"
    async with canned_page.expect_response(f"**/api/{path}"):
        await canned_page.clock.run_for(1_000)
    await canned_page.keyboard.press("Escape")
    await expect(canned_page.get_by_role("dialog")).to_have_count(0)
    for _ in range(2):
        canned.asked.clear()
        await canned_page.clock.run_for(5_000)
        await canned_page.evaluate("call('GET', 'status')")
    assert canned.calls(path) == []
    canned.answers[path] = operation("Succeeded")
    await canned_page.evaluate(f"setPaused(true), show({{operation: '{'0' * 32}'}})")
    await expect(canned_page.locator("#panel .state")).to_have_text("succeeded")
    async with canned_page.expect_response("**/api/clusters"):
        await canned_page.clock.run_for(1_000)
    gone = "1" * 32
    canned.answers[f"operations/{gone}"] = (404, {"title": "Not found", "detail": f"there is no operation {gone}"})
    await canned_page.evaluate(f"show({{cluster: '{cluster_id('a')}'}})")
    await expect(canned_page.locator("#panel").get_by_role("link", name="Back to a")).to_be_visible()
    await canned_page.evaluate(f"show({{operation: '{gone}'}})")
    await expect(canned_page.locator("#panel .problem")).to_contain_text("there is no operation 111")


async def test_the_form_sends_what_is_ticked_once_and_waits_for_the_plan(canned: Canned, canned_page: Page) -> None:
    canned.answers["status"] = {"hubs": [hub("broken", fault="has no registry"), hub("main")], "problems": []}
    planned = operation("Running", dryRun=True)
    listed, counts = [*[operation("Succeeded")] * 6, planned], {"AwaitingFederation": 2, "Running": 1}
    canned.answers |= {f"operations/{planned['id']}": planned, "operations": {"operations": listed, "counts": counts}}
    await canned.open(canned_page)
    await expect(canned_page.locator("#hubs article").first).to_contain_text("has no registry")
    await expect(canned_page.locator("#operations p")).to_have_text("1 running, 2 awaits the publisher")
    await expect(canned_page.locator("#operations li")).to_have_count(6)
    await expect(canned_page.locator("#operations li").first).to_contain_text("runningonboard (dry run) a")
    await expect(canned_page.locator("#app")).to_contain_text("Overdue shardsunknown")
    await canned_page.get_by_role("button", name="Onboard a cluster").click()
    form = canned_page.get_by_role("dialog", name="Onboard a cluster")
    assert await form.get_by_label("Hub").locator("option").evaluate_all("(all) => all.map((one) => one.value)") == [
        "main",
        "",
    ]
    await form.get_by_label("Azure resource id").fill(f" {cluster_id('a')} ")
    for label in ("Namespace", "Secret"):
        field = form.get_by_label(label, exact=True)
        await field.fill(f" {await field.input_value()} ")
    boxes = form.get_by_role("checkbox")
    await expect(form.get_by_role("checkbox", checked=True)).to_have_attribute("name", "federate")
    for box in await boxes.all():
        await box.check()
    canned.answers["clusters"] = (202, planned)
    await form.get_by_role("button", name="Show the plan").click()
    await expect(form.locator("[aria-live=polite] .state")).to_have_text("running")
    await expect(form.get_by_role("button", name="Show the plan")).to_be_disabled()
    go = form.get_by_role("button", name="Onboard a", exact=True)
    await expect(go).to_have_count(0)
    result = {"left": ["a role"], "handover": {"commands": ["gcloud iam"]}, "manifests": "kind: Role", "seconds": 1}
    canned.answers[f"operations/{planned['id']}"] = {**planned, "status": "Succeeded", "result": result}
    await canned_page.clock.run_for(1_000)
    await expect(go).to_be_visible()
    await expect(form.locator("#onboard-progress li")).to_have_text(["a role"])
    await expect(form.locator("#onboard-progress .copyable code")).to_have_text(["gcloud iam", "kind: Role"])
    await expect(form.locator("#onboard-progress")).to_contain_text("onboard, dry run: nothing is changed")
    await form.get_by_role("button", name="Close").click()
    await canned_page.get_by_role("button", name="Onboard a cluster").click()
    await expect(go).to_have_count(0)
    await form.get_by_label("Hub").select_option("")
    for box in await boxes.all():
        await box.uncheck()
    await form.get_by_label("Service accounts").fill(" one, two,")
    await form.get_by_role("button", name="Show the plan").click()
    await expect(go).to_be_visible()
    sent, least = [one.body for one in canned.asked if one.method == "POST"]
    [target] = least["targets"]
    assert ({*least}, target["serviceAccounts"]) == ({"cluster", "targets", "dryRun"}, ["one", "two"])
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
