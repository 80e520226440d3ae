"""The local host answers as the real host did: every recorded request is sent again."""

import base64
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio

from local.azurite import Azurite
from local.function_host import HostProcess

pytestmark = pytest.mark.servers
_RECORDINGS = Path(__file__).parent / "recordings"
_CONSTRAINT = "no route of ours has this constraint"
_ADMIN = "nothing of ours calls this admin route"
# The local host answers these with 501, and says in its log what it does not play.
_REFUSED: Mapping[str, str] = {
    "response: respstr": "no function of ours returns a text",
    "response: cookie": "no function of ours sets a cookie",
    "admin GET /admin/functions: master": _ADMIN,
    "admin GET /admin/functions/fn: master": _ADMIN,
    "admin GET /admin/host/keys: master": _ADMIN,
    "admin GET /admin/functions/fn/keys: master": _ADMIN,
    "admin GET /admin/host/config: master": _ADMIN,
    "admin GET /admin/functions/fn/status: master": _ADMIN,
    "admin POST /admin/host/log: master": _ADMIN,
    "admin GET /admin/host/drain/status: master": _ADMIN,
    "admin GET /admin/host/systemkeys/_master: master": _ADMIN,
    "admin GET /admin/host/functionkeys: master": _ADMIN,
    "admin invoke http fn": _ADMIN,
    "admin invoke GET of qfacts": _ADMIN,
    "GET /api/regex/abc": _CONSTRAINT,
    "GET /api/regex/ABC": _CONSTRAINT,
    "GET /api/regex/ab1": _CONSTRAINT,
    "GET /api/len/abc": _CONSTRAINT,
    "GET /api/len/abcd": _CONSTRAINT,
    "GET /api/range/10": _CONSTRAINT,
    "GET /api/range/11": _CONSTRAINT,
    "GET /api/minmax/2": _CONSTRAINT,
    "GET /api/minmax/3": _CONSTRAINT,
}


def _cases(file: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in json.loads((_RECORDINGS / file).read_text())]


def test_few_recordings_are_refused_and_each_of_them_exists() -> None:
    files = ("app/http.json", "app/keys.json", "routes/cases.json")
    recorded = [case.id for file in files for case in _cases(file)]
    assert len(recorded) == 397
    assert len(_REFUSED) <= 25
    assert _REFUSED.keys() <= set(recorded)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A host for one of the recorded apps."""

    host: HostProcess

    @property
    def address(self) -> str:
        return urlsplit(self.host.url).netloc

    def fill(self, text: str) -> str:
        """Put this host's address and keys in the place of the recorded ones."""
        keys = self.host.keys
        for name, key in {"master": keys.master, "default": keys.default, "function": keys.function("fn")}.items():
            encoded = quote(key, safe="").replace("-", "%2D")
            variants = {"": key, ".lower": key.lower(), ".prefix": key[:-1], ".encoded": encoded}
            for variant, value in variants.items():
                text = text.replace(f"{{{name}{variant}}}", value)
        repeated = re.fullmatch(r"a x (\d+)", text)
        return "a" * int(repeated[1]) if repeated else text.replace("{host}", self.address)

    def send(self, request: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Returns status, headers (names in lower case) and body."""
        received = b""
        with socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2])), timeout=12) as connection:
            connection.sendall(self._encode(request))
            while part := connection.recv(65536):
                received += part
        head, _, body = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = _join_chunks(body)
        return int(status.split(" ")[1]), headers, body

    def _encode(self, request: Mapping[str, Any]) -> bytes:
        if "raw" in request:
            return bytes(request["raw"], "latin-1")
        lines = [f"{request['method']} {self.fill(request['target'])} HTTP/1.1", "Connection: close"]
        lines += [f"Host: {request.get('host', self.address)}"]
        lines += [f"{name}: {self.fill(value)}" for name, value in request.get("headers", ())]
        body = base64.b64decode(request.get("bodyBase64", "")) or request.get("body", "").encode()
        if request.keys() & {"body", "bodyBase64"}:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def check(self, case: Mapping[str, Any]) -> None:
        expected = case["response"]
        status, headers, body = self.send(case["request"])
        if case["name"] in _REFUSED:
            assert status == 501
            assert body.startswith(b"This host does not play ")
            return
        assert status == expected["status"]
        for name, value in expected.get("headers", ()):
            assert headers.get(name.lower()) == value
        if "seen" in expected:
            self._check_seen(json.loads(body), expected["seen"])
        if "json" in expected:
            assert json.loads(body) == expected["json"]
        if "bodyBase64" in expected:
            assert body == base64.b64decode(expected["bodyBase64"])
        if "body" in expected:
            assert body.decode() == expected["body"]

    def _check_seen(self, seen: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """What the function received."""
        ignored = {("connection", "close"), ("host", self.address)}
        seen = {**seen, "headers": dict(seen["headers"].items() - ignored)}
        filled = {name: self._fill_all(value) for name, value in expected.items()}
        assert {name: seen[name] for name in filled} == filled

    def _fill_all(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._fill_all(inner) for name, inner in value.items()}
        return self.fill(value) if isinstance(value, str) else value


def _join_chunks(rest: bytes) -> bytes:
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body
    # The function itself set the header, and nothing made chunks.
    return rest


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(azurite: Azurite) -> AsyncIterator[Recorded]:
    environment = {"AzureWebJobsStorage": azurite.account("recordings")}
    async with HostProcess(_RECORDINGS / "app", environment) as host:
        recorded = Recorded(host)
        # The real host had used its key before: it then ignores the key's case.
        recorded.send({"method": "GET", "target": "/api/fn?code={default}"})
        yield recorded


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def routes() -> AsyncIterator[Recorded]:
    async with HostProcess(_RECORDINGS / "routes", {}) as host:
        yield Recorded(host)


@pytest.mark.parametrize("case", _cases("app/http.json"))
def test_http_is_as_recorded(app: Recorded, case: Mapping[str, Any]) -> None:
    app.check(case)


@pytest.mark.parametrize("case", _cases("app/keys.json"))
def test_keys_open_what_they_opened(app: Recorded, case: Mapping[str, Any]) -> None:
    app.check(case)


@pytest.mark.parametrize("case", _cases("routes/cases.json"))
def test_routes_lead_to_the_recorded_function(routes: Recorded, case: Mapping[str, Any]) -> None:
    routes.check(case)
