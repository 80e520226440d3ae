"""A wrong setting stops only what needs it, and everything that it stops names it."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from types import ModuleType
from typing import Any, Final

import azure.functions as func
import pytest

from functions import fleet, onboarding, schedule, status
from local.cloud import SUBSCRIPTION
from pullkeeper.errors import InvalidSetting
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.shards import shard_of
from pullkeeper.onboarding.documents import Onboarding, OnboardingMessage
from pullkeeper.services import Services
from pullkeeper.settings import Settings
from tests.world import World

pytestmark = pytest.mark.servers
_CANARY: Final = "ya29.canary"
_ROUTE: Final = {"subscription": "0" * 8, "resourceGroup": "g", "name": "n"}
_WRONG_HUB: Final = {"token": _CANARY}


class App:
    """The app's functions in this process, with settings that the test may change before the first call."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self._built: Services | None = None
        self.settings = {**world.cloud.environment(world.storage), "REFRESH_SCHEDULE": "0 */5 * * * *"}
        for module in (fleet, onboarding, schedule, status):
            monkeypatch.setattr(module, "services", self.services)
        for module in (schedule, status):
            monkeypatch.setattr(module, "current_settings", lambda: Settings.read(self.settings))
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, self.settings[name])

    def services(self) -> Services:
        if self._built is None:
            self._built = Services.build(self.settings, self.world.clock)
        return self._built

    async def close(self) -> None:
        if self._built:
            await self._built.close()

    async def call(self, module: ModuleType, name: str, /, query: str = "", body: Any = None, **route: str) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        request = func.HttpRequest("GET", f"https://app.example/api?{query}", route_params=route, body=data)
        response = await getattr(module, name)._function.get_user_function()(request)
        text = response.get_body().decode()
        assert _CANARY not in text
        return response.status_code, json.loads(text)

    async def problem(self, module: ModuleType, name: str, /, **request: Any) -> str:
        """The detail of a response that must be a problem of the settings."""
        code, document = await self.call(module, name, **request)
        assert (code, document["category"]) == (503, "invalid_request")
        assert "appsettings set" in document["remedy"]
        return str(document["detail"])

    async def status(self) -> Any:
        code, document = await self.call(status, "status")
        assert code == 200
        return document


@pytest.fixture
async def app(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    app = App(world, monkeypatch)
    yield app
    await app.close()


async def test_right_settings_are_healthy(app: App) -> None:
    assert await app.call(status, "health") == (200, {"status": "ok"})
    report = await app.status()
    registries = app.world.cloud.hubs["main"].document["registries"]
    assert report["problems"] == []
    [hub] = report["hubs"]
    assert (hub["name"], hub["registries"], hub["fault"]) == ("main", registries, None)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("REFRESH_SCHEDULE", ""),
        ("REFRESH_SCHEDULE", "every five minutes"),
        ("HUBS", "{"),
        ("AZURE_CLOUD", _CANARY),
        ("ARM_ENDPOINT", f"http://{_CANARY}"),
        ("AZURE_AUTHORITY_HOST", _CANARY),
        ("ONBOARDING_SCOPES", _CANARY),
        ("DOCUMENTATION_URL", f"http://{_CANARY}"),
        ("AzureWebJobsStorage", ""),
        ("AzureWebJobsStorage", _CANARY),
    ],
)
async def test_a_wrong_setting_is_unhealthy_and_named_in_the_status(app: App, setting: str, value: str) -> None:
    app.settings[setting] = value

    assert await app.call(status, "health") == (503, {"status": "error"})
    report = await app.status()
    problems = report["problems"]
    assert {hub["name"] for hub in report["hubs"]} <= {"main"}, "what is no JSON has no hubs"
    assert any(problem["setting"].startswith(setting) for problem in problems)
    assert all(problem["severity"] == "error" and problem["remedy"] for problem in problems)


async def test_a_misspelled_setting_is_a_warning(app: App) -> None:
    app.settings["ONBOARDING_SCOPE"] = _CANARY

    assert await app.call(status, "health") == (200, {"status": "ok"})
    (problem,) = (await app.status())["problems"]
    assert (problem["setting"], problem["severity"]) == ("ONBOARDING_SCOPE", "warning")


async def test_every_route_that_needs_storage_names_the_setting(app: App) -> None:
    app.settings["AzureWebJobsStorage"] = ""
    for module, name, route in (
        (fleet, "clusters", {}),
        (fleet, "cluster", _ROUTE),
        (fleet, "handover", {}),
        (fleet, "refresh_all", {}),
        (fleet, "refresh_cluster", _ROUTE),
        (onboarding, "onboard", {}),
        (onboarding, "offboard", _ROUTE),
        (onboarding, "operation", {"id": "0" * 32}),
    ):
        assert "AzureWebJobsStorage__tableServiceUri: missing" in await app.problem(module, name, **route)


@pytest.mark.parametrize(
    "setting", ["ARM_ENDPOINT", "AZURE_AUTHORITY_HOST", "ONBOARDING_SCOPES", "TRUSTED_GOOGLE_HOSTS"]
)
async def test_onboarding_names_the_setting_that_it_needs(app: App, setting: str) -> None:
    app.settings[setting] = f"HTTP://{_CANARY}"

    assert setting in await app.problem(onboarding, "onboard")
    assert setting in await app.problem(onboarding, "offboard", **_ROUTE)


