"""Every setting is read once, and what is wrong with it is said in one sentence that names it."""

import json
from pathlib import Path
from typing import Any

import pytest

import pullkeeper
from pullkeeper.errors import InvalidRequest
from pullkeeper.settings import Settings
from tests.core.publisher import credential_config, hub, parsed_hub

_AZURITE = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=canary==;TableEndpoint=http://127.0.0.1:1/a"
_IN_AZURE = {
    "AzureWebJobsStorage__tableServiceUri": "https://acct.table.core.windows.net",
    "AzureWebJobsStorage__queueServiceUri": "https://acct.queue.core.windows.net/",
}
_NO_STORAGE = (
    "set AzureWebJobsStorage__tableServiceUri and AzureWebJobsStorage__queueServiceUri, "
    "or AzureWebJobsStorage for development"
)
_FOREIGN = "must name sts.googleapis.com, or a host of the setting TRUSTED_GOOGLE_HOSTS"


def _refusal(**environment: str) -> str:
    with pytest.raises(InvalidRequest) as refused:
        Settings.read(environment)
    return refused.value.detail


def _hubs(**hubs: Any) -> str:
    return json.dumps(hubs)


def test_in_azure_only_the_storage_account_must_be_set() -> None:
    settings = Settings.read(_IN_AZURE)

    assert settings.hubs == {}
    assert settings.client_id is None
    assert settings.arm_endpoint == "https://management.azure.com"
    assert settings.trusted_hosts == frozenset()
    assert settings.storage is None


def test_what_the_platform_sets_besides_is_no_matter() -> None:
    besides = {
        "PATH": "/bin",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "REFRESH_SCHEDULE": "0 */5 * * * *",
        "hubs": "evil",
    }

    assert Settings.read({**_IN_AZURE, **besides}) == Settings.read(_IN_AZURE)


def test_a_setting_without_a_value_counts_as_not_set() -> None:
    empty = {"HUBS": "", "AZURE_CLIENT_ID": "", "ARM_ENDPOINT": "", "TRUSTED_GOOGLE_HOSTS": ""}

    assert Settings.read({**_IN_AZURE, **empty}) == Settings.read(_IN_AZURE)


def test_the_sample_is_a_good_one() -> None:
    sample = Path(*pullkeeper.__path__).parent / "local.settings.sample.json"

    settings = Settings.read(json.loads(sample.read_text())["Values"])

    assert list(settings.hubs) == ["deepintshield"]


def test_hubs_are_read_by_name() -> None:
    settings = Settings.read({**_IN_AZURE, "HUBS": _hubs(main=hub(), slow=hub(tokenLifetime=7200))})

    assert {"main": parsed_hub(), "slow": parsed_hub(tokenLifetime=7200)} == settings.hubs


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"AzureWebJobsStorage": ""},
        {"AzureWebJobsStorage__tableServiceUri": "https://acct.table.core.windows.net"},
        {"AzureWebJobsStorage__queueServiceUri": "https://acct.queue.core.windows.net"},
        {"AzureWebJobsStorage__accountName": "acct"},
    ],
    ids=["nothing", "empty", "tables alone", "queues alone", "another way of the platform's"],
)
def test_without_storage_it_says_what_to_set(environment: dict[str, str]) -> None:
    assert _refusal(**environment) == _NO_STORAGE


@pytest.mark.parametrize(
    ("text", "told"),
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
def test_a_wrong_hub_is_told_by_its_place(text: str, told: str) -> None:
    assert _refusal(**_IN_AZURE, HUBS=text) == told


def test_all_that_is_wrong_is_told_at_once() -> None:
    told = _refusal(**_IN_AZURE, HUBS="{", ARM_ENDPOINT="canary")

    assert [part.partition(":")[0] for part in told.split("; ")] == ["HUBS", "ARM_ENDPOINT"]
    assert "canary" not in told


@pytest.mark.parametrize("setting", ["ARM_ENDPOINT", *_IN_AZURE])
@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://canary.example", id="no TLS"),
        pytest.param("canary.example", id="no scheme"),
        pytest.param("https://", id="no host"),
        pytest.param("https://management.azure.com@canary.example", id="userinfo"),
        pytest.param("https://canary.example\n", id="a newline at the end"),
        pytest.param("https://canary.example?x=y", id="a query"),
        pytest.param("https://canary.example/a/b", id="a long path"),
        pytest.param("https://can ary.example", id="a blank"),
        pytest.param("https://canary.example:\u0661", id="a digit of another script"),
    ],
)
def test_an_address_of_azures_is_a_url_with_tls_and_nothing_else(setting: str, url: str) -> None:
    told = _refusal(**{**_IN_AZURE, setting: url})

    assert told.startswith(f"{setting}: String should match pattern")
    assert "canary" not in told


def test_a_trusted_host_stands_for_googles_in_every_hub() -> None:
    document = credential_config(token_url="https://127.0.0.1:8443/v1/token")
    local = hub(credentialConfig=document, registries=["127.0.0.1:8443"], probe="127.0.0.1:8443/p-1/repository/image")

    settings = Settings.read(
        {**_IN_AZURE, "HUBS": _hubs(main=local), "TRUSTED_GOOGLE_HOSTS": " 127.0.0.1:8443 , ,sts.private.example,"}
    )

    assert settings.trusted_hosts == {"127.0.0.1:8443", "sts.private.example"}
    assert settings.hubs["main"].registries == ("127.0.0.1:8443",)


@pytest.mark.parametrize("hosts", ["https://127.0.0.1:8443", "a.example b.example", "*", "a.example/x", "A.example"])
def test_a_trusted_host_that_could_never_match_is_refused(hosts: str) -> None:
    """Rather than leaving the hub to be refused for a host that seems to be in the list."""
    told = _refusal(**_IN_AZURE, TRUSTED_GOOGLE_HOSTS=hosts)

    assert told == "TRUSTED_GOOGLE_HOSTS: must be hosts (with a port, if any) in lower case, separated by commas"


def test_the_storage_accounts_key_is_not_shown() -> None:
    settings = Settings.read({"AzureWebJobsStorage": _AZURITE})

    assert settings.storage == _AZURITE
    assert "canary" not in f"{settings} {settings!r}"
