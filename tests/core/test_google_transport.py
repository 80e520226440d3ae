"""Whatever Google responds, the outcome is a token or a GoogleError, and no error contains a token."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from local.serving import Authority
from pullkeeper import errors
from pullkeeper.publisher import google
from pullkeeper.publisher.hub import Hub
from pullkeeper.tokens import EntraToken, Token
from tests.core.canned import ANY_PATH, MALFORMED, CannedServer, http, serve_canned
from tests.core.failures import everything
from tests.core.hostile import cases
from tests.core.publisher import PROVIDER, SERVICE_ACCOUNT, credential_config, hub

_STS = "/v1/token"
_IAM = f"/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateAccessToken"
_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_SUBJECT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnktc3ViamVjdCJ9.canarysubject"
_FEDERATED = "ya29.d.canary-federated"
_TOKEN = "ya29.c.canary-token"
_GOOD = json.dumps({"access_token": _FEDERATED, "token_type": "Bearer", "expires_in": 3599}).encode()
_EXCHANGED = http(200, gzip.compress(_GOOD), Content_Encoding="gzip")  # as Google does
_MINTED = http(200, {"accessToken": _TOKEN, "expireTime": "2026-01-01T13:00:00Z"})


def _hub(server: CannedServer, *, impersonate: bool = True, **changes: Any) -> Hub:
    document = credential_config(
        token_url=f"https://{server.host}{_STS}",
        service_account_impersonation_url=f"https://{server.host}{_IAM}" if impersonate else None,
    )
    return Hub.parse(hub(credentialConfig=document, **changes), trusted_hosts=frozenset({server.host}))


async def _exchange(hub: Hub, now: datetime = _NOW) -> Token:
    return await asyncio.to_thread(google.exchange, hub, EntraToken(_SUBJECT), now, google.TIMEOUT)


async def _fail(hub: Hub, kind: type[errors.PullkeeperError] = errors.GoogleUnavailable) -> str:
    with pytest.raises(errors.PullkeeperError) as raised:
        await _exchange(hub)
    assert type(raised.value) is kind
    assert "canary" not in everything(raised.value)
    assert raised.value.context["url"].endswith((_STS, _IAM)), "a diagnosis tells the two calls apart by it"
    return raised.value.detail


async def test_a_mint_is_one_exchange_and_one_impersonation(authority: Authority) -> None:
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: _MINTED}) as server:
        token = await _exchange(_hub(server, tokenLifetime=1800))

    exchange, impersonation = server.requests
    assert parse_qs(exchange.body.decode()) == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "audience": [PROVIDER],
        "scope": ["https://www.googleapis.com/auth/iam"],
        "requested_token_type": ["urn:ietf:params:oauth:token-type:access_token"],
        "subject_token": [_SUBJECT],
        "subject_token_type": ["urn:ietf:params:oauth:token-type:jwt"],
    }
    assert impersonation.headers["authorization"] == f"Bearer {_FEDERATED}"
    assert json.loads(impersonation.body) == {
        "delegates": None,
        "scope": ["https://www.googleapis.com/auth/cloud-platform.read-only"],
        "lifetime": "1800s",
    }
    assert (token.reveal(), token.issued_at, token.life) == (_TOKEN, _NOW, timedelta(minutes=30))


async def test_each_mint_makes_its_own_calls(authority: Authority) -> None:
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: _MINTED}) as server:
        await _exchange(_hub(server))
        await _exchange(_hub(server))

    assert [asked.path for asked in server.requests] == [_STS, _IAM, _STS, _IAM]
    assert {asked.headers["connection"] for asked in server.requests} == {"close"}, "a kept one would stay open"


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(days=400), timedelta(days=-400)])
async def test_without_an_impersonation_url_the_federated_token_is_used(authority: Authority, ahead: timedelta) -> None:
    """Its life is counted on the injected clock, not on the machine's."""
    now = datetime.now(UTC) + ahead
    async with serve_canned(authority, {_STS: _EXCHANGED}) as server:
        token = await _exchange(_hub(server, impersonate=False), now)

    assert parse_qs(server.requests[0].body.decode())["scope"] == [
        "https://www.googleapis.com/auth/cloud-platform.read-only"
    ]
    assert token.reveal() == _FEDERATED
    assert timedelta(seconds=3590) < token.life <= timedelta(seconds=3600)


@pytest.mark.parametrize("scheme", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", [_STS, _IAM])
async def test_a_redirect_is_not_followed(authority: Authority, scheme: int, path: str) -> None:
    """A server that redirects would get the token."""
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: _MINTED, "/evil": _MINTED}) as elsewhere:
        away = http(scheme, b"", Location=f"https://{elsewhere.host}/evil")
        async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: _MINTED, path: away, "/evil": _MINTED}) as server:
            detail = await _fail(_hub(server))

    assert f"HTTP {scheme}" in detail
    assert elsewhere.requests == []


def _chunked(*chunks: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


_BROKEN = MALFORMED | {
    "a long number": http(200, b"9" * 60_000),
    "half of it": http(200, _GOOD[:-5]),
    "shorter than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n" + _GOOD[:-5],
    "more than 64 KiB": http(200, b'{"canary": "' + b"x" * 65536 + b'"}'),
    "endless chunks": _chunked(*[b" " * 4096] * 20, _GOOD),
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ncanary\r\n",
    "a bomb": http(200, gzip.compress(b" " * 50_000_000 + _GOOD), Content_Encoding="gzip"),
    "no gzip at all": http(200, b"canary" * 50, Content_Encoding="gzip"),
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X-Canary: canary\r\n" * 500 + b"\r\n",
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"canary" * 20_000 + b"\r\n\r\n",
    "another version": b"HTTP/3.0 999 canary\r\n\r\n",
}


@pytest.mark.parametrize("path", [_STS, _IAM])
@pytest.mark.parametrize("case", _BROKEN)
async def test_a_broken_response_is_google_unavailable(authority: Authority, case: str, path: str) -> None:
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: _MINTED, path: _BROKEN[case]}) as server:
        assert "has no token" not in await _fail(_hub(server)), "the detail says what is wrong with it"