async def test_a_wrong_hub_is_named_where_it_is_needed(app: App) -> None:
    app.settings["HUBS"] = json.dumps({**json.loads(app.settings["HUBS"]), "wrong": _WRONG_HUB})

    code, handover = await app.call(fleet, "handover", query="hub=main")
    assert (code, handover["objectId"]) == (200, app.world.cloud.app.principal_id)
    assert "HUBS.wrong.token" in await app.problem(fleet, "handover", query="hub=wrong")
    hubs = {hub["name"]: hub["fault"] for hub in (await app.status())["hubs"]}
    assert hubs["main"] is None
    assert hubs["wrong"].startswith("HUBS.wrong.")
    assert {hub["name"]: hub["state"] for hub in (await app.status())["hubs"]} == {"main": "unknown", "wrong": "failed"}


async def test_clusters_of_right_hubs_are_refreshed_beside_a_wrong_one(app: App) -> None:
    good, bad = await app.world.join("aks-1"), await app.world.join("aks-2")
    document = bad.member.cluster.model_copy(update={"hub": "wrong"})
    await app.world.services.fleet.register(type(bad.member)(document, bad.member.endpoint))
    app.settings["HUBS"] = json.dumps({**json.loads(app.settings["HUBS"]), "wrong": _WRONG_HUB})
    app.settings["ARM_ENDPOINT"] = f"http://{_CANARY}"
    for cluster in (good, bad):
        await app.services().refresher.refresh(
            RefreshMessage(shard=shard_of(cluster.id), cluster=cluster.id, reason="manual")
        )

    assert (await app.world.target(good)).state(app.world.clock()) == "fresh"
    failed = await app.world.target(bad)
    assert failed.category == "invalid_request"
    assert "HUBS.wrong." in (failed.detail or "")
    assert (await app.status())["totals"] == {"clusters": 2, "targets": {"fresh": 1, "pending": 1}, "overdue": 0}
    app.world.clock.advance(timedelta(hours=1))
    shards = {shard_of(cluster.id) for cluster in (good, bad)}
    assert (await app.status())["totals"]["overdue"] == len(shards), "no run has refreshed them"


async def test_a_wrong_arm_endpoint_calls_no_other_cloud(app: App) -> None:
    """A refresh needs Azure Resource Manager only if a cluster has moved."""
    cluster = await app.world.join("aks-1")
    app.settings["ARM_ENDPOINT"] = f"http://{_CANARY}"

    with pytest.raises(InvalidSetting, match=r"^invalid_request: ARM_ENDPOINT: "):
        await app.services().refresher._writer._access.locate(cluster.id)
    assert app.world.cloud.arm_part.journal.requests == []


@pytest.mark.parametrize("setting", ["ARM_ENDPOINT", "AZURE_AUTHORITY_HOST"])
async def test_an_operation_that_runs_already_fails_with_the_setting_that_it_needs(app: App, setting: str) -> None:
    app.world.settings["ONBOARDING_SCOPES"] = f"/subscriptions/{SUBSCRIPTION}"
    cluster = await app.world.cloud.add_cluster("aks-1", "main")
    request = Onboarding(cluster=cluster.id, hub="main")
    operation = await app.world.services.onboarder.onboard(request)
    app.settings[setting] = f"http://{_CANARY}"

    ended = await app.services().runner.run(OnboardingMessage(operation=operation.id))

    (failed,) = (step for step in ended.steps if step.category)
    assert (ended.status, failed.category) == ("Failed", "invalid_request")
    assert setting in (failed.detail or "")
    assert app.world.cloud.arm_part.journal.requests == []


async def test_each_run_of_the_timer_reports_the_problems(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.settings["REFRESH_SCHEDULE"] = "wrong"
    app.settings["HUB"] = _CANARY
    await schedule.schedule._function.get_user_function()(None)

    reported = {event["setting"]: event["severity"] for event in app.world.events.named("settings.invalid")}
    assert reported == {"REFRESH_SCHEDULE": "error", "HUB": "warning"}
    levels = [record.levelname for record in caplog.records if record.getMessage().startswith("settings.invalid")]
    assert levels == ["ERROR", "WARNING"]
    assert app.world.events.named("run.completed"), "the run happens all the same"


async def test_a_setting_that_stops_the_timer_is_reported_first(app: App) -> None:
    app.settings["AzureWebJobsStorage"] = ""
    with pytest.raises(InvalidSetting):
        await schedule.schedule._function.get_user_function()(None)

    reported = {str(event["setting"]) for event in app.world.events.named("settings.invalid")}
    assert "AzureWebJobsStorage__tableServiceUri" in reported


async def test_queues_and_tables_are_created_when_the_app_starts_to_work(app: App) -> None:
    await schedule.schedule._function.get_user_function()(None)

    queues = {"refresh": 0, "refresh-poison": 0, "onboarding": 0, "onboarding-poison": 0}
    report = await app.status()
    assert report["queues"] == queues
    assert report["lastRun"]
