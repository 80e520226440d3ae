"""The two calls to Google, and the only place that knows Google's answers: exchange (STS) and impersonation (IAM).

google-auth makes the calls. On its own it hides the HTTP status, follows redirects, reads without limit and quotes
whole bodies in its exceptions; so it is given a transport that looks at every answer first and raises what the rest
of Pullkeeper understands.
Error bodies: https://docs.cloud.google.com/iam/docs/troubleshooting-workload-identity-federation, and live ones.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import requests
from google.auth import exceptions, identity_pool, transport

from pullkeeper import errors
from pullkeeper.errors import GoogleError, GoogleUnavailable
from pullkeeper.model import Hub
from pullkeeper.tokens import Token

_TIMEOUT: Final = 10.0
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


def exchange(hub: Hub, entra_token: str, now: datetime) -> Token:
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
    try:
        with requests.Session() as session:
            credentials.refresh(_Transport(session))
    except (exceptions.GoogleAuthError, ValueError, TypeError, KeyError) as e:
        # Not chained: these quote the answer, and the answer may hold a token.
        raise GoogleUnavailable(f"Google's answer made no sense ({type(e).__name__})") from None
    token, expiry = credentials.token, credentials.expiry
    if not token or not expiry:
        raise GoogleUnavailable("Google's answer held no token")
    # google-auth's expiry is naive UTC. Never believe in a longer life than was asked for: that would be a wrong clock.
    return Token(token, now, min(expiry.replace(tzinfo=UTC), now + hub.life))


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

    def __init__(self, token: str) -> None:
        self._token = token

    def get_subject_token(self, context: object, request: object) -> str:  # noqa: ARG002 - google-auth's signature
        return self._token


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
        try:
            with self._session.request(
                method,
                url,
                data=body,
                headers=dict(headers or {}),
                timeout=timeout or _TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as answer:
                data = answer.raw.read(_LONGEST_ANSWER + 1, decode_content=True)
        except (requests.RequestException, OSError) as e:
            raise GoogleUnavailable(f"{url.split('/')[2]}: {type(e).__name__}") from None
        if answer.status_code != _OK:
            raise refusal(answer.status_code, data, answer.headers)
        if len(data) > _LONGEST_ANSWER:
            raise GoogleUnavailable(f"{url.split('/')[2]}: an answer of more than {_LONGEST_ANSWER} bytes")
        return _Answer(answer.status_code, answer.headers, data)


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
