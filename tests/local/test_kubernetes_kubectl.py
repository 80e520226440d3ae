"""A person's tools at the stand-in for API servers: the real kubectl, with nothing of this machine's home."""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from local.azure.entra import Entra
from local.clock import Clock
from local.kubernetes import ApiServer

Kubectl = Callable[..., Coroutine[Any, Any, str]]

MANIFESTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: d}
imagePullSecrets: [{name: ar-pull-secret}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: d}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, image: "i:1", resources: {limits: {cpu: 1000m}}}]}
"""


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    clock = Clock()
    server = ApiServer("one", Entra(clock), clock)
    await server.start()
    config = tmp_path / "config"
    config.write_text(json.dumps(_kubeconfig(server)))

    async def run(*arguments: str, stdin: str = "", fails: bool = False) -> str:
        """What it printed, errors included."""
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"HOME": str(tmp_path), "KUBECONFIG": str(config), "PATH": "/usr/bin:/bin"},
        )
        printed, _ = await process.communicate(stdin.encode())
        assert (process.returncode != 0) == fails, printed.decode()
        return printed.decode()

    await run("create", "namespace", "d")
    yield run
    await server.stop()


def _kubeconfig(server: ApiServer) -> dict[str, object]:
    def encoded(pem: str) -> str:
        return base64.b64encode(pem.encode()).decode()

    cluster = {"server": server.url, "certificate-authority-data": encoded(server.ca_pem)}
    user = {
        "client-certificate-data": encoded(server.admin_cert_pem),
        "client-key-data": encoded(server.admin_key_pem),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


async def test_create_read_and_delete_a_pull_secret(kubectl: Kubectl) -> None:
    login = ("--docker-server=h", "--docker-username=oauth2accesstoken", "--docker-password=t")
    created = await kubectl("create", "secret", "docker-registry", "ar-pull-secret", *login, "-n", "d")
    found = json.loads(
        await kubectl("get", "secret", "ar-pull-secret", "-n", "d", "-o", "json", "--show-managed-fields")
    )
    oracle = json.loads(
        await kubectl("create", "secret", "docker-registry", "ar-pull-secret", *login, "--dry-run=client", "-o", "json")
    )
    deleted = await kubectl("delete", "secret", "ar-pull-secret", "-n", "d")
    missing = await kubectl("get", "secret", "ar-pull-secret", "-n", "d", fails=True)

    assert created == "secret/ar-pull-secret created\n"
    assert (found["type"], found["data"]) == (oracle["type"], oracle["data"])
    assert [entry["manager"] for entry in found["metadata"]["managedFields"]] == ["kubectl-create"]
    assert deleted == 'secret "ar-pull-secret" deleted\n'
    assert 'secrets "ar-pull-secret" not found' in missing


async def test_apply_on_the_server_and_see_the_difference(kubectl: Kubectl) -> None:
    first = await kubectl("apply", "--server-side", "-f", "-", stdin=MANIFESTS)
    again = await kubectl("diff", "--server-side", "-f", "-", stdin=MANIFESTS.replace("1000m", '"1"'))
    difference = await kubectl("diff", "--server-side", "-f", "-", stdin=MANIFESTS.replace("i:1", "i:2"), fails=True)
    conflict = await kubectl(
        "apply", "--server-side", "--field-manager=me", "-f", "-", stdin=MANIFESTS.replace("i:1", "i:3"), fails=True
    )

    assert first == "serviceaccount/app serverside-applied\ndeployment.apps/app serverside-applied\n"
    assert again == ""
    assert "-      - image: i:1\n+      - image: i:2\n" in difference
    # An amount in another spelling than the server's own is a conflict too.
    container = '.spec.template.spec.containers[name="app"]'
    assert f'conflicts with "kubectl":\n- {container}.image\n- {container}.resources.limits.cpu\n' in conflict


async def test_patch_in_three_ways(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", stdin=MANIFESTS)
    account = ("patch", "serviceaccount", "app", "-n", "d", "-p")
    await kubectl(*account, '{"imagePullSecrets": [{"name": "mine"}]}')
    await kubectl(*account, '[{"op": "add", "path": "/imagePullSecrets/-", "value": {"name": "b"}}]', "--type=json")
    await kubectl(*account, '{"metadata": {"labels": {"a": "b"}}}', "--type=merge")
    found = json.loads(await kubectl("get", "sa", "app", "-n", "d", "-o", "json"))

    assert found["imagePullSecrets"] == [{"name": "mine"}, {"name": "b"}]
    assert found["metadata"]["labels"] == {"a": "b"}


async def test_a_wrong_field_is_told_before_anything_is_written(kubectl: Kubectl) -> None:
    said = await kubectl("apply", "-f", "-", stdin=MANIFESTS.replace("imagePullSecrets", "pullSecrets"), fails=True)

    assert 'unknown field "pullSecrets"' in said
    assert "not found" in await kubectl("get", "sa", "app", "-n", "d", fails=True)


async def test_who_am_i_and_may_i(kubectl: Kubectl) -> None:
    assert "masterclient" in await kubectl("auth", "whoami")
    assert await kubectl("auth", "can-i", "delete", "secrets", "-n", "d") == "yes\n"


async def test_a_namespace_goes_as_far_as_it_can(kubectl: Kubectl) -> None:
    await kubectl("delete", "namespace", "d", "--wait=false")

    assert await kubectl("get", "namespace", "d", "-o", "jsonpath={.status.phase}") == "Terminating"


async def test_waiting_for_a_deletion_sees_it(kubectl: Kubectl) -> None:
    await kubectl("create", "configmap", "c", "--from-literal=a=b", "-n", "d")
    waiting = asyncio.create_task(kubectl("wait", "--for=delete", "configmap/c", "-n", "d", "--timeout=20s"))
    await asyncio.sleep(1)
    await kubectl("delete", "configmap", "c", "-n", "d")

    assert "condition met" in await waiting
