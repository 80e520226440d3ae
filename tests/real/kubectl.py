"""The real kubectl, with a kubeconfig and a home folder of its own."""

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.administrator import ApiServer


class Kubectl:
    """Call it with kubectl's arguments for its output. Raises AssertionError with the error output if it fails."""

    def __init__(self, server: ApiServer, user: Mapping[str, str], namespace: str, home: Path) -> None:
        """user: as in a kubeconfig, such as `{"token": ...}`."""
        self.home = home
        home.mkdir()
        kubeconfig = home / "kubeconfig"
        context = {"cluster": "aks", "user": "user", "namespace": namespace}
        cluster = {"server": server.url, "certificate-authority-data": encoded(server.ca_pem)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "aks", "cluster": cluster}],
            "users": [{"name": "user", "user": dict(user)}],
            "contexts": [{"name": "aks", "context": context}],
            "current-context": "aks",
        }
        kubeconfig.write_text(json.dumps(config))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(kubeconfig)}

    async def __call__(self, *arguments: str, given: str = "", **environment: str) -> str:
        """given: on standard input."""
        ran = await run("kubectl", *arguments, environment={**self.environment, **environment}, given=given)
        assert ran.code == 0, f"kubectl {' '.join(arguments)}: {ran.errors}"
        return ran.output

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self(*arguments, "-o", "json"))


class Ran:
    """How a program ended and what it said."""

    def __init__(self, code: int | None, output: bytes, errors: bytes) -> None:
        self.code = code
        self.output = output.decode()
        self.errors = errors.decode()


async def run(*command: str, environment: Mapping[str, str], given: str = "") -> Ran:
    """With this environment and no other."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
    output, errors = await process.communicate(given.encode())
    return Ran(process.returncode, output, errors)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
