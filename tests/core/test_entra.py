"""Whatever the identity endpoint responds, the outcome is a token or an EntraError without the response's text."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from azure.identity.aio import ManagedIdentityCredential
from hypothesis import given
from hypothesis import strategies as st

from pullkeeper.azure.entra import AKS, Entra, claims
from pullkeeper.errors import EntraDenied, EntraError, EntraThrottled, EntraUnavailable
from pullkeeper.tokens import EntraToken
from tests.core.canned import MALFORMED, CannedServer, http, serve_canned
from tests.core.failures import format_failure

_RESOURCE = "api://AzureADTokenExchange"
_TOKEN = "eyJhbGciOiJub25lIn0.eyJvaWQiOiJjYW5hcnkifQ.canary"
_RESPONSE: dict[str, Any] = {
    "access_token": _TOKEN,
    "expires_on": "4102444800",
    "resource": _RESOURCE,
    "token_type": "Bearer",
}


def _without(name: str) -> dict[str, Any]:
    return {known: value for known, value in _RESPONSE.items() if known != name}


@asynccontextmanager
async def _entra(
    answer: bytes | tuple[bytes | None, ...], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Entra, CannedServer]]:
    async with serve_canned(None, {"/msi/token": answer}) as endpoint:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{endpoint.host}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "secret")
        entra = Entra(lambda: ManagedIdentityCredential(retry_total=0))
        try:
            yield entra, endpoint
        finally:
            await entra.close()


async def _fail(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> EntraError:
    async with _entra(answer, monkeypatch) as (entra, _):
        with pytest.raises(EntraError) as raised:
            await entra.token(_RESOURCE)
    assert "canary" not in format_failure(raised.value)
    return raised.value


async def test_a_token_is_cached_until_a_fresh_one_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _entra(http(200, _RESPONSE), monkeypatch) as (entra, endpoint):
        tokens = [await entra.token(_RESOURCE)]
        _let_pass(timedelta(seconds=31), monkeypatch)
        tokens += [await entra.token(_RESOURCE)]
        assert len(endpoint.requests) == 1
        tokens += [await entra.token(_RESOURCE, fresh=True)]

    assert [token.reveal() for token in tokens] == [_TOKEN] * 3
    assert len(endpoint.requests) == 2


async def test_a_fresh_token_replaces_the_cached_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _entra(http(200, _RESPONSE), monkeypatch) as (entra, endpoint):
        await entra.token(_RESOURCE)
        endpoint.answers["/msi/token"] = http(200, {**_RESPONSE, "access_token": "another"})

        assert (await entra.token(_RESOURCE)).reveal() == _TOKEN
        assert (await entra.token(_RESOURCE, fresh=True)).reveal() == "another"
        assert (await entra.token(_RESOURCE)).reveal() == "another"


async def _token_of_credential(entra: Entra) -> str:
    """Get a token as the SDK for Azure Resource Manager does."""
    return (await entra.credential.get_token("https://management.azure.com/.default")).token


async def test_a_fresh_token_does_not_disturb_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several hubs and all clusters need tokens at once; a hub that needs a fresh one must not delay the others."""
    slowly = (http(200, _RESPONSE)[:20], http(200, _RESPONSE)[20:])
    async with _entra(slowly, monkeypatch) as (entra, _):
        asked = [entra.token(f"api://{number}", fresh=number % 3 == 0) for number in range(30)]
        used_directly = asyncio.create_task(_token_of_credential(entra))

        assert [token.reveal() for token in await asyncio.gather(*asked)] == [_TOKEN] * 30
        assert await used_directly == _TOKEN


async def test_concurrent_requests_for_a_fresh_token_share_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _entra(http(200, _RESPONSE), monkeypatch) as (entra, endpoint):
        await asyncio.gather(*(entra.token(_RESOURCE, fresh=True) for _ in range(10)))
        endpoint.answers["/msi/token"] = http(403)

        failures = await asyncio.gather(*(entra.token("r") for _ in range(2)), return_exceptions=True)

    assert len(endpoint.requests) == 2
    assert failures[0] is not failures[1], "each raises its own: a traceback grows each time that it is raised"


async def test_a_fresh_token_is_not_one_that_was_requested_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _entra(http(200, _RESPONSE), monkeypatch) as (entra, endpoint):
        await asyncio.gather(entra.token(_RESOURCE), entra.token(_RESOURCE, fresh=True))

    assert len(endpoint.requests) == 2


