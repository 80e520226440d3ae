"""The app over HTTP: one request at a time, again where that may help, and each failure in plain words."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from urllib3.exceptions import NameResolutionError

from pullkeeper.cli import times
from pullkeeper.cli.failures import CommandFailed, ExitCode, Unavailable
from pullkeeper.errors import MALFORMED

_ADDRESS: Final = re.compile(r"https://[^/\s?#@]+|http://(127\.0\.0\.1|localhost)(:[0-9]+)?")
_CONNECT, _READ = 10, 60  # seconds; an app without instances takes some to start
_PAUSE: Final = 2
_PATIENCE: Final = 10
_RETRIED: Final = frozenset({429, 502, 503, 504})
_GET_KEY: Final = (
    'export PULLKEEPER_KEY=$(az rest --method post --url "$APP_ID/host/default/listKeys?api-version=2023-12-01" '
    "--query functionKeys.default --output tsv)"
)
_RUNNING: Final = "is the app running, and may this network reach it? az functionapp show --ids <function app id>"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the app. document: its JSON object, {} if it has none."""

    status: int
    headers: Mapping[str, str]
    document: Json
    has_body: bool

    @property
    def category(self) -> str | None:
        return self.document.get("category") if self.status >= 400 else None  # noqa: PLR2004 - failures

    @property
    def may_retry(self) -> bool:
        """Whether the same request may succeed later. A 500 without a body is the platform's, when it has lost the
        app's process.
        """
        is_lost = self.status == 500 and not self.has_body  # noqa: PLR2004 - see the docstring
        return (self.status in _RETRIED or is_lost) and self.category != "invalid_request"

    @property
    def retry_after(self) -> int:
        asked = self.headers.get("Retry-After", "")
        return int(asked) if re.fullmatch("[1-9][0-9]?", asked) else _PAUSE


