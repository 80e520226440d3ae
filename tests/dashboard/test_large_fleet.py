"""2,000 clusters: shown as they arrive, filtered and scrolled without a halt."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
import pytest_asyncio
from azure.data.tables.aio import TableServiceClient
from playwright.async_api import Page, expect

from local.cloud import SUBSCRIPTION
from pullkeeper.errors import AdmissionDenied, ClusterRbacDenied, ClusterUnreachable, PullkeeperError
from pullkeeper.fleet.shard_table import ShardState
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.status import Status, TargetStatus
from pullkeeper.model import ClusterId, Endpoint, Target
from tests.bench.fleet import register
from tests.dashboard.conftest import Open, photograph
from tests.http.conftest import App, onboarding_body

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_CLUSTERS: Final = 2000
_MOST_ROWS: Final = 50
_TARGET: Final = Target()
_DRAW_EVERY_ROW: Final = """
    () => {
        const drawn = [...fleet.lines.values()].map((line) => make("div", { role: "row" }, drawCells(line)));
        const box = make("div", {}, drawn);
        document.body.append(box);
        box.getBoundingClientRect();
        box.remove();
    }
"""
_SCROLL: Final = """
    async () => {
        let most = 0;
        let steps = 0;
        for (let top = 0; top < document.body.scrollHeight; top += 1500, steps += 1) {
            scrollTo(0, top);
            await new Promise(requestAnimationFrame);
            most = Math.max(most, document.querySelectorAll("#rows > *").length);
        }
        scrollTo(0, document.body.scrollHeight);
        return {most, steps};
    }