async def test_a_token_is_kept_for_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the SDK knows when it ends. This one has ended."""
    async with _entra(http(200, {**_RESPONSE, "expires_on": "1000000000"}), monkeypatch) as (entra, endpoint):
        for _ in range(2):
            await entra.token(_RESOURCE)
        assert len(endpoint.requests) == 1
        _let_pass(timedelta(seconds=31), monkeypatch)
        await entra.token(_RESOURCE)
        assert len(endpoint.requests) == 2


async def _wait_for_requests(endpoint: CannedServer, count: int) -> None:
    while len(endpoint.requests) < count:  # noqa: ASYNC110 - a canned server has no event for it
        await asyncio.sleep(0.01)


def _let_pass(delay: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    earlier = loop.time
    monkeypatch.setattr(loop, "time", lambda: earlier() + delay.total_seconds())


@pytest.mark.parametrize(("first", "requests"), [((None,), 1), ((b"", http(500)), 2)], ids=["itself", "another's"])
async def test_a_request_that_hangs_is_not_shared_with_later_callers(
    monkeypatch: pytest.MonkeyPatch, first: tuple[bytes | None, ...], requests: int
) -> None:
    async with _entra(first, monkeypatch) as (entra, endpoint):
        hanging = asyncio.create_task(entra.token(_RESOURCE))
        await _wait_for_requests(endpoint, 1)
        endpoint.answers["/msi/token"] = (None,)
        await _wait_for_requests(endpoint, requests)
        _let_pass(timedelta(seconds=31), monkeypatch)
        with pytest.raises(EntraUnavailable):
            await hanging
        await asyncio.sleep(0.05)
        endpoint.answers["/msi/token"] = http(200, _RESPONSE)
        async with asyncio.timeout(20):
            assert (await entra.token(_RESOURCE)).reveal() == _TOKEN


async def test_a_request_ends_with_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _entra((None,), monkeypatch) as (entra, endpoint):
        hanging = asyncio.create_task(entra.token(_RESOURCE))
        await _wait_for_requests(endpoint, 1)
        await entra.close()
        async with asyncio.timeout(20):
            await asyncio.wait([hanging])
    assert hanging.cancelled()


@pytest.mark.parametrize(
    "answer",
    [
        http(
            400, {"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found for specified X."}
        ),
        http(403, {"message": f"You sent {_TOKEN}"}),
        http(404, b"<html>", Content_Type="text/html"),
    ],
    ids=["not assigned", "echoes the token", "another server"],
)
async def test_a_refusal_is_entra_denied_with_its_remedy(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = await _fail(answer, monkeypatch)

    assert type(failure) is EntraDenied
    assert f"az ad sp show --id {_RESOURCE}" in failure.remedy


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(500, b"broken"), id="broken"),
        pytest.param(http(200, _without("resource")), id="no resource"),
        pytest.param(http(200, _without("expires_on")), id="no expiry"),
        pytest.param(http(200, _without("access_token")), id="no token"),
        pytest.param(http(200, {**_RESPONSE, "access_token": None}), id="null for a token"),
        pytest.param(http(200, {**_RESPONSE, "access_token": 7}), id="a number for a token"),
        pytest.param(http(200, {**_RESPONSE, "access_token": ""}), id="an empty token"),
        pytest.param(http(200, {**_RESPONSE, "access_token": "canary\r\nX: y"}), id="a header in the token"),
        pytest.param(http(200, {**_RESPONSE, "expires_on": "soon"}), id="a word for an expiry"),
        pytest.param(http(200, {**_RESPONSE, "expires_on": None}), id="null for an expiry"),
        pytest.param(http(200, {**_RESPONSE, "expires_on": [1]}), id="a list for an expiry"),
        pytest.param(http(200, {**_RESPONSE, "expires_on": 1e400}), id="an infinite expiry"),
        pytest.param(http(200, {**_RESPONSE, "resource": 7}), id="a number for a resource"),
        *(pytest.param(response, id=case) for case, response in MALFORMED.items()),
    ],
)
async def test_a_malformed_response_is_entra_unavailable(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(await _fail(answer, monkeypatch)) is EntraUnavailable


@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect_is_not_followed(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other server would have answered, and would have got the header that opens the endpoint."""
    async with serve_canned(None, {"/elsewhere": http(200, _RESPONSE)}) as elsewhere:
        away = http(status, b"", Location=f"http://{elsewhere.host}/elsewhere")
        assert type(await _fail(away, monkeypatch)) is EntraUnavailable
    assert elsewhere.requests == []


