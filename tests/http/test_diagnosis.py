"""The diagnosis over HTTP, of the hosted app."""

import pytest

from pullkeeper.diagnosis.report import Diagnosis
from tests.http.conftest import App, cluster_path

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]


async def test_a_cluster_is_diagnosed_with_addresses_of_the_runbook(app: App) -> None:
    cluster = await app.add_cluster("aks-diagnosed")
    assert (await app.onboard(cluster))["status"] == "Succeeded"
    await cluster.admin.delete_secret("deepintshield", "ar-pull-secret")
    response = await app.call("GET", f"{cluster_path(cluster)}/diagnosis")
    assert response.status == 200, response.text
    diagnosis = Diagnosis.parse(response.text)
    assert (diagnosis.cluster, diagnosis.hub, diagnosis.state) == (cluster.id, "main", "failed")
    (failed,) = (hop for hop in diagnosis.hops if hop.state == "failed")
    assert (failed.name, failed.category) == ("secret", "object_drifted")
    assert str(failed.runbook).endswith("/docs/runbook/object_drifted.md")


async def test_a_hub_is_diagnosed(app: App) -> None:
    response = await app.call("GET", "hubs/main/diagnosis")
    assert (response.status, response.body["state"], len(response.body["hops"])) == (200, "ok", 6), response.text


@pytest.mark.parametrize(
    ("path", "status", "category"),
    [
        ("hubs/other/diagnosis", 404, "invalid_request"),
        ("clusters/00000000-0000-0000-0000-000000005eed/platform/gone/diagnosis", 404, "invalid_request"),
        ("clusters/x/platform/gone/diagnosis", 400, "invalid_request"),
        ("hubs/main/diagnosis?fix=true", 400, "invalid_request"),
    ],
)
async def test_what_is_not_there_is_a_problem_document(app: App, path: str, status: int, category: str) -> None:
    response = await app.call("GET", path)
    assert (response.status, response.body["category"]) == (status, category), response.text
    assert response.headers["Content-Type"].startswith("application/problem+json")


async def test_a_diagnosis_needs_the_key(app: App) -> None:
    assert (await app.call("GET", "hubs/main/diagnosis", key=None)).status == 401
