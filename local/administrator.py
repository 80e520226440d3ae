"""The administrator of a cluster, with kubectl's requests: prepares clusters, edits secrets, reads what was written."""

import base64
import json
import ssl
import tempfile
from collections.abc import Mapping
from typing import Any, Protocol, Self

import aiohttp

from pullkeeper.cluster.api import path_of

_APPLY = "application/apply-patch+yaml"


class ApiServer(Protocol):
    """A stand-in or a real API server, and the client certificate of its administrator."""

    name: str
    admin_cert_pem: str
    admin_key_pem: str

    @property
    def url(self) -> str: ...

    @property
    def ca_pem(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Administrator:
    """Use with `async with`. Calls raise AssertionError for a status other than 2xx."""

    def __init__(self, server: ApiServer) -> None:
        self._url = server.url
        context = ssl.create_default_context(cadata=server.ca_pem)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(f"{server.admin_cert_pem}\n{server.admin_key_pem}")
            file.flush()
            context.load_cert_chain(file.name)
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        manager: str = "kubectl",
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("use it with `async with`")
        data = None if body is None else json.dumps(body)
        query = {} if method in {"GET", "DELETE"} else {"fieldManager": manager}
        headers = {"Content-Type": content_type}
        async with self._session.request(
            method, self._url + path, data=data, headers=headers, params=query
        ) as response:
            text = await response.text()
            if not response.ok:
                raise AssertionError(f"{method} {path}: HTTP {response.status} {text}")
            parsed: dict[str, Any] = json.loads(text)
            return parsed

    async def apply(
        self, manifest: Mapping[str, Any], *, manager: str = "kubectl", force: bool = False
    ) -> dict[str, Any]:
        """As `kubectl apply --server-side`. force: as `--force-conflicts`."""
        path = f"{path_of(manifest)}?force={str(force).lower()}"
        return await self.call("PATCH", path, manifest, content_type=_APPLY, manager=manager)

    async def read_secret(self, namespace: str, name: str) -> dict[str, Any]:
        return await self.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")

    async def read_auths(self, namespace: str, name: str) -> dict[str, Any]:
        """The credentials in a pull secret: host -> {username, password, auth}."""
        secret = await self.read_secret(namespace, name)
        auths: dict[str, Any] = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
        return auths

    async def create_secret(self, namespace: str, name: str, content: str, *, manager: str = "kubectl-create") -> str:
        """As `kubectl create secret docker-registry`, which the older CronJob uses. Return the uid."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(content.encode()).decode()},
        }
        created = await self.call("POST", f"/api/v1/namespaces/{namespace}/secrets", body, manager=manager)
        return str(created["metadata"]["uid"])

    async def edit_secret(self, namespace: str, name: str, content: str, *, manager: str = "kubectl-edit") -> None:
        """As `kubectl edit secret`."""
        patch = {"data": {".dockerconfigjson": base64.b64encode(content.encode()).decode()}}
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        await self.call("PATCH", path, patch, content_type="application/merge-patch+json", manager=manager)

    async def delete_secret(self, namespace: str, name: str) -> None:
        await self.call("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{name}")
