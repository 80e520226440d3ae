"""Talking plain HTTP to an API server, so that its answers can be compared to the letter."""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `headers` with lower-case names, `text` as sent."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Json:
        body: Json = json.loads(self.text)
        return body

    @property
    def uid(self) -> str:
        return str(self.body["metadata"]["uid"])

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of one API server: by the certificate of the session's connections, or with a bearer token."""

    session: aiohttp.ClientSession
    url: str
    token: str | None = None

    async def send(
        self,
        method: str,
        path: str,
        body: Json | list[Any] | str | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        **query: Any,
    ) -> Answer:
        headers = {"Accept": accept}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            headers["Content-Type"] = content_type
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        data = None if text is None else io.BytesIO(text.encode())  # aiohttp warns of large strings
        async with self.session.request(method, self.url + path, data=data, headers=headers, params=query) as response:
            names = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, names, await response.text())

    async def get(self, path: str, *, accept: str = "application/json", **query: Any) -> Answer:
        return await self.send("GET", path, accept=accept, **query)

    async def post(self, path: str, body: Json, **query: Any) -> Answer:
        return await self.send("POST", path, body, **query)

    async def put(self, path: str, body: Json, **query: Any) -> Answer:
        return await self.send("PUT", path, body, **query)

    async def delete(self, path: str, body: Json | None = None, **query: Any) -> Answer:
        return await self.send("DELETE", path, body, **query)

    async def apply(
        self,
        path: str,
        body: Json | str,
        *,
        manager: str = "pullkeeper",
        accept: str = "application/json",
        **query: Any,
    ) -> Answer:
        """Server-side apply. Further `query`: `force="true"`, `dryRun="All"`, `fieldValidation="Strict"`."""
        return await self.send("PATCH", path, body, content_type=APPLY, accept=accept, fieldManager=manager, **query)

    @contextlib.asynccontextmanager
    async def sitting(self, path: str) -> AsyncIterator[None]:
        """Have a POST under way whose body does not end as long as the context lasts."""
        leaving = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"{"
            await leaving.wait()

        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._post(path, body(), headers))
            try:
                yield
            finally:
                leaving.set()

    async def _post(self, path: str, body: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        async with self.session.post(self.url + path, data=body, headers=headers):
            pass


def auths(token: str, host: str = "europe-docker.pkg.dev") -> str:
    """A .dockerconfigjson as `kubectl create secret docker-registry` writes it, in base64."""
    auth = base64.b64encode(f"oauth2accesstoken:{token}".encode()).decode()
    entry = {"username": "oauth2accesstoken", "password": token, "auth": auth}
    return base64.b64encode(json.dumps({"auths": {host: entry}}, separators=(",", ":")).encode()).decode()


def pull_secret(name: str = "ar-pull-secret", *, token: str = "one", **metadata: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, **metadata},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": auths(token)},
    }


def bare(name: str = "ar-pull-secret") -> Json:
    """The object with nothing but its name, whose dry-run apply is the look that reads nothing."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}


async def until(ask: Callable[[], Awaitable[Answer]], good: Callable[[Answer], bool], within: float = 20.0) -> Answer:
    """Ask until the answer is good: admission and RBAC take a moment to see what was just written."""
    async with asyncio.timeout(within):
        while not good(answer := await ask()):  # noqa: ASYNC110 -- the event is in another process
            await asyncio.sleep(0.05)
        return answer
