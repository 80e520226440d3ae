"""A credential configuration is accepted in one form only, and used for its ids only."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullkeeper.errors import InvalidRequest
from pullkeeper.publisher.hub import Hub
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("type", "authorized_user", id="another kind of credential"),
        pytest.param("type", "service_account", id="a key"),
        pytest.param("type", None, id="no type"),
        pytest.param("subject_token_type", "urn:ietf:params:aws:token-type:aws4_request", id="aws token type"),
        pytest.param("subject_token_type", "urn:ietf:params:oauth:token-type:saml2", id="saml token type"),
        pytest.param("subject_token_type", None, id="no token type"),
        pytest.param("universe_domain", "evil.example", id="another universe"),
        pytest.param("audience", None, id="no audience"),
        pytest.param("audience", "evil", id="any word"),
        pytest.param("audience", PROVIDER.replace("417300214096", "deepintshield-evil"), id="project id, not number"),
        pytest.param("audience", PROVIDER.replace("417300214096", "0123"), id="a number with a leading zero"),
        pytest.param("audience", PROVIDER.replace("417300214096", "4173\u0661\u0662"), id="digits of another script"),
        pytest.param("audience", PROVIDER.replace("acme-azure-pool", ".."), id="dots for a pool"),
        pytest.param("audience", PROVIDER.replace("acme-azure-pool", "evil%2fpool"), id="escaped slash in a pool"),
        pytest.param("audience", PROVIDER.replace("acme-azure-pool", "EVIL-pool"), id="upper case"),
        pytest.param("audience", PROVIDER.replace("acme-azure-pool", "abc"), id="a pool of 3 characters"),
        pytest.param("audience", PROVIDER.replace("acme-azure-pool", "a" * 33), id="a pool of 33 characters"),
        pytest.param("audience", PROVIDER + "/evil", id="something after the provider"),
        pytest.param("audience", PROVIDER + "\n", id="a newline after the provider"),
        pytest.param("audience", "https:" + PROVIDER, id="a scheme"),
        pytest.param("audience", PROVIDER.replace("iam.googleapis.com", "iam.evil.example"), id="another host"),
        pytest.param("audience", PROVIDER.replace("/global/", "/evil/"), id="another location"),
        pytest.param("audience", 417300214096, id="a number"),
        pytest.param("token_url", None, id="no token URL"),
        pytest.param("token_url", "https://sts.evil.example/v1/token", id="foreign host"),
        pytest.param("token_url", "https://sts.googleapis.com.evil.example/v1/token", id="lookalike at the end"),
        pytest.param("token_url", "https://evil-sts.googleapis.com/v1/token", id="lookalike in front"),
        pytest.param("token_url", "https://storage.googleapis.com/v1/token", id="another host of Google's"),
        pytest.param("token_url", "https://iamcredentials.googleapis.com/v1/token", id="the other call's host"),
        pytest.param("token_url", "https://sts.googleapis.com@evil.example/v1/token", id="userinfo"),
        pytest.param("token_url", "https://evil@sts.googleapis.com/v1/token", id="userinfo before the right host"),
        pytest.param("token_url", "https://sts.googleapis.com\\@evil.example/v1/token", id="backslash"),
        pytest.param("token_url", "https://sts.googleapis.com:8443/v1/token", id="a port"),
        pytest.param("token_url", "https://sts.googleapis.com:443/v1/token", id="the usual port"),
        pytest.param("token_url", "https://sts.googleapis.com./v1/token", id="a dot at the end of the host"),
        pytest.param("token_url", "https://sts.googleap\u0131s.com/v1/token", id="IDN"),
        pytest.param("token_url", "https://\uff53ts.googleapis.com/v1/token", id="full-width letter"),
        pytest.param("token_url", "https://xn--ss-evil.googleapis.com/v1/token", id="punycode"),
        pytest.param("token_url", "http://sts.googleapis.com/v1/token", id="no TLS"),
        pytest.param("token_url", "HTTPS://STS.GOOGLEAPIS.COM/v1/token", id="upper case"),
        pytest.param("token_url", "https://169.254.169.254/v1/token", id="the metadata address"),
        pytest.param("token_url", "https://sts.googleapis.com/v1/token\n", id="a newline at the end"),
        pytest.param("token_url", "https://sts.googleapis.com/v1/token?evil=1", id="a query"),
        pytest.param("token_url", "https://sts.googleapis.com/v1/token#evil", id="a fragment"),
        pytest.param("token_url", "https://sts.googleapis.com/v1/../evil", id="dots in the path"),
        pytest.param("token_url", "https://sts.googleapis.com/v1%2ftoken", id="escaped slash"),
        pytest.param("token_url", "file:///etc/evil", id="a file"),
        pytest.param("service_account_impersonation_url", "https://evil.example/v1/x", id="any URL"),
        pytest.param(
            "service_account_impersonation_url",
            IMPERSONATION_URL.replace("iamcredentials.googleapis.com", "iamcredentials.googleapis.com.evil.example"),
            id="lookalike host",
        ),
        pytest.param(
            "service_account_impersonation_url",
            IMPERSONATION_URL.replace("iamcredentials.googleapis.com", "evil@iamcredentials.googleapis.com"),
            id="userinfo in the impersonation URL",
        ),
        pytest.param(
            "service_account_impersonation_url",
            f"{_ACCOUNTS}/../../evil@deepintshield-prod.iam.gserviceaccount.com:generateAccessToken",
            id="dots in the account",
        ),
        pytest.param(
            "service_account_impersonation_url",
            f"{_ACCOUNTS}/evil-puller@deepintshield-prod.iam.gserviceaccount.com%2f:generateAccessToken",
            id="escaped slash in the account",
        ),
        pytest.param(
            "service_account_impersonation_url",
            f"{_ACCOUNTS}/evil-puller@deepintshield.example:generateAccessToken",
            id="an account that is not Google's",
        ),
        pytest.param(
            "service_account_impersonation_url", IMPERSONATION_URL.replace("Access", "Id"), id="another kind of token"
        ),
        pytest.param("service_account_impersonation_url", IMPERSONATION_URL + "\n", id="newline after the method"),
    ],
)
def test_any_other_form_is_refused_and_not_quoted(field: str, value: Any) -> None:
    message = _fail(credential_config(**{field: value}))

    assert message.startswith(f"credentialConfig.{field}: ")
    assert "; " not in message, "one field is wrong, and one is reported"
    assert "evil" not in message.lower()
    assert value is None or str(value) not in message


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({"executable": {"command": "/bin/evil", "timeout_millis": 5000}}, id="executable"),
        pytest.param({"url": "http://169.254.169.254/evil", "executable": {}}, id="an executable beside a url"),
        pytest.param({"url": "http://169.254.169.254/evil", "headers": {"Metadata": 7}}, id="a header of another type"),
        pytest.param({"url": "http://evil" * 1000}, id="an endless url"),
        pytest.param({}, id="neither"),
        pytest.param({"environment_id": "aws1", "regional_cred_verification_url": "https://evil"}, id="aws"),
        pytest.param({"certificate": {"use_default_certificate_config": True}}, id="certificate"),
        pytest.param({"file": "/t", "url": "http://evil"}, id="a url beside a file"),
        pytest.param({"file": "/t", "format": {"type": "text", "evil": "x"}}, id="an unknown format"),
        pytest.param({"file": "/evil" * 1000}, id="an endless path"),
        pytest.param("/evil", id="no object"),
    ],
)
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