@dataclass(slots=True)
class App:
    """A client of the app at `url`. Raises CommandFailed with what to check; Unavailable if a later try may succeed.

    headers: the credentials. wait: shows that a request waits for its next try. timeout: seconds for a connection, and
    for each part of a response. now: the time of the app's clock at the last response.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    wait: Callable[[str], AbstractContextManager[object]]
    timeout: tuple[float, float] = (_CONNECT, _READ)
    now: datetime = field(init=False, default_factory=times.now)
    _session: requests.Session = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        if not _ADDRESS.fullmatch(self.url):
            raise CommandFailed(
                "the app's address must be https://HOST, without a path",
                ExitCode.USAGE,
                {"example": "https://APP.azurewebsites.net"},
            )
        self._session = requests.Session()
        # Without this, requests would put a password from ~/.netrc in the place of the token.
        self._session.auth = lambda request: request

    def get(self, path: str, **query: str | None) -> Json:
        return self.call("GET", path, query=query).document

    def pages(self, path: str, entries: str, **query: str | None) -> Iterator[Json]:
        """Yield the entries of a list, page after page."""
        continuation: str | None = None
        while True:
            page = self.get(path, **query, continuation=continuation)
            yield from page[entries]
            continuation = page.get("continuation")
            if not continuation:
                return

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        patience: float = _PATIENCE,
    ) -> Response:
        """Send a request, again until `patience` seconds have passed where that may help. path: below /api/."""
        deadline = time.monotonic() + patience
        while True:
            response = self.send(method, path, query=query, body=body)
            pause = response.retry_after
            if not response.may_retry or time.monotonic() + pause >= deadline:
                return self._check(response, path)
            with self.wait(f"the app responded with {response.status}: trying again in {pause} s"):
                time.sleep(pause)

    def send(
        self, method: str, path: str, *, query: Mapping[str, str | None] | None = None, body: bytes | None = None
    ) -> Response:
        """Send a request once, and return whatever the app responds with."""
        wanted = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        url = f"{self.url}/api/{path}" + (f"?{wanted}" if wanted else "")
        headers = {**self.headers, **({"Content-Type": "application/json"} if body is not None else {})}
        try:
            got = self._session.request(
                method, url, data=body, headers=headers, timeout=self.timeout, allow_redirects=False
            )
        except requests.RequestException as e:
            raise self._explain(e) from None
        try:
            document = json.loads(got.content)
        except MALFORMED:
            document = {}
        found = document if isinstance(document, dict) else {}
        self.now = times.parse_date(got.headers.get("Date", "")) or self.now
        return Response(got.status_code, got.headers, found, has_body=bool(got.content))

    def _check(self, response: Response, path: str) -> Response:
        """Raise CommandFailed unless the response is a success of the app."""
        if 200 <= response.status < 300 and response.document:  # noqa: PLR2004 - successes
            return response
        if response.category:
            raise (Unavailable if response.may_retry else CommandFailed).of_problem(response.document)
        if response.may_retry:
            raise Unavailable(
                f"the app cannot respond at the moment (HTTP {response.status})", hints={"check": _RUNNING}
            )
        match response.status:
            case 401 | 403:
                hints = {
                    "key": _GET_KEY,
                    "token": "export PULLKEEPER_AUDIENCE=api://APP, if the app makes its callers sign in",
                }
                raise CommandFailed(f"the app refuses the key or the token (HTTP {response.status})", hints=hints)
            case 404:
                hints = {"check": "is the address right, and the app as new as this command line? pullkeeper check"}
                raise CommandFailed(f"the app has no route /api/{path}", hints=hints)
            case status if 300 <= status < 400:  # noqa: PLR2004 - redirects
                hints = {"check": "if the app makes its callers sign in: export PULLKEEPER_AUDIENCE=api://APP"}
                raise CommandFailed(f"the app's address redirects (HTTP {status})", hints=hints)
        hints = {"check": f"is {self.url} the address of the app?"}
        raise CommandFailed(f"the response is none of Pullkeeper's (HTTP {response.status})", hints=hints)

    def _explain(self, error: requests.RequestException) -> Unavailable:
        host = urlsplit(self.url).hostname
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        if isinstance(error, requests.exceptions.ProxyError):
            return Unavailable(
                "the proxy does not let the request through", hints={"check": "HTTPS_PROXY and NO_PROXY"}
            )
        if isinstance(error, requests.exceptions.SSLError):
            check = "the address; REQUESTS_CA_BUNDLE, where a proxy has a certificate authority of its own"
            return Unavailable(f"the certificate of {host} is not trusted", hints={"check": check})
        if isinstance(error, requests.Timeout):
            return Unavailable(f"{host} does not respond", hints={"check": _RUNNING})
        if isinstance(reason, NameResolutionError):
            return Unavailable(f"there is no host {host}", hints={"check": "PULLKEEPER_URL, and the name server"})
        return Unavailable(
            f"no connection to {host}", hints={"check": "PULLKEEPER_URL, and whether this network may reach the app"}
        )


def read_credentials(audience: str | None) -> dict[str, str]:
    """Return the headers that open the app: those of PULLKEEPER_KEY and PULLKEEPER_TOKEN, or a token of `az login`."""
    headers = {}
    if key := os.environ.get("PULLKEEPER_KEY"):
        headers["x-functions-key"] = key
    if token := os.environ.get("PULLKEEPER_TOKEN") or (_azure_cli_token(audience) if audience else None):
        headers["Authorization"] = f"Bearer {token}"
    if not headers:
        raise CommandFailed(
            "no key: set PULLKEEPER_KEY, or PULLKEEPER_AUDIENCE to sign in with az", ExitCode.USAGE, {"key": _GET_KEY}
        )
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise CommandFailed("PULLKEEPER_KEY and PULLKEEPER_TOKEN must be on one line, in ASCII", ExitCode.USAGE)
    return headers


def _azure_cli_token(audience: str) -> str:
    from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - takes half a second
    from azure.identity import AzureCliCredential  # noqa: PLC0415

    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what it logs is raised too
    try:
        token: str = AzureCliCredential().get_token(f"{audience}/.default").token
    except ClientAuthenticationError:
        login = f"az login --scope {audience}/.default"
        raise CommandFailed(f"the Azure CLI gives no token for {audience}", hints={"remedy": login}) from None
    return token
