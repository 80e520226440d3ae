"""`pullkeeper support-bundle`: everything that helps, and nothing that opens a door."""

import base64
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.conftest import SUCCEEDED, Cli
from tests.core.canned import ANY_PATH, Answers, http, serve_canned
from tests.http.conftest import App

_KEY: Final = "q7Zkey-of-the-app_0123456789abcdefABCDEF"
_TOKEN: Final = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
_OPAQUE: Final = "q7Ztoken-of-the-caller_0123456789abcdefABCDEF"
_GOOGLE: Final = "ya29.canary-of-Google"
_CANARIES: Final = (
    _KEY,
    _TOKEN,
    _OPAQUE,
    _GOOGLE,
    base64.b64encode(b"oauth2accesstoken:ya29.canary-of-Google").decode(),
    base64.b64encode(b'{"auths":{"eu.gcr.io":{"password":"ya29.canary-of-Google"}}}').decode(),
    "Bearer AbCdEfGh0123456789",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----",
    "AccountKey=Zm9vYmFyYmF6Zm9vYmFyYmF6Zm9vYmFyYmF6Zm9vYmFyYmF6Zm9vYmFyYmF6Zm9vYg==",
)
_FILES: Final = ("versions", "health", "status", "clusters", "operations", "steps", "diagnoses", "failures")


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return {Path(name).stem: json.loads(archive.read(name)) for name in archive.namelist()}


def _poisoned(document: Any, canary: str) -> Any:
    """The document with a canary in every text, and in a name."""
    if isinstance(document, dict):
        return {canary: canary, **{name: _poisoned(value, canary) for name, value in document.items()}}
    if isinstance(document, list):
        return [_poisoned(value, canary) for value in document]
    return f"{document} quotes {canary}." if isinstance(document, str) and document[:1] not in "/FR" else document


def _strings(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield name
            yield from _strings(value)
    elif isinstance(document, list):
        for value in document:
            yield from _strings(value)
    elif isinstance(document, str):
        yield document


@pytest.mark.parametrize("canary", _CANARIES, ids=range(len(_CANARIES)))
async def test_no_credential_is_in_a_bundle_wherever_the_app_had_it(lonely: Cli, canary: str) -> None:
    cluster = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c"
    document = {
        "detail": "d",
        "hubs": [{"name": "main"}],
        "clusters": [{"cluster": cluster, "states": {"expired": 1}, "worst": {"detail": "d"}}],
        "operations": [{"id": "0" * 32, "status": "Failed"}],
        "continuation": None,
    }
    async with serve_canned(None, {ANY_PATH: http(200, _poisoned(document, canary))}) as server:
        run = await lonely.call(
            *("support-bundle", "-f", str(lonely.folder / "bundle.zip")),
            PULLKEEPER_URL=f"http://{server.host}",
            PULLKEEPER_KEY=_KEY,
            PULLKEEPER_TOKEN=_OPAQUE,
        )
    assert run.code == SUCCEEDED, run
    assert run.out.endswith("\n  check: look at it before you send it\n")
    bundle = _read(lonely.folder / "bundle.zip")
    texts = [*_strings(bundle)]
    assert any("quotes [redacted]" in text or "quotes AccountKey=[redacted]" in text for text in texts)
    secret = canary.removeprefix("Bearer ").removeprefix("AccountKey=")
    assert [text for text in texts if secret in text] == []
    assert {path.partition("?")[0] for path in (request.path for request in server.requests)} >= {
        "/api/clusters/s/g/c/diagnosis"
    }


async def test_a_bundle_of_a_broken_app_says_what_could_not_be_read(lonely: Cli) -> None:
    problem = {"status": 503, "category": "invalid_request", "detail": "no storage", "remedy": "set it", "type": "t"}
    async with serve_canned(None, {ANY_PATH: http(503, problem)}) as server:
        run = await lonely.call(
            "support-bundle", "-f", str(lonely.folder / "bundle.zip"), PULLKEEPER_URL=f"http://{server.host}"
        )
    assert run.code == SUCCEEDED, run
    bundle = _read(lonely.folder / "bundle.zip")
    refused = "refused (HTTP 503, invalid_request): no storage"
    assert bundle["failures"] == dict.fromkeys(("status", "clusters", "operations"), refused)
    run = await lonely.call(
        "support-bundle", "-f", str(lonely.folder / "bundle.zip"), PULLKEEPER_URL="http://127.0.0.1:9"
    )
    assert (run.code, run.err) == (SUCCEEDED, "")


async def test_a_bundle_of_a_large_fleet_takes_what_is_broken_first_and_not_all(lonely: Cli) -> None:
    """A diagnosis takes up to 15 seconds. No text is cut as in a log."""
    cluster = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c"
    states = [{"fresh": 2}, {"removed": 1}, *[{"fresh": 1, "stale": 1}] * 7, *[{"fresh": 1}] * 1000]
    clusters = [{"cluster": f"{cluster}{number}", "states": one} for number, one in enumerate(states)]
    operations = [{"id": str(number), "status": "Failed" if number else "Succeeded"} for number in range(600)]
    long = {"detail": "long text " * 1000}
    unwell = {"status": 500, "category": "internal", "detail": "a bug"}
    answers: Answers = {
        "/api/clusters": http(200, {"clusters": clusters}),
        "/api/operations": http(200, {"operations": operations}),
        "/api/status": http(200, {**long, "hubs": [{"name": "a/b"}]}),
        "/api/operations/2": http(500, unwell),
        "/api/clusters/s/g/c3/diagnosis": http(500, unwell),
        ANY_PATH: http(200, long),
    }
    async with serve_canned(None, answers) as server:
        path = str(lonely.folder / "bundle.zip")
        run = await lonely.call("support-bundle", "-f", path, PULLKEEPER_URL=f"http://{server.host}")
    assert run.code == SUCCEEDED, run
    bundle = _read(lonely.folder / "bundle.zip")
    assert [*bundle["steps"]] == [str(number) for number in range(1, 21)]
    assert [*bundle["diagnoses"]] == ["hub a/b", *(f"{cluster}{number}" for number in range(2, 7))]
    assert "/api/hubs/a%2Fb/diagnosis" in {request.path for request in server.requests}
    assert (len(bundle["clusters"]), len(bundle["operations"])) == (1000, 500)
    assert bundle["health"] == long
    refused = "refused (HTTP 500, internal): a bug"
    assert bundle["failures"] == {"2": refused, f"{cluster}3": refused}, "the others are there all the same"


@pytest.mark.servers
@pytest.mark.asyncio(loop_scope="module")
async def test_a_bundle_of_a_fleet_has_what_a_maintainer_asks_for(cli: Cli, fleet: App) -> None:
    code, screen = await cli.show("support-bundle")
    assert code == SUCCEEDED, screen.text
    [path] = cli.folder.glob("pullkeeper-support-*.zip")
    assert path.name in screen.text.replace("\n", "")
    assert re.fullmatch(r"pullkeeper-support-\d{8}-\d{6}\.zip", path.name), "the next one has another name"
    bundle = _read(path)
    assert tuple(bundle) == _FILES
    assert bundle["status"]["version"] == bundle["versions"]["pullkeeper"]
    assert bundle["versions"].keys() >= {"python", "platform", "click", "rich", "requests", "urllib3"}
    assert bundle["health"] == {"status": "ok"}
    assert len(bundle["clusters"]) == 3
    assert {one["status"] for one in bundle["operations"]} == {"Succeeded"}
    assert "hub main" in bundle["diagnoses"]
    assert fleet.host.keys.default not in path.read_bytes().decode("latin-1")
