"""What the command line says when the app is not there, is not the app, or refuses: never a traceback."""

import base64
import gc
import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest
from aiohttp import web

from local.serving import Authority, Server
from pullkeeper.cli.client import App
from tests.cli.conftest import FAILED, SUCCEEDED, WRONG_USAGE, Cli
from tests.core.canned import ANY_PATH, MALFORMED, http, serve_canned

_PROXY = "✗ the proxy does not let the request through\n  check: HTTPS_PROXY and NO_PROXY\n"
_COMMANDS = (
    ("check",),
    ("get", "clusters"),
    ("get", "clusters", "shop"),
    ("get", "hubs", "-o", "wide"),
    ("get", "operations"),
    ("get", "operations", "0" * 32),
    ("refresh", "--all"),
    ("doctor", "--hub", "main"),
    ("handover",),
)


async def _ask(lonely: Cli, response: bytes, *arguments: str, **more: str) -> tuple[int, str]:
    """Return the exit code and what is printed as failure, where the app responds with this."""
    gc.collect(0)  # if it came while a deeply nested response is parsed, finalizers would have no stack left
    async with serve_canned(None, {ANY_PATH: response}) as server:
        run = await lonely.call(*(arguments or ("get", "clusters")), PULLKEEPER_URL=f"http://{server.host}", **more)
    assert "Traceback" not in run.out + run.err
    return run.code, run.err


@pytest.mark.parametrize("arguments", _COMMANDS, ids=" ".join)
async def test_no_response_is_a_traceback(lonely: Cli, arguments: tuple[str, ...]) -> None:
    for name in ("HTML", "a list", "deeply nested", "not UTF-8", "shorter than announced", "not HTTP", "no response"):
        code, error = await _ask(lonely, MALFORMED[name] if name != "a list" else http(200, {"a": 1}), *arguments)
        assert (code, error[:2]) == (FAILED, "✗ "), name
        assert "\n  check: " in error, name
        assert "canary" not in error


async def test_an_unknown_form_is_shown_without_its_text(lonely: Cli) -> None:
    hop: dict[str, Any] = {
        "name": "pods",
        "subject": None,
        "detail": "",
        "because": None,
        "category": None,
        "remedy": None,
    }
    hops = [{**hop, "state": "canary", "evidence": {}, "runbook": None}]
    document = {"cluster": None, "hub": "main", "seconds": 1, "state": "ok", "hops": hops}
    code, error = await _ask(lonely, http(200, document), "doctor", "--hub", "main")
    assert (code, "KeyError at doctor.py:" in error, "canary" in error) == (FAILED, True, False)


async def test_a_page_in_the_place_of_the_app_is_no_success(lonely: Cli) -> None:
    cluster = "/subscriptions/s/resourceGroups/g/providers/p/managedClusters/c"
    for page in ("HTML", "a list"):
        code, error = await _ask(lonely, MALFORMED[page], "refresh", cluster)
        assert code == FAILED
        assert error.startswith("✗ the response is none of Pullkeeper's (HTTP 200)\n")


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {}, "✗ the app refuses the key or the token (HTTP 401)\n  key: export PULLKEEPER_KEY=$(az rest "),
        (403, {}, "✗ the app refuses the key or the token (HTTP 403)\n"),
        (404, {}, "✗ the app has no route /api/clusters\n  check: is the address right"),
        (302, {"Location": "https://login.example"}, "✗ the app's address redirects (HTTP 302)\n  check: "),
        (503, {"Retry_After": "20"}, "✗ the app cannot respond at the moment (HTTP 503)\n  check: is the app running"),
        (418, {}, "✗ the response is none of Pullkeeper's (HTTP 418)\n  check: is http://127.0.0.1:"),
    ],
)
async def test_the_platforms_refusals_say_what_to_check(
    lonely: Cli, status: int, headers: Mapping[str, str], expected: str
) -> None:
    code, error = await _ask(lonely, http(status, b"", **headers))
    assert code == FAILED
    assert error.startswith(expected)
    assert "login.example" not in error


async def test_a_caller_without_the_right_credentials_is_told_of_both_ways_in(lonely: Cli) -> None:
    _, error = await _ask(lonely, http(401, b""))
    assert [line.partition("=")[0] for line in error.splitlines()[1:]] == [
        "  key: export PULLKEEPER_KEY",
        "  token: export PULLKEEPER_AUDIENCE",
    ]


async def test_a_problem_is_shown_whole_and_harmless(lonely: Cli) -> None:
    """A detail may quote a foreign service: it cannot move the cursor, and is no command to a pipeline's agent."""
    foreign = "no\n::error::mine\x1b[2J\x9b2J\u202e ##vso[task.setvariable variable=PATH]x"
    problem = {
        "status": 409,
        "category": "invalid_request",
        "detail": foreign,
        "remedy": foreign,
        "type": "https://docs.example/x",
        "operation": "/api/operations/1",
    }
    code, error = await _ask(lonely, http(409, problem))
    text = "no ::error::mine [2J 2J # #vso[task.setvariable variable=PATH]x"
    assert code == FAILED
    assert error.splitlines() == [
        f"✗ refused (HTTP 409, invalid_request): {text}",
        "  look at: /api/operations/1",
        f"  remedy: {text}",
        "  runbook: https://docs.example/x",
    ]


async def test_a_wrong_setting_of_the_app_is_not_waited_for(lonely: Cli) -> None:
    problem = {"status": 503, "category": "invalid_request", "detail": "HUBS: no JSON", "remedy": "correct it"}
    async with serve_canned(None, {ANY_PATH: http(503, problem)}) as server:
        run = await lonely.call("get", "clusters", PULLKEEPER_URL=f"http://{server.host}")
    assert "HUBS: no JSON" in run.err
    assert len(server.requests) == 1


