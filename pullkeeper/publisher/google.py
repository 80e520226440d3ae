"""The two calls to Google, exchange (STS) and impersonation (IAM), and what their error responses mean.

google-auth makes the calls. By itself it hides the HTTP status, follows redirects, reads without limit and quotes whole
bodies in its exceptions; so it gets a transport that checks every response first and raises our failure categories.
Error bodies: https://docs.cloud.google.com/iam/docs/troubleshooting-workload-identity-federation, and live ones.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import requests
from google.auth import exceptions, identity_pool, transport
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from pullkeeper import errors, telemetry
from pullkeeper.errors import ClockSkew, GoogleError, GoogleThrottled, GoogleUnavailable
from pullkeeper.publisher.hub import Hub
from pullkeeper.tokens import EntraToken, Token, is_token

TIMEOUT: Final = 10.0
"""In seconds, for each of the two calls."""
_LONGEST_ANSWER: Final = 64 * 1024
_LARGEST_SKEW: Final = timedelta(minutes=1)
_OK: Final = 200
_LATER: Final = frozenset({408, 425, 429})
"""The statuses from 400 to 499 that a retry can help. The others would be refused again."""

# STS's `error`, a part of its `error_description`, and what that means. The first row that fits counts.
_EXCHANGE: Final[tuple[tuple[str, str, type[GoogleError]], ...]] = (
    ("invalid_grant", "The audience in ID Token", errors.FederationAudience),
    ("invalid_grant", "The issuer in ID Token", errors.FederationIssuer),
    ("invalid_grant", "is stale to sign-in", errors.FederationStale),
    ("invalid_grant", "", errors.FederationToken),
    ("invalid_target", "", errors.FederationProvider),
    ("invalid_request", "audience", errors.FederationProvider),
    ("unauthorized_client", "", errors.FederationCondition),
)
# Of both calls: the HTTP status, the reason in the details (any: ""), a part of `error.message`, and what that means.
_API: Final[tuple[tuple[int, str, str, type[GoogleError]], ...]] = (
    (403, "SERVICE_DISABLED", "", errors.GoogleApiDisabled),
    (403, "", "vpcServiceControlsUniqueIdentifier", errors.GooglePerimeterDenied),
    (403, "", "iam.serviceAccounts.getAccessToken", errors.ImpersonationDenied),
    (404, "", "", errors.ServiceAccountMissing),
    (400, "", "allowServiceAccountCredentialLifetimeExtension", errors.LifetimeNotAllowed),
)
_SERVICE: Final = re.compile(r"[a-z]{1,63}\.googleapis\.com")
_CONSUMER: Final = re.compile(r"projects/([a-z0-9-]{1,63})")


def exchange(hub: Hub, entra_token: EntraToken, now: datetime, limit: float) -> Token:
    """Exchange an Entra token and impersonate the hub's service account. Without a service account, return the
    federated token itself. Blocks: run it in a thread. Raises GoogleError, with the call's address (`url`) as context.

    now: the time of this machine. Where Google's differs, the token's life is counted on Google's clock, and
    `clock.skewed` is emitted. limit: in seconds, for both calls together; each takes TIMEOUT at most.
    """
    config = hub.credential_config
    # A new object each time: google-auth caches the federated token in it.
    credentials = identity_pool.Credentials(
        audience=config.audience,
        subject_token_type=config.subject_token_type,
        token_url=config.token_url,
        subject_token_supplier=_Supplier(entra_token),
        service_account_impersonation_url=config.service_account_impersonation_url,
        service_account_impersonation_options={"token_lifetime_seconds": int(hub.life.total_seconds())},
        scopes=[hub.scope],
    )
    malformed, began = None, time.monotonic()
    try:
        with requests.Session() as session:
            call = _Transport(session, began + limit)
            credentials.refresh(call)
    except (exceptions.GoogleAuthError, *errors.MALFORMED) as e:
        malformed = type(e).__name__
    # Raised out here: these quote the response, which may contain a token, and even a suppressed context keeps them.
    if malformed:
        raise GoogleUnavailable(f"Google's response is malformed ({malformed})", {"url": call.url})
    token, expiry = credentials.token, credentials.expiry
    if not is_token(token) or not expiry:
        raise GoogleUnavailable("Google's response has no token", {"url": call.url})
    # google-auth's expiry is naive UTC: IAM's own, or, for a federated token, counted from the machine's clock.
    since = (call.date or now) if config.service_account_impersonation_url else datetime.now(UTC)
    if call.date:
        _report_skew(now + timedelta(seconds=time.monotonic() - began) - call.date)
    # A longer life than was requested would mean a wrong clock.
    life = min(expiry.replace(tzinfo=UTC) - since, hub.life)
    if life <= timedelta():
        raise GoogleUnavailable("Google's response has an expired token", {"url": call.url})
    return Token(token, now, now + life)


def _report_skew(ahead: timedelta) -> None:
    """Emit a warning. ahead: of Google's clock; the date in a response has no fractions of a second."""
    if abs(ahead) <= _LARGEST_SKEW:
        return
    seconds = round(ahead.total_seconds())
    side = "ahead of" if seconds > 0 else "behind"
    warning = ClockSkew(f"the clock of this machine is {abs(seconds)} s {side} Google's")
    event = {"category": warning.category, "detail": warning.detail, "remedy": warning.remedy}
    telemetry.emit("clock.skewed", event, logging.WARNING)


