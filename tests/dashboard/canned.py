"""An app that responds as a test says, for the page in Chromium: what is rare in a fleet of the local cloud."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page

from local.cloud import SUBSCRIPTION
from local.serving import Server
from pullkeeper.dashboard import page as dashboard
from tests.end_to_end.conftest import until

_GROUP: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
HANG: Final = None
PATIENCE: Final = """
    window.patience = [];
    AbortSignal.timeout = (after) => {
        const controller = new AbortController();
        patience.push(() => controller.abort(new DOMException(String(after), "TimeoutError")));
        return controller.signal;
    };
"""
"""Have no call time out before the test says so."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of the page. body: None without one."""

    method: str
    path: str
    cache: str
    body: Any


def cluster_id(name: str) -> str:
    return f"{_GROUP}/providers/Microsoft.ContainerService/managedClusters/{name}"


def path_of(name: str) -> str:
    return f"clusters/{SUBSCRIPTION}/shop/{name}"


def line(name: str, state: str, minutes_left: int, **worst: Any) -> dict[str, Any]:
    """Return the line of a cluster with one secret, whose token lives an hour."""
    expires = datetime.now(UTC) + timedelta(minutes=minutes_left, seconds=30)
    times = {"issuedAt": (expires - timedelta(hours=1)).isoformat(), "expiresAt": expires.isoformat()}
    target = {"target": f"{name}/pull", "state": state, "lastSuccess": times["issuedAt"], **times, **worst}
    fields = {"cluster": cluster_id(name), "hub": "main", "refresher": "central", "nextDue": None, "search": None}
    return {**fields, "states": {state: 1}, "worst": target, "targets": [target], "continuation": None}


def hub(name: str, **fields: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(("fault", "lastMint", "expiresAt", "mintSeconds", "warning", "failure"))
    return {"name": name, "registries": [], **unknown, **fields}


def operation(status: str, **fields: Any) -> dict[str, Any]:
    created = datetime.now(UTC).isoformat()
    known = {"id": "0" * 32, "kind": "onboard", "cluster": cluster_id("a"), "createdAt": created, "dryRun": False}
    return {**known, "status": status, "steps": [], "result": None, **fields}


@dataclass(slots=True)
class Canned:
    """answers: by path, with `?` and the continuation if there is one: a document, a status with a document or a text,
    or HANG. Others respond with an empty fleet.
    """

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def calls(self, path: str) -> list[Asked]:
        return [one for one in self.asked if one.path == path]

    async def receive(self, path: str) -> None:
        """Wait for a call: the page shows that it calls before the call is here."""

        async def has_come() -> bool:
            return bool(self.calls(path))

        await until(has_come)

    def list_clusters(self, *lines: dict[str, Any]) -> None:
        """Let the fleet have these clusters, of which the page also gets each by itself."""
        self.answers["clusters"] = {"clusters": lines, "continuation": None}
        self.answers |= {path_of(one["cluster"].rpartition("/")[2]): one for one in lines}

    async def open(self, page: Page, **view: str) -> None:
        query = "&".join(f"{name}={value}" for name, value in {**view, "code": "key"}.items())
        await page.goto(f"{self.url}/api/dashboard?{query}")

    async def respond(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/api/")
        if path == "dashboard":
            return web.Response(
                text=dashboard.page("key").html, content_type="text/html", headers=dashboard.page("key").headers
            )
        cache, body = request.headers.get("Cache-Control", ""), await request.text()
        self.asked.append(Asked(request.method, path, cache, json.loads(body) if body else None))
        key = f"{path}?{request.query['continuation']}" if "continuation" in request.query else path
        answer = self.answers.get(key, _EMPTY.get(key, {}))
        if answer is HANG:
            await asyncio.Event().wait()
        status, content = answer if isinstance(answer, tuple) else (200, answer)
        if isinstance(content, str):
            return web.Response(text=content, status=status)
        return web.json_response(content, status=status)


_EMPTY: Final[dict[str, Any]] = {
    "status": {"hubs": [], "problems": [], "totals": {"clusters": 0, "targets": {}, "overdue": 0}},
    "clusters": {"clusters": [], "continuation": None},
    "operations": {"operations": [], "counts": {}, "continuation": None},
}


@pytest_asyncio.fixture(loop_scope="module")
async def canned() -> AsyncIterator[Canned]:
    opened, application = Canned(), web.Application()
    application.router.add_route("*", "/{path:.*}", opened.respond)
    server = Server(application, authority=None)
    await server.start()
    opened.url = server.url
    yield opened
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def canned_page(browser: Browser) -> AsyncIterator[Page]:
    """A page whose clock is a day ahead, and moved by the test."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install(time=datetime.now(UTC) + timedelta(days=1))
    yield page
    await context.close()