@pytest.mark.parametrize("answer", cases("token exchanges"))
async def test_an_exchange_without_a_valid_token_is_google_unavailable(authority: Authority, answer: Any) -> None:
    async with serve_canned(authority, {_STS: http(200, answer)}) as server:
        await _fail(_hub(server, impersonate=False))


@pytest.mark.parametrize("answer", cases("impersonations"))
async def test_an_impersonation_without_a_valid_token_is_google_unavailable(authority: Authority, answer: Any) -> None:
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: http(200, answer)}) as server:
        await _fail(_hub(server))


async def test_a_longer_life_than_requested_is_cut(authority: Authority) -> None:
    minted = http(200, {"accessToken": _TOKEN, "expireTime": "2030-01-01T00:00:00Z"})
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: minted}) as server:
        token = await _exchange(_hub(server))

    assert token.life == timedelta(hours=1)


@pytest.mark.parametrize("date", ["Thu, 01 Jan 2026 09:00:00 -0000", "noon"], ids=["no zone", "no date"])
async def test_a_date_that_is_no_time_does_not_count(authority: Authority, date: str) -> None:
    minted = http(200, {"accessToken": _TOKEN, "expireTime": "2026-01-01T12:30:00Z"}, Date=date)
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: minted}) as server:
        assert (await _exchange(_hub(server))).life == timedelta(minutes=30)


@pytest.mark.parametrize(
    "slow",
    [
        pytest.param((None,), id="never answers"),
        pytest.param((b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", _GOOD[:20], None), id="stops half way"),
        pytest.param((b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", *[b" "] * 400), id="byte by byte"),
    ],
)
async def test_a_slow_response_ends_with_the_time_out(
    authority: Authority, slow: tuple[bytes | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "TIMEOUT", 0.4)
    async with serve_canned(authority, {_STS: slow}) as server, asyncio.timeout(5):
        detail = await _fail(_hub(server))

    assert detail.startswith(server.host)


async def test_without_time_no_call_is_made(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google, "TIMEOUT", 0.0)
    async with serve_canned(authority, {_STS: _EXCHANGED}) as server:
        assert await _fail(_hub(server)) == f"{server.host}: no time is left for the call"


async def test_an_endless_response_is_read_up_to_the_limit(authority: Authority) -> None:
    endless = (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b" " * 70_000, None)
    async with serve_canned(authority, {_STS: endless}) as server, asyncio.timeout(5):
        detail = await _fail(_hub(server))

    assert detail == f"{server.host}: a response of more than 65536 bytes"


async def test_a_response_in_pieces_is_read_whole(authority: Authority) -> None:
    pieces = (_chunked(_GOOD[:10], _GOOD[10:])[:150], _chunked(_GOOD[:10], _GOOD[10:])[150:])
    async with serve_canned(authority, {_STS: pieces, _IAM: (_MINTED[:40], _MINTED[40:])}, pause=0.1) as server:
        assert (await _exchange(_hub(server))).reveal() == _TOKEN


async def test_a_service_that_is_down_is_google_unavailable(authority: Authority) -> None:
    async with serve_canned(authority, {}) as server:
        pass

    assert await _fail(_hub(server)) == f"{server.host}: ConnectionError"


async def test_a_server_without_a_trusted_certificate_gets_no_token() -> None:
    async with serve_canned(Authority(), {_STS: _EXCHANGED}) as server:
        detail = await _fail(_hub(server))

    assert detail == f"{server.host}: SSLError"
    assert server.requests == []


async def test_google_is_called_by_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_canned(None, {}) as server:
        pass
    async with serve_canned(None, {ANY_PATH: http(503)}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", "")
        await _fail(_hub(server))
    assert {(request.method, request.path) for request in proxy.requests} == {("CONNECT", server.host)}


@pytest.mark.usefixtures("netrc")
async def test_a_password_in_netrc_does_not_replace_the_token(authority: Authority) -> None:
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: _MINTED}) as server:
        await _exchange(_hub(server))
    sent = [request.headers.get("authorization") for request in server.requests]
    assert sent == [None, f"Bearer {_FEDERATED}"]


async def test_a_refusal_has_the_category_of_its_hop(authority: Authority) -> None:
    gone = {"error": "invalid_target", "error_description": f"The target service is invalid. {_SUBJECT}"}
    denied = {"error": {"code": 403, "message": f"'iam.serviceAccounts.getAccessToken' denied to Bearer {_FEDERATED}"}}
    async with serve_canned(authority, {_STS: http(400, gone)}) as server:
        await _fail(_hub(server), errors.FederationProvider)
    async with serve_canned(authority, {_STS: _EXCHANGED, _IAM: http(403, denied)}) as server:
        await _fail(_hub(server), errors.ImpersonationDenied)


async def test_retry_after_is_passed_on(authority: Authority) -> None:
    async with serve_canned(authority, {_STS: http(429, b"slow down", Retry_After="7")}) as server:
        with pytest.raises(errors.GoogleUnavailable) as raised:
            await _exchange(_hub(server))

    assert raised.value.retry_after == timedelta(seconds=7)
