"""A wrong setting is reported by name, and stops only what needs it."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import pullkeeper
from pullkeeper.clouds import PUBLIC
from pullkeeper.documentation import Documentation
from pullkeeper.errors import InvalidSetting
from pullkeeper.settings import STORAGE, Settings
from tests.core.hostile import cases
from tests.core.publisher import credential_config, hub, parsed_hub

_AZURITE = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=canary==;TableEndpoint=http://127.0.0.1:1/a"
_GUID = "00000000-0000-0000-0000-000000005eed"
_SCHEDULE = {"REFRESH_SCHEDULE": "0 */5 * * * *"}
_IN_AZURE = {
    "AzureWebJobsStorage__blobServiceUri": "https://acct.blob.core.windows.net",
    "AzureWebJobsStorage__tableServiceUri": "https://acct.table.core.windows.net",
    "AzureWebJobsStorage__queueServiceUri": "https://acct.queue.core.windows.net/",
    **_SCHEDULE,
}
_FOREIGN = "must name sts.googleapis.com, or a host of the setting TRUSTED_GOOGLE_HOSTS"


def _fault(environment: Mapping[str, str], setting: str) -> str:
    """The one problem of these settings."""
    settings = Settings.read(environment)
    (problem,) = settings.problems
    assert (problem.setting, problem.severity) == (setting, "error")
    assert f"--settings '{setting}=" in problem.remedy
    with pytest.raises(InvalidSetting) as refused:
        settings.require(setting)
    assert problem.detail == refused.value.detail
    return problem.detail


def _hubs(**hubs: Any) -> str:
    return json.dumps(hubs)


def test_only_storage_and_schedule_must_be_set() -> None:
    settings = Settings.read(_IN_AZURE)

    assert dict(settings.hubs) == {}
    assert settings.problems == ()
    assert settings.client_id is None
    assert settings.cloud == PUBLIC
    assert settings.trusted_hosts == frozenset()
    assert settings.storage is None


def test_variables_of_the_platform_are_no_problem() -> None:
    others = {
        "PATH": "/bin",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "FUNCTIONS_EXTENSION_VERSION": "~4",
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_SECRET": "s",
        "AzureWebJobsFeatureFlags": "EnableWorkerIndexing",
        "AzureWebJobsDashboard": "d",
        "AzureWebJobsSecretStorageType": "blob",
        "AzureWebJobs.refresh.Disabled": "false",
        "APPSETTING_AzureWebJobsStorage__queueServiceUri": "https://acct.queue.core.windows.net",
        "APPSETTING_PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
        "AzureFunctionsJobHost__extensions__queues__batchSize": "1",
        "APPINSIGHTS_INSTRUMENTATIONKEY": "k",
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "Authorization=AAD",
        "PYTHON_ENABLE_WORKER_EXTENSIONS": "1",
        "WEBSITE_HOSTNAME": "h",
    }

    assert Settings.read({**_IN_AZURE, **others}) == Settings.read(_IN_AZURE)


def test_a_slash_at_the_end_of_the_documentations_address_makes_no_difference() -> None:
    pages = {
        Settings.read({**_IN_AZURE, "DOCUMENTATION_URL": f"https://git.example:8443/a/b{slash}"}).documentation.page(
            "x"
        )
        for slash in ("", "/")
    }
    assert pages == {"https://git.example:8443/a/b/docs/runbook/x.md"}


@pytest.mark.parametrize(
    "value",
    [
        "docs",
        "http://docs.example",
        "javascript:alert(1)",
        "https://docs.example/?path",
        "https://docs.example/#top",
        "https://docs.example/a b",
        "https://docs.example/<a>",
        "https://user:canary@docs.example",
    ],
)
def test_the_documentations_address_is_a_plain_address(value: str) -> None:
    """It is shown as a link."""
    fault = _fault({**_IN_AZURE, "DOCUMENTATION_URL": value}, "DOCUMENTATION_URL")
    assert "canary" not in fault
    assert Settings.read({"DOCUMENTATION_URL": value}).documentation == Documentation()


def test_a_setting_without_a_value_counts_as_not_set() -> None:
    empty = {"HUBS": "", "AZURE_CLIENT_ID": "", "ARM_ENDPOINT": "", "TRUSTED_GOOGLE_HOSTS": ""}

    assert Settings.read({**_IN_AZURE, **empty}) == Settings.read(_IN_AZURE)


def test_the_sample_settings_have_no_problem() -> None:
    sample = Path(*pullkeeper.__path__).parent / "local.settings.sample.json"

    settings = Settings.read(json.loads(sample.read_text())["Values"])

    assert list(settings.hubs) == ["deepintshield"]
    assert settings.problems == ()


def test_hubs_are_read_by_name() -> None:
    settings = Settings.read({**_IN_AZURE, "HUBS": _hubs(main=hub(), slow=hub(tokenLifetime=7200))})

    assert {"main": parsed_hub(), "slow": parsed_hub(tokenLifetime=7200)} == settings.hubs


@pytest.mark.parametrize("service", ["blob", "queue", "table"])
def test_each_address_of_the_storage_account_is_needed(service: str) -> None:
    """The host needs the first two, the app the last two. Without a blob address the timer never runs."""
    setting = f"AzureWebJobsStorage__{service}ServiceUri"
    environment = {name: value for name, value in _IN_AZURE.items() if name != setting}

    assert _fault(environment, setting).startswith(f"{setting}: missing, and so is AzureWebJobsStorage__accountName: ")


def test_without_storage_every_address_is_missing() -> None:
    settings = Settings.read(_SCHEDULE)

    with pytest.raises(
        InvalidSetting, match=r"__queueServiceUri: missing.*; AzureWebJobsStorage__tableServiceUri: mis"
    ):
        settings.require(*STORAGE)
    with pytest.raises(InvalidSetting, match="__tableServiceUri: missing"):
        settings.storage_address("table")
    remedies = [problem.remedy for problem in Settings.read({**_SCHEDULE, "AZURE_CLOUD": "AzureChina"}).problems]
    assert remedies[1].endswith("__queueServiceUri=https://<storage account>.queue.core.chinacloudapi.cn'")


def test_a_connection_string_may_hold_a_shared_access_signature() -> None:
    ends = (f"{service}Endpoint=https://acct.{service.lower()}.core.windows.net" for service in ("Queue", "Table"))
    connection = ";".join((*ends, "SharedAccessSignature=sv=canary"))
    assert Settings.read({"AzureWebJobsStorage": connection, **_SCHEDULE}).problems == ()


def test_the_name_of_the_storage_account_replaces_its_addresses() -> None:
    """As Microsoft's Flex Consumption samples set it."""
    sample = {
        "AzureWebJobsStorage__accountName": "acct",
        "AzureWebJobsStorage__credential": "managedidentity",
        "AzureWebJobsStorage__clientId": "5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b",
        **_SCHEDULE,
    }
    settings = Settings.read(sample)

    assert settings.problems == ()
    assert settings.storage_address("table") == "https://acct.table.core.windows.net"
    assert settings.storage_address("queue") == "https://acct.queue.core.windows.net"
    assert settings.storage_client_id == sample["AzureWebJobsStorage__clientId"]
    assert Settings.read({**sample, "AzureWebJobsStorage__credential": "managedIdentity"}).problems == ()


