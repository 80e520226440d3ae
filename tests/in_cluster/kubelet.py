"""Runs the job's one container as a kubelet would: with its files and variables, as a process."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.contract.conversation import Caller, Json


@dataclass(frozen=True, slots=True)
class Finished:
    """Exit code and output of a run."""

    code: int
    output: str


@dataclass(frozen=True, slots=True)
class Kubelet:
    """api: the API server. root: the container's file system. node: environment variables of the machine."""

    api: Caller
    root: Path
    node: Mapping[str, str]

    async def run(self, job: Json) -> Finished:
        """Run one pod of the CronJob."""
        await self.prepare(job)
        return await self.start(job)

    async def prepare(self, job: Json) -> None:
        """Write the pod's files with their present content."""
        namespace = job["metadata"]["namespace"]
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        [container] = pod["containers"]
        volumes = {volume["name"]: volume["projected"]["sources"] for volume in pod["volumes"]}
        for mount in container["volumeMounts"]:
            folder = self.root / mount["mountPath"].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for source in volumes[mount["name"]]:
                for path, content in (await self._project(namespace, pod["serviceAccountName"], source)).items():
                    (folder / path).write_text(content)

    async def start(self, job: Json) -> Finished:
        [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        server = urlsplit(self.api.url)
        service = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
        own = {entry["name"]: entry["value"] for entry in container.get("env", ())}
        return await asyncio.to_thread(self._run, container["command"], {**self.node, **service, **own})

    async def _project(self, namespace: str, account: str, source: Json) -> dict[str, str]:
        core = f"/api/v1/namespaces/{namespace}"
        if "configMap" in source:
            wanted = source["configMap"]
            data = (await self.api.get(f"{core}/configmaps/{wanted['name']}")).body["data"]
            items = wanted.get("items") or [{"key": key, "path": key} for key in data]
            return {item["path"]: data[item["key"]] for item in items}
        wanted = source["serviceAccountToken"]
        audiences = {"audiences": [wanted["audience"]]} if "audience" in wanted else {}
        request = {"spec": {**audiences, "expirationSeconds": wanted["expirationSeconds"]}}
        issued = await self.api.post(f"{core}/serviceaccounts/{account}/token", request)
        assert issued.status == 201, issued.text
        return {wanted["path"]: issued.body["status"]["token"]}

    def _run(self, command: list[str], environment: Mapping[str, str]) -> Finished:
        """Run the command. -S: without site-packages, as in the image."""
        program, *arguments = command
        assert program == "python3"
        inside = [str(self.root / word.lstrip("/")) if word.startswith("/") else word for word in arguments]
        done = subprocess.run(
            [sys.executable, "-S", *inside],
            env={"PATH": os.defpath, **environment},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return Finished(done.returncode, done.stdout)
