"""A credential configuration is accepted in one form only, and used for its ids only."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullkeeper.errors import InvalidRequest
from pullkeeper.publisher.hub import Hub
from tests.core.hostile import cases, pairs
from tests.core.publisher import (
    IMPERSONATION_URL,
    PROVIDER,
    SERVICE_ACCOUNT,
    TOKEN_URL,
    credential_config,
    hub,
    parsed_hub,
)

_POOLS = "//iam.googleapis.com/projects/417300214096/locations/global/workloadIdentityPools"
_ACCOUNTS = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"


def _fail(document: dict[str, Any], *, trusted: frozenset[str] = frozenset()) -> str:
    with pytest.raises(InvalidRequest) as refused:
        Hub.parse(hub(credentialConfig=document), trusted_hosts=trusted)
    return refused.value.detail


def test_a_document_is_parsed_into_its_ids() -> None:
    config = parsed_hub().credential_config

    assert config.ids == {
        "project": "417300214096",
        "pool": "acme-azure-pool",
        "provider": "acme-azure-provider",
        "service_account": SERVICE_ACCOUNT,
    }
    assert config.service_account == SERVICE_ACCOUNT
    assert (
        config.audience,
        config.token_url,
        config.service_account_impersonation_url,
    ) == (PROVIDER, TOKEN_URL, IMPERSONATION_URL)


def test_without_an_impersonation_url_there_is_no_service_account() -> None:
    config = Hub.parse(
        hub(credentialConfig=credential_config(service_account_impersonation_url=None))
    ).credential_config

    assert config.service_account is None
    assert "service_account" not in config.ids


def test_the_source_is_not_printed() -> None:
    """The headers of a URL may contain a token."""
    source = {"url": "https://example.com/", "headers": {"Authorization": "bearer canary"}}

    parsed = Hub.parse(hub(credentialConfig=credential_config(credential_source=source)))

    assert "canary" not in repr(parsed)


def test_the_pods_token_file_is_not_stored() -> None:
    assert "azure-identity-token" not in parsed_hub().to_json()


def test_a_stored_document_is_read_back_unchanged() -> None:
    stored = Hub.parse(parsed_hub().to_json()).credential_config

    assert stored.ids == parsed_hub().credential_config.ids
    assert stored.credential_source is None


@pytest.mark.parametrize("pool", ["acme", "3m-azure-pool", "0000", "a" * 32, "-acme-"])
def test_every_pool_id_that_google_allows_is_accepted(pool: str) -> None:
    """4 to 32 of [a-z0-9-]: a customer's name may begin with a digit."""
    document = credential_config(audience=f"{_POOLS}/{pool}/providers/{pool}")

    ids = Hub.parse(hub(credentialConfig=document)).credential_config.ids

    assert (pool, pool) == (ids["pool"], ids["provider"])


@pytest.mark.parametrize(("field", "value"), pairs("credential configurations"))
def test_any_other_form_is_refused_and_not_quoted(field: str, value: Any) -> None:
    message = _fail(credential_config(**{field: value}))

    assert message.startswith(f"credentialConfig.{field}: ")
    assert "; " not in message, "one field is wrong, and one is reported"
    assert "evil" not in message.lower()
    assert value is None or str(value) not in message


@pytest.mark.parametrize("source", cases("credential sources"))
def test_a_source_other_than_a_file_or_a_url_is_refused(source: Any) -> None:
    message = _fail(credential_config(credential_source=source))

    assert message.startswith("credentialConfig.credential_source")
    assert "169.254" not in message
    assert "/evil" not in message


@pytest.mark.parametrize(
    "field",
    [
        "client_secret",
        "workforce_pool_user_project",
        "quota_project_id",
        "private_key",
    ],
)
def test_a_field_of_another_kind_of_document_is_refused_by_name(field: str) -> None:
    message = _fail(credential_config(**{field: "evil"}))

    assert f"credentialConfig.{field}: Extra inputs are not permitted" == message


@pytest.mark.parametrize(
    "value",
    [
        "https://sts.evil.example/v1/introspect",
        "https://sts.googleapis.com/v1/token",
        "http://sts.googleapis.com/v1/introspect",
        "https://sts.googleapis.com/v1/introspect?evil=1",
        7,
    ],
)
def test_a_token_info_url_of_another_form_is_refused(value: Any) -> None:
    assert _fail(credential_config(token_info_url=value)).startswith("credentialConfig.token_info_url: ")


def test_the_token_info_url_is_not_stored() -> None:
    """It is never called."""
    document = credential_config(token_info_url="https://sts.googleapis.com/v1/introspect")

    assert Hub.parse(hub(credentialConfig=document)).to_json() == parsed_hub().to_json()


@pytest.mark.parametrize("value", [{}, {"token_lifetime_seconds": 599}, {"token_lifetime_seconds": 43201}, 7, "evil"])
def test_a_lifetime_that_google_does_not_allow_is_refused(value: Any) -> None:
    message = _fail(credential_config(service_account_impersonation=value))

    assert message.startswith("credentialConfig.service_account_impersonation")
    assert "evil" not in message


def test_the_lifetime_of_the_document_is_stored() -> None:
    document = credential_config(service_account_impersonation={"token_lifetime_seconds": 7200})

    stored = Hub.parse(hub(credentialConfig=document)).to_json()

    assert Hub.parse(stored).life == timedelta(hours=2)


def test_a_trusted_host_is_accepted_in_place_of_googles() -> None:
    document = credential_config(
        token_url="https://127.0.0.1:8443/v1/token",
        service_account_impersonation_url=IMPERSONATION_URL.replace("iamcredentials.googleapis.com", "127.0.0.1:8443"),
    )

    trusting = Hub.parse(hub(credentialConfig=document), trusted_hosts=frozenset({"127.0.0.1:8443"}))

    assert trusting.credential_config.service_account == SERVICE_ACCOUNT


def test_a_host_is_trusted_for_its_port_only() -> None:
    message = _fail(
        credential_config(token_url="https://127.0.0.1:8444/v1/token"), trusted=frozenset({"127.0.0.1:8443"})
    )

    assert "TRUSTED_GOOGLE_HOSTS" in message
    assert "8444" not in message


@given(data=st.data())
def test_an_accepted_document_consists_of_its_ids(data: st.DataObject) -> None:
    """With one character inserted or replaced anywhere in one of the URLs."""
    field = data.draw(st.sampled_from(["audience", "token_url", "service_account_impersonation_url"]))
    text = credential_config()[field]
    at, width = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 1))
    changed = text[:at] + data.draw(st.characters() | st.sampled_from("./:@%-9")) + text[at + width :]
    try:
        config = Hub.parse(hub(credentialConfig=credential_config(**{field: changed}))).credential_config
    except InvalidRequest as refused:
        assert field in refused.detail  # noqa: PT017 - either is right, each in its own way
        return

    ids = config.ids
    pools = f"//iam.googleapis.com/projects/{int(ids['project'])}/locations/global/workloadIdentityPools"
    assert config.audience == f"{pools}/{ids['pool']}/providers/{ids['provider']}"
    assert config.token_url == TOKEN_URL
    assert config.service_account_impersonation_url == f"{_ACCOUNTS}/{ids['service_account']}:generateAccessToken"
    assert "".join(ids.values()).isascii()