def test_an_address_takes_precedence_over_the_accounts_name() -> None:
    settings = Settings.read({**_IN_AZURE, "AzureWebJobsStorage__accountName": "other"})

    assert settings.storage_address("table") == "https://acct.table.core.windows.net"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("AzureWebJobsStorage", "canary"),
        ("AzureWebJobsStorage", "AccountKey=canary"),
        ("AzureWebJobsStorage__accountName", "can.ary"),
        ("AzureWebJobsStorage__credential", "canary"),
    ],
)
def test_a_wrong_storage_setting_is_reported(setting: str, value: str) -> None:
    fault = _fault({**_IN_AZURE, setting: value}, setting)
    with pytest.raises(InvalidSetting, match=setting):
        Settings.read({**_IN_AZURE, setting: value}).require(*STORAGE)

    assert fault.startswith(setting)
    assert "canary" not in fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "HUBS: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("ya29.canary", "HUBS: Invalid JSON: expected value at line 1 column 1"),
        ("[]", "HUBS: Input should be a valid dictionary"),
        ("null", "HUBS: Input should be a valid dictionary"),
        ('"canary"', "HUBS: Input should be a valid dictionary"),
        ('{"main": "canary"}', "HUBS.main: Input should be a valid dictionary or instance of Hub"),
        ('{"main": null}', "HUBS.main: Input should be a valid dictionary or instance of Hub"),
        (_hubs(main=hub(probe="canary")), "HUBS.main.probe: must be HOST/PROJECT/REPOSITORY/IMAGE[:TAG]"),
        (_hubs(main=hub(region="canary")), "HUBS.main.region: Extra inputs are not permitted"),
        (_hubs(main=hub(registries=None)), "HUBS.main.registries: Field required"),
        (
            _hubs(main=hub(credentialConfig=credential_config(token_url="https://canary.example/v1/token"))),
            f"HUBS.main.credentialConfig.token_url: {_FOREIGN}",
        ),
        (
            _hubs(**{"a name with blanks": hub()}),
            "HUBS.a name with blanks.[key]: String should match pattern '^[A-Za-z0-9._-]{1,64}$'",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_a_wrong_hub_is_reported_by_the_path_of_its_field(text: str, fault: str) -> None:
    assert _fault({**_IN_AZURE, "HUBS": text}, "HUBS") == fault


def test_a_wrong_hub_does_not_stop_the_others() -> None:
    settings = Settings.read({**_IN_AZURE, "HUBS": _hubs(wrong=hub(probe="canary"), main=hub())})

    assert settings.hubs["main"] == parsed_hub()
    assert set(settings.hubs) == {"wrong", "main"}
    for look_up in (lambda: settings.hubs["wrong"], lambda: "wrong" in settings.hubs):
        with pytest.raises(InvalidSetting, match=r"HUBS\.wrong\.probe: must be"):
            look_up()
    assert "unknown" not in settings.hubs


def test_no_hub_is_found_in_a_setting_that_is_not_json() -> None:
    settings = Settings.read({**_IN_AZURE, "HUBS": "{"})

    for look_up in (lambda: settings.hubs["main"], lambda: "main" in settings.hubs, lambda: list(settings.hubs)):
        with pytest.raises(InvalidSetting, match="HUBS: Invalid JSON"):
            look_up()


def test_every_problem_is_reported_at_once() -> None:
    settings = Settings.read({**_IN_AZURE, "HUBS": "{", "ARM_ENDPOINT": "canary", "REFRESH_SCHEDULE": "canary"})

    assert {problem.setting for problem in settings.problems} == {"HUBS", "ARM_ENDPOINT", "REFRESH_SCHEDULE"}
    assert "canary" not in str(settings.problems)


@pytest.mark.parametrize(
    "setting", ["ARM_ENDPOINT", "AZURE_AUTHORITY_HOST", *sorted(_IN_AZURE.keys() - _SCHEDULE.keys())]
)
@pytest.mark.parametrize("url", cases("addresses"))
def test_an_address_is_a_url_with_tls(setting: str, url: str) -> None:
    problems = Settings.read({**_IN_AZURE, setting: url}).problems

    assert any(problem.detail.startswith(f"{setting}: String should match pattern") for problem in problems)
    assert "canary" not in str(problems)


@pytest.mark.parametrize("others", [{}, {"ARM_ENDPOINT": "wrong"}], ids=["all right", "another is wrong"])
def test_a_hub_may_name_a_trusted_host_instead_of_googles(others: dict[str, str]) -> None:
    document = credential_config(token_url="https://127.0.0.1:8443/v1/token")
    local = hub(credentialConfig=document, registries=["127.0.0.1:8443"], probe="127.0.0.1:8443/p-1/repository/image")

    hosts = " 127.0.0.1:8443 , ,sts.private.example,"
    settings = Settings.read({**_IN_AZURE, **others, "HUBS": _hubs(main=local), "TRUSTED_GOOGLE_HOSTS": hosts})

    assert settings.trusted_hosts == {"127.0.0.1:8443", "sts.private.example"}
    assert settings.hubs["main"].registries == ("127.0.0.1:8443",)


@pytest.mark.parametrize(
    "hosts", ["https://127.0.0.1:8443", "a.example b.example", "*", "a.example/x", "A.example", "a@b.example"]
)
def test_a_wrong_trusted_host_does_not_stop_the_others(hosts: str) -> None:
    environment = {**_IN_AZURE, "TRUSTED_GOOGLE_HOSTS": f"good.example,{hosts}"}

    assert _fault(environment, "TRUSTED_GOOGLE_HOSTS") == (
        "TRUSTED_GOOGLE_HOSTS: must be hosts (with a port, if any) in lower case, separated by commas"
    )
    assert Settings.read(environment).trusted_hosts == {"good.example"}


def test_a_scope_is_the_same_however_it_is_spelled() -> None:
    scope = f"/Subscriptions/{_GUID.upper()}/resourceGroups/Shop"
    assert Settings.read({**_IN_AZURE, "ONBOARDING_SCOPES": scope}).allowed_scopes == {scope.lower()}


@pytest.mark.parametrize(
    "scope",
    [
        "/subscriptions/canary",
        "canary",
        f"/subscriptions/{_GUID}/providers/canary",
        f"/subscriptions/{_GUID}/resourceGroups/shop/canary",
    ],
)
def test_a_wrong_scope_is_reported(scope: str) -> None:
    good = f"/subscriptions/{_GUID}, /subscriptions/{_GUID}/resourceGroups/Platform"

    assert Settings.read({**_IN_AZURE, "ONBOARDING_SCOPES": good}).problems == ()
    assert "canary" not in _fault({**_IN_AZURE, "ONBOARDING_SCOPES": f"{good},{scope}"}, "ONBOARDING_SCOPES")


@pytest.mark.parametrize("hours", ["0", "-5", "169", "1.5", "a day"])
def test_an_operation_waits_from_an_hour_to_a_week(hours: str) -> None:
    assert Settings.read({**_IN_AZURE, "ONBOARDING_WAIT_HOURS": "168"}).onboarding_wait == timedelta(days=7)
    _fault({**_IN_AZURE, "ONBOARDING_WAIT_HOURS": hours}, "ONBOARDING_WAIT_HOURS")


@pytest.mark.parametrize("schedule", ["", "canary", "* * * *", "0 */5 * * * 8", "00:05:00", "0 */0 * * * *"])
def test_a_missing_or_wrong_schedule_is_reported(schedule: str) -> None:
    environment = {**_IN_AZURE, "REFRESH_SCHEDULE": schedule}
    fault = _fault(environment, "REFRESH_SCHEDULE")

    assert Settings.read(environment).problems[0].remedy.endswith("'REFRESH_SCHEDULE=0 */5 * * * *'")
    state = "is not an NCRONTAB expression with six fields" if schedule else "missing"
    assert fault == f"REFRESH_SCHEDULE: {state}: without it there is no timer, and nothing is refreshed"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("REFRESH_SHEDULE", "REFRESH_SCHEDULE"),
        ("refresh_schedule", "REFRESH_SCHEDULE"),
        ("HUB", "HUBS"),
        ("hubs", "HUBS"),
        ("ONBOARDING_SCOPE", "ONBOARDING_SCOPES"),
        ("AzureWebJobsStorage_accountName", "AzureWebJobsStorage__accountName"),
        ("AzureWebJobsStorage__clientID", "AzureWebJobsStorage__clientId"),
    ],
)
def test_a_misspelled_setting_is_reported(name: str, meant: str) -> None:
    (problem,) = Settings.read({**_IN_AZURE, name: "canary"}).problems

    assert (problem.setting, problem.severity) == (name, "warning")
    assert meant in problem.detail
    assert f"--setting-names {name}, and set {meant} if" in problem.remedy
    assert "canary" not in str(problem)


