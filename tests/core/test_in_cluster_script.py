"""The script of the in-cluster refresher, as a process, against services that respond as a test says.

tests/in_cluster runs it as a pod does, on a real API server.
"""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web

from local.serving import Authority, Server
from pullkeeper.cluster.in_cluster import _FOLDER

_TOKEN: Final = "ya29.c.canary-canary-canary"
_SECRET: Final = "/api/v1/namespaces/space/secrets/pull"
_DONE, _LATER, _NEVER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Received:
    """What a service got."""

    path: str
    query: dict[str, str]
    body: str
    accept: str = ""


@dataclass(slots=True)
class Pod:
    """answers: what to respond instead of the usual, by path: status, body and headers. manager: of the secret, which
    has been edited; None if it has not. settings: those of the script.
    """

    folder: Path
    answers: dict[str, tuple[int, Any, dict[str, str]]] = field(default_factory=dict)
    manager: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    async def respond(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        self.received.append(Received(request.path, dict(request.query), await request.text(), accept))
        if request.path in self.answers:
            status, body, headers = self.answers[request.path]
            return web.json_response(body, status=status, headers=headers)
        if request.path == _SECRET and self.manager and request.query.get("force") == "false":
            return web.json_response({"message": "conflict"}, status=409)
        expiry = (datetime.now(UTC) + timedelta(hours=12)).isoformat()
        usual: dict[str, Any] = {
            "/entra": {"access_token": "entra-token-canary"},
            "/sts": {"access_token": "ya29.d.canary-canary", "expires_in": 3599},
            "/iam": {"accessToken": _TOKEN, "expireTime": expiry},
            "/v2/token": {"token": "registry-token"},
            "/v2/manifest": {},
            _SECRET: {"metadata": {"uid": "u-1", "managedFields": [{"manager": self.manager}]}},
        }
        return web.json_response(usual[request.path])

    async def run(self) -> tuple[int, str]:
        """Run the script; return its exit code and its output, which has no token in it."""
        (self.folder / "settings.json").write_text(json.dumps(self.settings))
        async with asyncio.timeout(20):
            script = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(self.folder / "refresh.py")),
                env={"PATH": os.defpath, **self.environment},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                output, _ = await script.communicate()
            finally:
                if script.returncode is None:
                    script.kill()
        assert b"canary" not in output
        return script.returncode or 0, output.decode().strip()

    @property
    def writes(self) -> list[str]:
        """Whether each write of the secret was with force."""
        return [one.query["force"] for one in self.received if one.path == _SECRET and "force" in one.query]


@pytest_asyncio.fixture
async def pod(authority: Authority, tmp_path: Path) -> AsyncIterator[Pod]:
    pod = Pod(tmp_path)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", pod.respond)
    server = Server(application, authority=authority)
    await server.start()
    (tmp_path / "refresh.py").write_text((_FOLDER / "in-cluster" / "refresh.py").read_text())
    (tmp_path / "ca.crt").write_text(authority.pem)
    for name in ("subject-token", "api-token"):
        (tmp_path / name).write_text(f"{name}-canary-canary")
    host, _, port = server.host.partition(":")
    pod.environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    pod.environment |= {"SSL_CERT_FILE": str(tmp_path / "ca.crt"), "NO_PROXY": host}
    pod.settings = {
        "namespace": "space",
        "secret": "pull",
        "registries": ["registry.example"],
        "probe": {"tokenUrl": f"{server.url}/v2/token", "manifestUrl": f"{server.url}/v2/manifest", "accept": "*/*"},
        "google": {
            "audience": "//iam.googleapis.com/provider",
            "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
            "tokenUrl": f"{server.url}/sts",
            "impersonationUrl": f"{server.url}/iam",
            "scope": "scope",
            "lifetime": 600,
        },
        "entra": {"url": f"{server.url}/entra", "clientId": "c", "scope": "s"},
        "adopt": False,
        "deadlineSeconds": 1,
    }
    yield pod
    await server.stop()


async def test_a_token_is_proved_and_written(pod: Pod) -> None:
    """Its life is no longer than was requested: Google, or a clock, may say more."""
    code, output = await pod.run()
    assert (code, pod.writes) == (_DONE, ["false"])
    assert "space/pull is valid until" in output
    assert [one.path for one in pod.received] == ["/entra", "/sts", "/iam", "/v2/token", "/v2/manifest", _SECRET]
    written = json.loads(pod.received[-1].body)
    times = written["metadata"]["annotations"]
    issued, expires = (datetime.fromisoformat(times[f"pullkeeper.dev/{name}"]) for name in ("issued-at", "expires-at"))
    assert expires - issued == timedelta(minutes=10)
    auths = json.loads(base64.b64decode(written["data"][".dockerconfigjson"]))["auths"]
    assert auths["registry.example"]["password"] == _TOKEN


@pytest.mark.parametrize(
    ("manager", "adopt", "code", "writes"),
    [
        ("pullkeeper", False, _DONE, ["false", "true"]),
        ("kubectl-create", True, _DONE, ["false", "true"]),
        ("kubectl-create", False, _NEVER, ["false"]),
    ],
    ids=["ours", "adopted", "of another owner"],
)
async def test_force_is_for_secrets_that_are_ours_or_adopted(
    pod: Pod, manager: str, code: int, writes: list[str], *, adopt: bool
) -> None:
    pod.manager, pod.settings["adopt"] = manager, adopt
    assert ((await pod.run())[0], pod.writes) == (code, writes)


