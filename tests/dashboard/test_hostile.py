"""Whatever the routes say, the page shows it as text: no markup, no code, no foreign address."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import pytest
from playwright.async_api import Route, expect

from tests.dashboard.conftest import Open
from tests.http.conftest import App

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_MARKUP: Final = """<img src=x onerror=alert(1)><script>alert(2)</script>'"--><svg/onload=alert(3)>${alert(4)}"""
_LINK: Final = "javascript:alert(5)"
_ID: Final = f"/subscriptions/{_MARKUP}/resourceGroups/a?b#c/providers/b/c/d/e".replace("</script>", "").replace(
    "svg/", "svg "
)
_NOW: Final = datetime.now(UTC)
_FAILURE: Final = {"category": _MARKUP, "detail": _MARKUP, "remedy": _MARKUP, "runbook": _LINK}
_TARGET: Final = {
    **_FAILURE,
    "target": _MARKUP,
    "state": _MARKUP,
    "note": _MARKUP,
    "issuedAt": _NOW.isoformat(),
    "expiresAt": (_NOW + timedelta(hours=1)).isoformat(),
    "lastSuccess": _MARKUP,
}
_LINE: Final = {
    "cluster": _ID,
    "hub": _MARKUP,
    "refresher": _MARKUP,
    "nextDue": None,
    "states": {_MARKUP: 1},
    "worst": _TARGET,
    "search": {**_FAILURE, "category": f"{_MARKUP} 2", "note": _MARKUP},
}
_OPERATION: Final = {
    "id": _MARKUP,
    "kind": _MARKUP,
    "status": "Failed",
    "cluster": _ID,
    "createdAt": _NOW.isoformat(),
    "dryRun": False,
    "steps": [{"name": _MARKUP, "status": "failed", **_FAILURE}],
    "result": {"left": [_MARKUP], "handover": {"commands": [_MARKUP]}, "manifests": _MARKUP, "seconds": 1},
}
_HOP: Final = {
    **_FAILURE,
    "name": _MARKUP,
    "subject": _MARKUP,
    "state": "failed",
    "evidence": {_MARKUP: _MARKUP},
    "because": _MARKUP,
}
_RESPONSES: Final[dict[str, Any]] = {
    "status": {
        "version": _MARKUP,
        "documentation": _LINK,
        "problems": [{"setting": f"{_MARKUP} 3", "severity": "error", **_FAILURE}],
        "hubs": [
            {
                "name": _MARKUP,
                "registries": [_MARKUP],
                "fault": None,
                "lastMint": _NOW.isoformat(),
                "expiresAt": (_NOW + timedelta(hours=1)).isoformat(),
                "mintSeconds": 1,
                "warning": None,
                "failure": {**_FAILURE, "category": f"{_MARKUP} 4", "at": _NOW.isoformat()},
            }
        ],
        "totals": {"clusters": 1, "targets": {_MARKUP: 1}, "overdue": 1},
        "lastRun": _NOW.isoformat(),
        "queues": {_MARKUP: 1},
    },
    "clusters": {"version": "", "clusters": [_LINE], "continuation": None},
    "operations": {"operations": [_OPERATION], "counts": {"Failed": 1}, "continuation": None},
}


async def _respond(route: Route) -> None:
    path = route.request.url.partition("/api/")[2].partition("?")[0]
    if path.startswith("operations/"):
        body: Any = _OPERATION
    elif path.endswith("/diagnosis"):
        body = {"at": _NOW.isoformat(), "seconds": 1, "state": "failed", "hops": [_HOP]}
    elif path.startswith("clusters/"):
        body = {**_LINE, "targets": [_TARGET], "continuation": None}
    else:
        body = _RESPONSES[path]
    await route.fulfill(body=json.dumps(body), content_type="application/json")


async def test_hostile_text_stays_text(app: App, browse: Open) -> None:
    dashboard = await browse(app)
    await dashboard.intercept(_respond)
    page = await dashboard.open()
    page.on("dialog", lambda dialog: dashboard.errors.append(f"a dialog: {dialog.message}"))
    await expect(page.locator("#problems article")).to_have_count(5)
    await expect(page.locator("#problems .detail").first).to_have_text(_MARKUP)
    await page.get_by_role("button", name="Diagnose").first.click()
    await expect(page.locator("#hubs .hops li")).to_contain_text(_MARKUP)
    await page.locator("#rows .name a").click()
    await expect(page.locator("#panel .targets")).to_contain_text(_MARKUP)
    await page.locator("#panel").get_by_role("button", name="Diagnose").click()
    await expect(page.locator("#panel .hops")).to_contain_text(_MARKUP)
    await page.locator("#panel .operations a").click()
    await expect(page.locator("#panel .steps")).to_contain_text(_MARKUP)
    await expect(page.locator("img, main script, dialog script, [onerror], [onload]")).to_have_count(0)
    links = await page.evaluate("[...document.links].map((link) => new URL(link.href).origin)")
    assert {*links} == {app.host.url}
    # Whatever a name holds, it is one part of an address.
    name, cluster = (quote(text, safe="!()*") for text in (_MARKUP, _ID))
    requests = {url.replace("'", "%27").partition("/api/")[2] for url in dashboard.requests}
    assert {f"hubs/{name}/diagnosis", f"operations?cluster={cluster}", f"operations/{name}"} < requests
    dashboard.check()
