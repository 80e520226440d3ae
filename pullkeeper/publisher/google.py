"""The two calls to Google, and the only place that knows Google's answers: exchange (STS) and impersonation (IAM).

google-auth makes the calls. On its own it hides the HTTP status, follows redirects, reads without limit and quotes
whole bodies in its exceptions; so it is given a transport that looks at every answer first and raises what the rest
of Pullkeeper understands.
Error bodies: https://docs.cloud.google.com/iam/docs/troubleshooting-workload-identity-federation, and live ones.
"""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import requests
from google.auth import exceptions, identity_pool, transport
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from pullkeeper import errors
from pullkeeper.errors import GoogleError, GoogleUnavailable
from pullkeeper.model import Hub
from pullkeeper.tokens import EntraToken, Token, is_token

_TIMEOUT: Final = 10.0
"""In seconds, for each wait and for the whole of an answer."""
_LONGEST_ANSWER: Final = 64 * 1024
_OK: Final = 200
_LATER: Final = frozenset({408, 425, 429})
"""Of 400 to 499, those that another try can help. The others stay what they are however often one asks."""

# STS's `error`, a part of its `error_description`, and what that means. The first that fits counts.
_EXCHANGE: Final[tuple[tuple[str, str, type[GoogleError]], ...]] = (
    ("invalid_grant", "The audience in ID Token", errors.FederationAudience),
    ("invalid_grant", "The issuer in ID Token", errors.FederationIssuer),
    ("invalid_grant", "is stale to sign-in", errors.FederationStale),
    ("invalid_grant", "", errors.FederationToken),
    ("invalid_target", "", errors.FederationProvider),
    ("invalid_request", "audience", errors.FederationProvider),
    ("unauthorized_client", "", errors.FederationCondition),
)
# IAM's HTTP status, a part of its `error.message`, and what that means.
_IMPERSONATION: Final[tuple[tuple[int, str, type[GoogleError]], ...]] = (
    (403, "", errors.ImpersonationDenied),
    (404, "", errors.ServiceAccountMissing),
    (400, "allowServiceAccountCredentialLifetimeExtension", errors.LifetimeNotAllowed),
)


def exchange(hub: Hub, entra_token: EntraToken, now: datetime) -> Token:
    """Exchange an Entra token and impersonate the hub's service account; where it names none, the federated token
    itself is the answer. Blocks: run it in a thread. Raises GoogleError of every category.

    A new credentials object each time: google-auth keeps the federated token in it and would not ask again.
    """
    config = hub.credential_config
    credentials = identity_pool.Credentials(
        audience=config.audience,
        subject_token_type=config.subject_token_type,
        token_url=config.token_url,
        subject_token_supplier=_Supplier(entra_token),
        service_account_impersonation_url=config.service_account_impersonation_url,
        service_account_impersonation_options={"token_lifetime_seconds": hub.token_lifetime},
        scopes=[hub.scope],
    )
    nonsense = None
    try:
        with requests.Session() as session:
            credentials.refresh(_Transport(session))
    except (exceptions.GoogleAuthError, *errors.NONSENSE) as e:
        nonsense = type(e).__name__
    # Raised out here: these quote the answer, which may hold a token, and even a suppressed context would keep them.
    if nonsense:
        raise GoogleUnavailable(f"Google's answer made no sense ({nonsense})")
    token, expiry = credentials.token, credentials.expiry
    if not is_token(token) or not expiry:
        raise GoogleUnavailable("Google's answer held no token")
    # google-auth's expiry is naive UTC: as IAM said it, or, for a federated token, counted from the machine's clock.
    since = now if config.service_account_impersonation_url else datetime.now(UTC)
    # Never believe in a longer life than was asked for: that would be a wrong clock.
    life = min(expiry.replace(tzinfo=UTC) - since, hub.life)
    if life <= timedelta():
        raise GoogleUnavailable("Google's answer held a token that has expired")
    return Token(token, now, now + life)


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> GoogleError | errors.InternalError:
    """What an answer other than 200 means. STS answers `{"error", "error_description"}`, IAM `{"error": {"code",
    "message", "status"}}`; load balancers in front of both answer anything.
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
        message = str(error.get("message", ""))
        for code, part, kind in _IMPERSONATION:
            if status == code and part in message:
                return kind(message)
    refused = 400 <= status < 500 and status not in _LATER  # noqa: PLR2004 - the client's fault
    return (errors.InternalError if refused else GoogleUnavailable)(
        f"HTTP {status} {text}", retry_after=errors.wait_asked(headers)
    )


class _Supplier(identity_pool.SubjectTokenSupplier):
    """google-auth asks for the subject token; nothing else of the credential configuration's source is used."""

    def __init__(self, token: EntraToken) -> None:
        self._token = token

    def get_subject_token(self, context: object, request: object) -> str:  # noqa: ARG002 - google-auth's signature
        return self._token.reveal()


class _Transport(transport.Request):
    """One POST: no redirects, no endless answers, a time-out, and a typed error for anything but 200."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> "_Answer":
        host = url.split("/")[2]
        broken = None
        try:
            with self._session.request(
                method,
                url,
                data=body,
                # Two calls to two hosts: nothing would use a connection again, and urllib3 closes a kept one only when
                # it is garbage, which a refusal with its traceback puts off.
                headers={**(headers or {}), "Connection": "close"},
                timeout=timeout or _TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as answer:
                data = _read(answer.raw)
        except (requests.RequestException, HTTPError, OSError) as e:
            broken = type(e).__name__
        # Raised out here, because the context would keep the request, token and all.
        if broken:
            raise GoogleUnavailable(f"{host}: {broken}")
        if answer.status_code != _OK:
            raise refusal(answer.status_code, data, answer.headers)
        if len(data) > _LONGEST_ANSWER:
            raise GoogleUnavailable(f"{host}: an answer of more than {_LONGEST_ANSWER} bytes")
        return _Answer(answer.status_code, answer.headers, data)


def _read(raw: HTTPResponse) -> bytes:
    """A little more than the longest answer at most. The time-out of a socket begins anew with every byte: a server
    that sends them one by one would hold a thread for as long as it likes.
    """
    data = b""
    until = time.monotonic() + _TIMEOUT
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