async def test_a_handover_is_one_harmless_line_for_each_text(lonely: Cli) -> None:
    fields = ("tenantId", "clientId", "objectId", "issuer", "subject", "audience")
    foreign = "a\nb\x1b[2J ##vso[task.complete]"
    document = {**dict.fromkeys(fields, foreign), "identities": [foreign], "commands": [foreign]}
    async with serve_canned(None, {ANY_PATH: http(200, document)}) as server:
        run = await lonely.call("handover", PULLKEEPER_URL=f"http://{server.host}")
    *texts, blank, command = run.out.splitlines()
    assert (len(texts), blank, command) == (7, "", "a b [2J # #vso[task.complete]")
    assert all(text.endswith(command) for text in texts)


@pytest.mark.parametrize(
    ("url", "more", "expected"),
    [
        ("https://pullkeeper.invalid", {}, "✗ there is no host pullkeeper.invalid\n  check: PULLKEEPER_URL"),
        ("http://127.0.0.1:9", {}, "✗ no connection to 127.0.0.1\n  check: PULLKEEPER_URL"),
        ("https://pullkeeper.invalid", {"HTTPS_PROXY": "http://127.0.0.1:9"}, _PROXY),
    ],
)
async def test_a_network_error_says_what_to_check(
    lonely: Cli, url: str, more: Mapping[str, str], expected: str
) -> None:
    run = await lonely.call("get", "clusters", PULLKEEPER_URL=url, **more)
    assert (run.code, run.out) == (FAILED, "")
    assert run.err.startswith(expected)


async def test_an_untrusted_certificate_is_named(lonely: Cli) -> None:
    server = Server(web.Application(), authority=Authority())
    await server.start()
    run = await lonely.call("get", "clusters", PULLKEEPER_URL=server.url)
    await server.stop()
    assert run.code == FAILED
    assert run.err.startswith("✗ the certificate of 127.0.0.1 is not trusted\n  check: the address; REQUESTS_CA_BUNDLE")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pullkeeper.example",
        "http://pullkeeper.example",
        "https://user@pullkeeper.example",
        "https://pullkeeper.example/api",
        "https://pullkeeper.example?x",
        "http://127.0.0.1.example",
    ],
)
async def test_the_key_goes_to_no_address_but_a_plain_https_one(lonely: Cli, url: str) -> None:
    run = await lonely.call("get", "clusters", PULLKEEPER_URL=url)
    assert (run.code, run.out) == (WRONG_USAGE, "")
    assert "address" in run.err
    assert ".azurewebsites.net\n" in run.err, "an example"


async def test_without_a_key_it_says_how_to_get_one(lonely: Cli) -> None:
    run = await lonely.call("get", "clusters", PULLKEEPER_URL="https://pullkeeper.example", PULLKEEPER_KEY="")
    assert run.code == WRONG_USAGE
    assert run.err.startswith("✗ no key: set PULLKEEPER_KEY")
    assert "az rest --method post" in run.err
    for key in ("a\nb", "caf\u00e9"):
        run = await lonely.call("get", "clusters", PULLKEEPER_URL="https://pullkeeper.example", PULLKEEPER_KEY=key)
        assert (run.code, key in run.err) == (WRONG_USAGE, False)


async def test_only_the_app_gets_key_and_token(lonely: Cli) -> None:
    """No option takes them. Neither a password of ~/.netrc nor az takes the place of the token."""
    (lonely.folder / ".netrc").write_text("machine 127.0.0.1 login me password mine\n", encoding="utf-8")
    page = http(200, {"clusters": [], "continuation": None})
    environment = {"PULLKEEPER_TOKEN": "token", "PULLKEEPER_AUDIENCE": "api://app", "PATH": "/nowhere"}
    async with serve_canned(None, {ANY_PATH: page}) as server:
        run = await lonely.call("get", "clusters", PULLKEEPER_URL=f"http://{server.host}", **environment)
    assert run.code == SUCCEEDED
    [request] = server.requests
    assert (request.headers["x-functions-key"], request.headers["authorization"]) == ("key", "Bearer token")
    assert base64.b64encode(b"me:mine").decode() not in json.dumps(dict(request.headers))
    shown = (await lonely.call("get", "clusters", "--help")).out
    assert "--url" in shown
    assert "--key" not in shown
    assert "--token" not in shown


def test_the_client_shows_no_credential() -> None:
    app = App("https://app.example", {"x-functions-key": "canary"}, lambda _: nullcontext())
    assert "canary" not in repr(app)


async def test_a_reader_that_goes_away_is_no_error(lonely: Cli) -> None:
    line = {"cluster": "/subscriptions/s/resourceGroups/g/providers/p/managedClusters/c", "hub": "h" * 100}
    rest: dict[str, Any] = {"worst": None, "search": None, "states": {}}
    lines = [{**line, "cluster": f"{line['cluster']}{n}", **rest} for n in range(3000)]
    async with (
        serve_canned(None, {ANY_PATH: http(200, {"clusters": lines})}) as server,
        lonely.open(
            *("get", "clusters"), into="head -n 1", columns=200, PULLKEEPER_URL=f"http://{server.host}"
        ) as screen,
    ):
        await screen.end()
    assert len(screen.lines) == 1, screen.text


async def test_a_file_that_cannot_be_written_is_named(lonely: Cli) -> None:
    async with serve_canned(None, {ANY_PATH: http(404)}) as server:
        url = f"http://{server.host}"
        run = await lonely.call("support-bundle", "-f", "no/such/folder.zip", PULLKEEPER_URL=url)
    assert (run.code, run.err) == (FAILED, "✗ no/such/folder.zip: No such file or directory\n")