"""


def _clusters() -> Iterator[tuple[str, ClusterId]]:
    """Clusters with their hubs."""
    regions = ("westeurope", "northeurope", "eastus", "uksouth")
    for number in range(_CLUSTERS):
        hub, team = (("main", "shop"), ("finance", "bank"))[number % 2]
        region = regions[number // 2 % 4]
        yield hub, ClusterId(SUBSCRIPTION, f"{team}-{region}", f"{team}-{region}-{number // 8:03}")


def _status(number: int, cluster: ClusterId, now: datetime) -> TargetStatus:
    """Nearly all are fresh, of different ages, as shards are due one after the other; some fail."""
    written = now - timedelta(seconds=number * 7 % 1200)
    context = {"cluster": str(cluster), "namespace": _TARGET.namespace, "secret": _TARGET.secret}
    age, failure = _FAILED.get(number, (None, None))
    if failure and age:
        written = now - timedelta(minutes=age)
    known: dict[str, Any] = {"issued_at": written, "expires_at": written + timedelta(hours=1), "last_success": written}
    error = failure and failure.with_context(**context)
    said = {"category": error.category, "detail": error.detail, "remedy": error.remedy} if error else {}
    return TargetStatus(**(known if age or not failure else {}), **said)


def _failed(numbers: Iterable[int], age: int | None, failure: PullkeeperError) -> dict[int, Any]:
    """age: minutes since the secret was written; None: never."""
    return dict.fromkeys(numbers, (age, failure))


_FAILED: Final[dict[int, tuple[int | None, PullkeeperError]]] = {
    **_failed((14, 22, 30), 64, ClusterUnreachable("The API server did not respond within 10 s")),
    **_failed(
        range(801, 850, 4),
        47,
        AdmissionDenied("admission webhook validate.kyverno.svc-fail denied the request", {"object": "ar-pull-secret"}),
    ),
    **_failed(
        (5, 7),
        None,
        ClusterRbacDenied('User "pullkeeper" cannot patch resource "secrets"', {"principal": "pullkeeper"}),
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large(app: App) -> App:
    """The app with the rows of a large fleet, after a run of its timer and a plan for one cluster more."""
    world, now = app.world, app.world.clock()
    clusters = list(_clusters())
    endpoint = Endpoint(server="https://127.0.0.1:1", ca="", read_at=now)
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        for hub in ("main", "finance"):
            members = [(cluster, endpoint) for name, cluster in clusters if name == hub]
            await register(tables, members, now + timedelta(hours=1), hub=hub)
    shards: dict[str, dict[ClusterId, Status]] = {}
    for number, (_, cluster) in enumerate(clusters):
        status = Status(targets={str(_TARGET): _status(number, cluster, now)})
        shards.setdefault(shard_of(cluster), {})[cluster] = status
    for shard, statuses in shards.items():
        states = Counter(one.state(now) for status in statuses.values() for one in status.targets.values())
        fields = {"statuses": statuses, "clusters": len(statuses), "states": states}
        await world.services.shards.update(shard, partial(_change, fields))
    for configured in world.services.settings.hubs.valid.values():
        await world.services.federation.token(configured)
    await world.services.scheduler.run()
    another = await app.add_cluster("shop-uksouth-250")
    await app.run_operation("POST", "clusters", onboarding_body(another, dryRun=True))
    return app


def _change(fields: dict[str, Any], state: ShardState) -> ShardState:
    return replace(state, **fields)


async def _open_stopwatch(page: Page) -> Callable[[], Awaitable[float]]:
    """Return what returns the milliseconds that the page has computed since the last look. They pass only while it
    runs, so other programs on the machine do not count.
    """
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    last = 0.0

    async def look() -> float:
        nonlocal last
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
        [now] = [float(one["value"]) for one in metrics if one["name"] == "TaskDuration"]
        before, last = last, now
        return 1000 * (now - before)

    return look


async def test_a_large_fleet_is_filtered_and_scrolled_without_a_halt(large: App, browse: Open) -> None:
    """Whatever is typed, clicked or scrolled costs a small part of what all rows at once would cost."""
    dashboard = await browse(large)
    page = await dashboard.open_fleet()
    await expect(page.locator("#listed")).to_have_text("2,000 of 2,000 clusters")
    await expect(page.locator("#safe")).to_have_text("1,982 of 2,000 secrets are safe")
    await expect(page.locator("#problems h3")).to_have_text(
        ["cluster_rbac_denied", "cluster_unreachable", "admission_denied"]
    )
    look = await _open_stopwatch(page)
    await page.evaluate(_DRAW_EVERY_ROW)
    every_row = await look()
    scrolled = await page.evaluate(_SCROLL)
    await expect(page.locator(f"[aria-rowindex='{_CLUSTERS + 1}']")).to_be_in_viewport()
    costs = [await look() / scrolled["steps"]]
    for letter in "bank-eastus-1":
        await page.get_by_role("search").get_by_label("Find").press(letter)
        costs.append(await look())
    await expect(page.locator("#listed")).to_have_text("100 of 2,000 clusters")
    await page.get_by_role("link", name="list all 13").click()
    await expect(page.locator("#listed")).to_have_text("13 of 2,000 clusters")
    costs.append(await look())
    await expect(page.locator("#rows .state").first).to_have_text("stale")
    print(f"{_CLUSTERS} clusters: {scrolled}, {every_row:.0f} ms, steps: {[*map(round, costs)]}")
    assert scrolled["most"] <= _MOST_ROWS
    assert max(costs) < every_row / 4
    dashboard.check()


async def test_what_has_arrived_is_shown_while_the_rest_is_loading(large: App, browse: Open) -> None:
    dashboard = await browse(large)
    page = await dashboard.open(key=None)
    pages = 0

    async def stop_after_three(route: Any) -> None:
        nonlocal pages
        pages += 1
        await (route.continue_() if pages <= 3 else route.abort())

    await page.route("**/api/clusters*", stop_after_three)
    await page.get_by_label("Function key").fill(large.host.keys.default)
    await page.keyboard.press("Enter")
    await expect(page.locator("#listed")).to_have_text("300 of 2,000 clusters, 300 loaded")
    await expect(page.locator("#safe")).to_contain_text("of 2,000 secrets are safe")
    await expect(page.locator("#failures")).to_contain_text("The app does not respond")
    await expect(page.locator("#rows .name").first).to_be_visible()


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_the_first_screen_is_kept(large: App, browse: Open, colours: str) -> None:
    """build/dashboard/first-screen-*.png: the README shows one of them, with fewer colours."""
    dashboard = await browse(large, color_scheme=colours, viewport={"width": 1280, "height": 1180})
    page: Page = await dashboard.open_fleet()
    await page.emulate_media(reduced_motion="reduce")
    await expect(page.locator("#problems article")).to_have_count(3)
    await photograph(page, f"first-screen-{colours}")