async def test_a_throttling_endpoint_is_left_alone_for_as_long_as_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would sleep for that time, and every caller would ask again."""
    async with _entra(http(429, b"slow down", Retry_After="30"), monkeypatch) as (entra, endpoint):
        for _ in range(2):
            with pytest.raises(EntraThrottled) as raised:
                await entra.token(_RESOURCE)
            assert timedelta(seconds=29) < (raised.value.retry_after or timedelta()) <= timedelta(seconds=30)
        assert len(endpoint.requests) == 1
        endpoint.answers["/msi/token"] = http(200, _RESPONSE)
        _let_pass(timedelta(seconds=31), monkeypatch)
        assert (await entra.token(_RESOURCE)).reveal() == _TOKEN
        endpoint.answers["/msi/token"] = http(429, b"slow down")
        for _ in range(2):
            with pytest.raises(EntraThrottled) as raised:
                await entra.token(_RESOURCE, fresh=True)
        assert timedelta() < (raised.value.retry_after or timedelta()) <= timedelta(seconds=5)
        assert (await entra.token(_RESOURCE)).reveal() == _TOKEN, "it is there already"


async def test_a_throttling_endpoint_is_asked_again_after_a_minute_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may ask for an hour, in which every secret would expire."""
    async with _entra(http(429, b"slow down", Retry_After="3600"), monkeypatch) as (entra, _):
        with pytest.raises(EntraThrottled):
            await entra.token(_RESOURCE)
        with pytest.raises(EntraThrottled) as raised:
            await entra.token(_RESOURCE)
    assert timedelta(seconds=55) < (raised.value.retry_after or timedelta()) <= timedelta(minutes=1)


async def test_a_token_in_the_cache_does_not_hide_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint gave one for another resource earlier, and fails for all of them now."""
    async with _entra(http(200, {**_RESPONSE, "resource": AKS}), monkeypatch) as (entra, endpoint):
        await entra.token(AKS)
        endpoint.answers["/msi/token"] = http(500, {"statusCode": 500, "message": "An unexpected error occured"})

        with pytest.raises(EntraUnavailable):
            await entra.token(_RESOURCE)
        asked = len(endpoint.requests)
        with pytest.raises(EntraUnavailable):
            await entra.token(AKS, fresh=True)
        assert len(endpoint.requests) == asked + 1, "there is no other resource to compare it with"
        endpoint.answers["/msi/token"] = http(503)
        with pytest.raises(EntraUnavailable):
            await entra.token(_RESOURCE)
        assert len(endpoint.requests) == asked + 2, "only 500 is the answer to an unknown resource"


@pytest.mark.parametrize("other", [http(200, _without("resource")), http(429)], ids=["malformed", "throttled"])
async def test_an_outage_is_one_whatever_another_resource_gets(monkeypatch: pytest.MonkeyPatch, other: bytes) -> None:
    async with _entra((b"", http(500)), monkeypatch) as (entra, endpoint):
        asked = asyncio.create_task(entra.token(_RESOURCE))
        await _wait_for_requests(endpoint, 1)
        endpoint.answers["/msi/token"] = other
        with pytest.raises(EntraUnavailable) as raised:
            await asked
    assert type(raised.value) is EntraUnavailable


async def test_an_endpoint_that_is_down_is_entra_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_canned(None, {}) as endpoint:
        pass
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{endpoint.host}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    entra = Entra(lambda: ManagedIdentityCredential(retry_total=0))
    with pytest.raises(EntraUnavailable):
        await entra.token(_RESOURCE)
    await entra.close()


def _jwt(payload: Any) -> str:
    return f"eyJ.{base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b'=').decode()}.x"


def test_claims_of_a_token() -> None:
    token = _jwt({"oid": "5f2a", "iss": "https://sts.windows.net/t/", "aud": ["a"], "tid": "t", "canary": "x"})

    assert claims(EntraToken(token)) == {"oid": "5f2a", "iss": "https://sts.windows.net/t/", "aud": "['a']", "tid": "t"}


@given(payload=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3))
def test_a_payload_of_another_shape_has_no_claims(payload: Any) -> None:
    assert claims(EntraToken(_jwt(payload))) == {}


@given(text=st.text())
def test_a_text_that_is_no_token_has_no_claims(text: str) -> None:
    assert [claims(EntraToken(part)) for part in (text, f"a.{text}", f"a.{text}.c")] == [{}] * 3