@pytest.mark.parametrize(
    ("path", "answer", "code", "what"),
    [
        ("/sts", (400, {"error": "invalid_grant", "error_description": "no"}, {}), _NEVER, "google sts: HTTP 400: no"),
        ("/sts", (503, {}, {}), _LATER, "google sts: HTTP 503"),
        ("/sts", (302, {}, {"Location": "/elsewhere"}), _NEVER, "google sts: HTTP 302"),
        ("/sts", (200, {"padding": "x" * 2**20}, {}), _LATER, "did not respond: JSONDecodeError"),
        ("/iam", (200, {"accessToken": "a b"}, {}), _LATER, "google iam: the response has no expireTime"),
        ("/iam", (200, {"accessToken": _TOKEN, "expireTime": "2020-01-01T00:00:00Z"}, {}), _LATER, "no valid token"),
        ("/v2/token", (403, {}, {}), _NEVER, "registry: HTTP 403"),
        ("/v2/token", (404, {}, {}), _NEVER, "registry: HTTP 404"),
        ("/v2/manifest", (401, {}, {}), _NEVER, "registry manifest: HTTP 401"),
        (_SECRET, (403, {"message": "may not"}, {}), _NEVER, "kubernetes: HTTP 403: may not"),
    ],
)
async def test_a_refusal_ends_the_run(
    pod: Pod, path: str, answer: tuple[int, Any, dict[str, str]], code: int, what: str
) -> None:
    """It is named with its hop, and nothing is called after it."""
    pod.answers[path] = answer
    ended, output = await pod.run()
    assert (ended, what in output) == (code, True), output
    assert [one.path == path for one in pod.received] == [False] * (len(pod.received) - 1) + [True]
    assert "/elsewhere" not in {one.path for one in pod.received}


@pytest.mark.parametrize(("path", "status"), [("/v2/token", 503), ("/v2/manifest", 503), ("/v2/manifest", 404)])
async def test_a_registry_that_is_down_or_has_lost_the_image_is_reported_and_the_secret_written(
    pod: Pod, path: str, status: int
) -> None:
    pod.answers[path] = (status, {}, {})
    code, output = await pod.run()
    assert (code, pod.writes) == (_DONE, ["false"])
    assert "the secret is written all the same" in output


async def test_the_token_does_not_come_back_with_the_response(pod: Pod) -> None:
    pod.manager = "pullkeeper"
    assert (await pod.run())[0] == _DONE
    accepted = {one.accept.partition(";")[2].partition(";")[0] for one in pod.received if one.path == _SECRET}
    assert accepted == {"as=PartialObjectMetadata"}


async def test_a_server_that_is_not_trusted_is_not_tried_again(pod: Pod) -> None:
    (pod.folder / "ca.crt").write_text(Authority().pem)
    code, output = await pod.run()
    assert code == _NEVER
    assert "did not respond: SSLCertVerificationError" in output


async def test_a_token_is_redacted_before_the_text_is_cut(pod: Pod) -> None:
    """What the cut leaves of it has no shape by which it could be recognised."""
    before = "x" * (600 - len("google sts: HTTP 400: ") - 10)
    text = f"{before} eyJ{'Zk7QpWx8' * 10}"
    pod.answers["/sts"] = (400, {"error": "x", "error_description": text}, {})
    _, output = await pod.run()
    assert "eyJ" not in output


async def test_no_token_is_sent_without_tls(pod: Pod) -> None:
    pod.settings["google"]["tokenUrl"] = pod.settings["google"]["tokenUrl"].replace("https://", "http://")
    assert await pod.run() == (_NEVER, "pullkeeper: google sts: the address must be https")


async def test_retries_end_with_the_deadline(pod: Pod) -> None:
    pod.answers["/entra"] = (503, {"error": "busy"}, {})
    pod.settings["deadlineSeconds"] = 3
    code, output = await pod.run()
    assert (code, output) == (_LATER, "pullkeeper: entra: HTTP 503: busy")
    assert 1 < len(pod.received) <= 3


async def test_a_wait_that_the_deadline_does_not_leave_is_not_begun(pod: Pod) -> None:
    pod.answers["/entra"] = (429, {"error": "busy"}, {"Retry-After": "60"})
    pod.settings["deadlineSeconds"] = 5
    assert await pod.run() == (_LATER, "pullkeeper: entra: HTTP 429: busy")
    assert len(pod.received) == 1


async def test_the_api_server_is_called_past_a_proxy(pod: Pod) -> None:
    pod.environment |= {"KUBERNETES_SERVICE_HOST": "localhost", "HTTPS_PROXY": "http://127.0.0.1:9"}
    code, output = await pod.run()
    assert (code, pod.writes) == (_DONE, ["false"]), output


async def test_an_unexpected_error_is_named_by_its_type_alone(pod: Pod) -> None:
    del pod.environment["KUBERNETES_SERVICE_HOST"]
    code, output = await pod.run()
    assert (code, output) == (_NEVER, "pullkeeper: internal: KeyError")


@pytest.mark.parametrize("content", ["", "two words canary", "canary"])
async def test_a_file_without_a_token_is_not_sent(pod: Pod, content: str) -> None:
    (pod.folder / "subject-token").write_text(content)
    assert await pod.run() == (_NEVER, "pullkeeper: pod: subject-token contains no token")
    assert pod.received == []
