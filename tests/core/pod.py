"""The script of the in-cluster refresher, as a process, against services that respond as a test says."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest_asyncio
from aiohttp import web

from local.serving import Authority, Server
from pullkeeper.cluster.in_cluster import _FOLDER

TOKEN: Final = "ya29.c.canary-canary-canary"
SECRET: Final = "/api/v1/namespaces/space/secrets/pull"
DONE, LATER, NEVER = 0, 1, 2
_RUN: Final = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


@dataclass(frozen=True, slots=True)
class Received:
    """What a service got. authorization: the header's value. at: in seconds of a monotonic clock."""

    method: str
    path: str
    query: dict[str, str]
    body: str
    accept: str = ""
    authorization: str = ""
    at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Pod:
    """answers: what to respond instead of the usual, by path: status, body and headers. manager: of the secret, which
    has been edited; None if it has not. settings: those of the script. hangs: whether no service responds. broken: the
    path whose response, a 503, breaks off. prelude: a statement that runs before it.
    """

    folder: Path
    answers: dict[str, tuple[int, Any, dict[str, str]]] = field(default_factory=dict)
    manager: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    broken: str = ""
    prelude: str = ""
    received: list[Received] = field(default_factory=list)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        accept, authorization = (request.headers.get(name, "") for name in ("Accept", "Authorization"))
        sent = await request.text()
        self.received.append(Received(request.method, request.path, dict(request.query), sent, accept, authorization))
        if self.hangs:
            await asyncio.Event().wait()
        if request.path == self.broken:
            broken = web.StreamResponse(status=503)
            await broken.prepare(request)
            await broken.write(b"half of")
            if request.transport:
                request.transport.close()
            return broken
        if request.path in self.answers:
            status, body, headers = self.answers[request.path]
            return web.json_response(body, status=status, headers=headers)
        if request.path == SECRET and self.manager and request.query.get("force") == "false":
            return web.json_response({"message": "conflict"}, status=409)
        expiry = (datetime.now(UTC) + timedelta(hours=12)).isoformat()
        usual: dict[str, Any] = {
            "/entra": {"access_token": "entra-token-canary"},
            "/sts": {"access_token": "ya29.d.canary-canary", "expires_in": 3599},
            "/iam": {"accessToken": TOKEN, "expireTime": expiry},
            "/v2/token": {"token": "registry-token"},
            "/v2/manifest": {},
            SECRET: {"metadata": {"uid": "u-1", "managedFields": [{"manager": self.manager}]}},
        }
        return web.json_response(usual[request.path])

    async def run(self) -> tuple[int, str]:
        """Run the script; return its exit code and its output, which has no token in it."""
        (self.folder / "settings.json").write_text(json.dumps(self.settings))
        async with asyncio.timeout(20):
            script = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", f"{self.prelude}\n{_RUN}", str(self.folder / "refresh.py")),
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
        return [one.query["force"] for one in self.received if one.path == SECRET and "force" in one.query]


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
        "registries": ["registry.example", "second.example"],
        "probe": {
            "tokenUrl": f"{server.url}/v2/token",
            "manifestUrl": f"{server.url}/v2/manifest",
            "accept": "an/index",
        },
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