_TELEMETRY = {
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=canary",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
    "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME": "pullkeeper",
    "OTEL_TRACES_EXPORTER": "none",
}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *((name, "") for name in _TELEMETRY),
        ("PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY", "false"),
        ("PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME", "azure"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
    ],
)
def test_missing_and_wrong_telemetry_settings_are_reported_on_azure(setting: str, value: str) -> None:
    on_azure = {**_IN_AZURE, **_TELEMETRY, "WEBSITE_SITE_NAME": "app"}

    assert Settings.read(on_azure).problems == ()
    for spelling in (" True ", "1", "T", "yes", "y"):  # of true, for Microsoft's worker
        other_form = {"PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": spelling, "OTEL_TRACES_EXPORTER": "None"}
        assert Settings.read({**on_azure, **other_form}).problems == ()
    (problem,) = Settings.read({**on_azure, setting: value}).problems
    assert (problem.setting, problem.severity) == (setting, "warning")
    assert Settings.read({**_IN_AZURE, "PATH": "/bin"}).problems == ()


@pytest.mark.parametrize(("onboarding", "is_one"), [("", True), ("app", True), ("other", False)])
def test_an_identity_that_is_named_twice_is_one(onboarding: str, *, is_one: bool) -> None:
    settings = Settings.read({"AZURE_CLIENT_ID": "app", "ONBOARDING_CLIENT_ID": onboarding})

    assert settings.has_one_identity is is_one


def test_the_storage_accounts_key_is_not_shown() -> None:
    """Nor that of Application Insights."""
    insights = "InstrumentationKey=canary"
    settings = Settings.read({"AzureWebJobsStorage": _AZURITE, "APPLICATIONINSIGHTS_CONNECTION_STRING": insights})

    assert (settings.storage, settings.application_insights) == (_AZURITE, insights)
    assert "canary" not in f"{settings} {settings!r}"
