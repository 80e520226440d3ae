"""The dashboard in Debian's Chromium, on the hosted app with a fleet of the local cloud."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route, async_playwright, expect

from local.azurite import Azurite
from local.serving import Authority
from pullkeeper.model import Target
from tests.apiserver import at_hand
from tests.dashboard.canned import canned, canned_page  # noqa: F401 - fixtures
from tests.end_to_end.conftest import until
from tests.http.conftest import App, host_app

SCREENSHOTS: Final = Path(__file__).parents[2] / "build" / "dashboard"
_CHROMIUM: Final = "chromium-headless-shell"
"""Chromium without its windows, which costs a third less CPU."""
_AXE: Final = Path(__file__).parent / "axe" / "node_modules" / "axe-core" / "axe.min.js"
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_VIOLATIONS: Final = """
    document.addEventListener("securitypolicyviolation", (event) => console.error(event.violatedDirective));
"""
expect.set_options(timeout=15_000)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "browser" in getattr(item, "fixturenames", ()):
        at_hand.program(_CHROMIUM)
        if not _AXE.exists():
            at_hand.missing("axe-core is not installed", "npm ci --prefix tests/dashboard/axe")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=at_hand.program(_CHROMIUM))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    """The app with two hubs and an empty fleet."""
    async with host_app(request.node.nodeid, azurite, authority, hubs=["finance"]) as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(app: App) -> App:
    """The app with a fleet that was refreshed once: three healthy clusters, one without rights, one that is stopped."""
    for name in ("shop-west", "shop-north"):
        await app.world.join(name)
    await app.world.join("bank-main", "finance", targets=[Target(namespace=f"team-{n:03}") for n in range(120)])
    await app.world.join("bank-audit", "finance", access=False)
    edge = await app.world.join("bank-edge", "finance")
    await edge.server.stop()
    assert (await app.call("POST", "refresh")).status == 202

    async def is_refreshed() -> bool:
        lines = (await app.call("GET", "clusters")).body["clusters"]
        return all(line["worst"]["state"] == "fresh" or line["worst"]["category"] for line in lines)

    await until(is_refreshed)
    return app


class Dashboard:
    """Opens the page, and holds what it asked for and what went wrong in it."""

    def __init__(self, app: App, context: BrowserContext) -> None:
        self._app = app
        self._context = context
        self.requests: list[str] = []
        self.errors: list[str] = []

    async def intercept(self, respond: Callable[[Route], Awaitable[None]]) -> None:
        """Have every route but the page's own answered here."""
        await self._context.route(lambda url: "/api/" in url and "/dashboard" not in url, respond)

    async def open(self, *, key: str | None = "", **view: str) -> Page:
        """Open a view. key: None gives none, and the empty default the right one."""
        page = await self._context.new_page()
        await page.add_init_script(_VIOLATIONS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        code = {} if key is None else {"code": key or self._app.host.keys.default}
        await page.goto(f"{self._app.host.url}/api/dashboard?{urlencode({**view, **code})}")
        return page

    async def open_fleet(self, **view: str) -> Page:
        """Open a view and wait until the whole fleet is loaded."""
        page = await self.open(**view)
        await expect(page.locator("#as-of")).to_contain_text("As of")
        return page

    def check(self) -> None:
        """Nothing went wrong in the page, and it asked no other host."""
        assert self.errors == []
        outside = [url for url in self.requests if not url.startswith((self._app.host.url, "data:", "about:"))]
        assert outside == []


Open = Callable[..., Awaitable[Dashboard]]


@pytest_asyncio.fixture(loop_scope="module")
async def browse(browser: Browser) -> AsyncIterator[Open]:
    """Make a dashboard of an app, in a browser profile of its own. Options: those of Playwright's new_context."""
    async with AsyncExitStack() as opened:

        async def make(app: App, **options: Any) -> Dashboard:
            context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            opened.push_async_callback(context.close)
            return Dashboard(app, context)

        yield make


async def find_barriers(page: Page) -> list[str]:
    """What axe-core finds in the page as it is shown: rules with the elements that break them."""
    await page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("(rules) => axe.run(document, {runOnly: rules})", _RULES)
    assert len(found["passes"]) > 10
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]


async def photograph(page: Page, name: str) -> None:
    """Keep what is shown as build/dashboard/NAME.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")


def query_of(page: Page) -> str:
    return urlsplit(page.url).query