def map_refusal(status: int, body: bytes, headers: Mapping[str, str]) -> GoogleError | errors.InternalError:
    """Translate a response other than 200: `{"error", "error_description"}` of STS, `{"error": {"code", "message",
    "status", "details"}}` of IAM and of the front end of both, and anything that a load balancer may send.
    """
    text = body.decode(errors="replace")
    try:
        answer: Any = json.loads(text)
    except (ValueError, RecursionError):
        answer = {}
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, str):
        description = str(answer.get("error_description", ""))
        for known, part, kind in _EXCHANGE:
            if error == known and part in description:
                return kind(description)
    if isinstance(error, dict):
        message, info = str(error.get("message", "")), _find_error_info(error)
        for code, reason, part, kind in _API:
            if status == code and reason in ("", info.get("reason")) and part in message:
                return kind(message, _name_api(info))
    permanent = 400 <= status < 500 and status not in _LATER  # noqa: PLR2004 - the client's fault
    by_status = GoogleThrottled if status == HTTPStatus.TOO_MANY_REQUESTS else GoogleUnavailable
    return (errors.InternalError if permanent else by_status)(
        f"HTTP {status} {text}", retry_after=errors.parse_retry_after(headers)
    )


def _find_error_info(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the detail with a reason: google.rpc.ErrorInfo, whose form is `{"reason", "domain", "metadata"}`."""
    details = error.get("details")
    found = details if isinstance(details, list) else []
    return next((detail for detail in found if isinstance(detail, dict) and "reason" in detail), {})


def _name_api(info: Mapping[str, Any]) -> dict[str, str]:
    """Return service and project, for the remedy's command: nothing else in the response may get into a shell."""
    metadata = info.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    service, consumer = _SERVICE.fullmatch(str(names.get("service"))), _CONSUMER.fullmatch(str(names.get("consumer")))
    return {**({"service": service[0]} if service else {}), **({"consumer": consumer[1]} if consumer else {})}


class _Supplier(identity_pool.SubjectTokenSupplier):
    """Gives google-auth the Entra token: the source that the credential configuration names is never opened."""

    def __init__(self, token: EntraToken) -> None:
        self._token = token

    def get_subject_token(self, context: object, request: object) -> str:  # noqa: ARG002 - google-auth's signature
        return self._token.reveal()


class _Transport(transport.Request):
    """One POST, without redirects and with limits of time and size. Raises a failure category for anything but 200.

    url: of the last call. date: of its response, on Google's clock; None if it had none.
    """

    def __init__(self, session: requests.Session, until: float) -> None:
        """until: the end of the last call, on the monotonic clock."""
        self.url = ""
        self.date: datetime | None = None
        self._session = session
        self._until = until

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - google-auth sets none
        **_: object,
    ) -> "_Answer":
        self.url, host = url, url.split("/")[2]
        seconds = min(TIMEOUT, self._until - time.monotonic())
        if seconds <= 0:
            raise GoogleUnavailable(f"{host}: no time is left for the call", {"url": url})
        broken = None
        try:
            with self._session.request(
                method,
                url,
                data=body,
                # One call a connection: urllib3 closes a kept one at garbage collection, which a traceback delays.
                headers={**(headers or {}), "Connection": "close"},
                auth=lambda prepared: prepared,  # else a password of netrc would replace our header
                timeout=seconds,
                allow_redirects=False,
                stream=True,
            ) as answer:
                data = _read(answer.raw, time.monotonic() + seconds)
        except (HTTPError, OSError) as e:  # those of requests are OSErrors
            broken = type(e).__name__
        # Raised out here, because the context would keep the request, token and all.
        if broken:
            raise GoogleUnavailable(f"{host}: {broken}", {"url": url})
        if answer.status_code != _OK:
            raise map_refusal(answer.status_code, data, answer.headers).with_context(url=url)
        if len(data) > _LONGEST_ANSWER:
            raise GoogleUnavailable(f"{host}: a response of more than {_LONGEST_ANSWER} bytes", {"url": url})
        self.date = _parse_date(answer.headers)
        return _Answer(answer.status_code, answer.headers, data)


def _parse_date(headers: Mapping[str, str]) -> datetime | None:
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return date if date.tzinfo else None


def _read(raw: HTTPResponse, until: float) -> bytes:
    """Read a little more than the longest answer at most. `until` is needed because a socket's time-out starts again
    with every byte: a server that sends them one by one would hold the thread.
    """
    data = b""
    while len(data) <= _LONGEST_ANSWER and (part := raw.read1(_LONGEST_ANSWER, decode_content=True)):
        data += part
        if time.monotonic() > until:
            raise TimeoutError
    return data


class _Answer(transport.Response):
    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self._status, self._headers, self._data = status, headers, data

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    @property
    def data(self) -> bytes:
        return self._data
