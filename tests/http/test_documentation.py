"""Wherever the app reports a category, it gives the address of that category's page: that of DOCUMENTATION_URL."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from local.azurite import Azurite
from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Authority
from pullkeeper.model import ClusterId
from tests.end_to_end.conftest import until
from tests.http.conftest import App, cluster_path, host_app

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_BASE: Final = "https://docs.example/pullkeeper"


def _page(category: str) -> str:
    return f"{_BASE}/docs/runbook/{category}.md"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    async with host_app(request.node.nodeid, azurite, authority, DOCUMENTATION_URL=_BASE) as app:
        yield app


async def test_the_status_gives_the_documentations_address(app: App) -> None:
    assert (await app.call("GET", "status")).body["documentation"] == _BASE


async def test_the_type_of_a_problem_is_its_page(app: App) -> None:
    response = await app.call("GET", "operations/none")
    assert (response.status, response.body["type"]) == (400, _page("invalid_request"))


async def test_a_failed_step_and_its_event_have_the_page(app: App) -> None:
    unknown = ClusterId(SUBSCRIPTION, GROUP, "aks-0")
    operation = await app.run_operation("POST", "clusters", {"cluster": str(unknown), "hub": "main"})
    pages = {step["category"]: step["runbook"] for step in operation["steps"]}
    assert pages == {None: None, "cluster_gone": _page("cluster_gone")}

    async def is_reported() -> bool:
        return f"category=cluster_gone remedy={_page('cluster_gone')}" in app.host.output

    await until(is_reported)  # a moment after the operation has ended


async def test_a_target_that_fails_has_the_page(app: App) -> None:
    cluster = await app.add_cluster("aks-1")
    assert (await app.onboard(cluster))["status"] == "Succeeded"
    await cluster.server.stop()
    await app.call("POST", f"{cluster_path(cluster)}/refresh")

    async def has_failed() -> bool:
        return bool((await app.call("GET", cluster_path(cluster))).body["worst"]["state"] == "stale")

    await until(has_failed)
    view = (await app.call("GET", cluster_path(cluster))).body
    assert [target["runbook"] for target in view["targets"]] == [_page("cluster_unreachable")]
    assert view["worst"] == view["targets"][0]
