"""The one Kubernetes transport: server-side apply, get, patch, and what an API server's refusals mean.

Raw calls of `kubernetes.aio`'s ApiClient: the generated API classes cost a second of cold start, and their apply
silently becomes a merge when the content type is forgotten. One client per cluster and refresh; the CA comes from
memory; nothing retries but what is written here. Answers to an apply are asked for as metadata only, so that no
secret's content ever comes back.
Status bodies: seen on kube-apiserver 1.37; `tests/contract` holds them to it.
"""

import contextlib
import json
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
import stamina
from kubernetes.aio.client import ApiClient, Configuration

from pullkeeper import bounded, errors
from pullkeeper.cluster.ownership import MANAGER, OBSERVER, managers
from pullkeeper.cluster.refusals import NotFound, Overtaken, refusal
from pullkeeper.model import Endpoint
from pullkeeper.tokens import ClientCertificate, EntraToken

_REVIEWS: Final = "authorization.k8s.io/v1"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=40, sock_connect=5)
"""The server itself gives up a PATCH after 34 s. A firewall that drops packets shows as no connection."""
_DEADLINE: Final = timedelta(seconds=45)
_LONGEST_ANSWER: Final = 1024 * 1024
_SOON: Final = (errors.ClusterThrottled, errors.ClusterUnwell, errors.AdmissionUnavailable)
"""Worth another try at once. A cluster that does not answer at all is not: it would hold a place that others wait for,
and the queue tries it again.
"""


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """An object's metadata, as an apply answers it."""

    created: bool
    metadata: Mapping[str, Any]

    @property
    def uid(self) -> str:
        # A name or an id that a server gives is kept and told: from a broken one it may be anything.
        return errors.redact(str(self.metadata["uid"]))

    @property
    def managers(self) -> frozenset[str]:
        """Who has written the object; the observer that only looks does not count."""
        return managers(self.metadata)


class Api:
    """One cluster's API server. `async with` it; calls raise ClusterError."""

    def __init__(self, endpoint: Endpoint, credential: EntraToken | ClientCertificate, *, dry: bool = False) -> None:
        """credential: a token for AKS, or a client certificate. dry: the server goes through every write, and keeps
        none. Raises ClusterTlsUntrusted.
        """
        self._dry = {"dryRun": "All"} if dry else {}
        configuration = Configuration(host=endpoint.server)
        configuration.ca_cert_data = endpoint.ca
        # RFC 5280 pedantry that Python 3.13 switches on and AKS's own CAs have failed; the chain and the name are
        # checked all the same.
        configuration.disable_strict_ssl_verification = True
        configuration.retries = False
        # With trust_env aiohttp looks up netrc for every request, at half of all CPU; so the proxy is named here.
        configuration.client_session_kwargs = {"trust_env": False, "read_bufsize": 2**16}
        configuration.trace_configs = [_no_redirects()]
        proxy = getproxies().get("https")
        host = endpoint.server.removeprefix("https://")
        configuration.proxy = proxy if proxy and not proxy_bypass(host.partition(":")[0]) else None
        self._token = credential if isinstance(credential, EntraToken) else None
        if not endpoint.ca:
            # The client would take the system's CAs instead.
            raise errors.ClusterTlsUntrusted(f"{host}: no CA to hold it to")
        try:
            if isinstance(credential, ClientCertificate):
                with _in_memory(credential.certificate + "\n" + credential.key) as path:
                    configuration.cert_file = configuration.key_file = path
                    self._client = ApiClient(configuration)
            else:
                self._client = ApiClient(configuration)
        except ssl.SSLError as e:
            raise errors.ClusterTlsUntrusted(f"{host}: its CA or our certificate cannot be read: {e}") from None
        self._host = host

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def apply(
        self, path: str, body: Mapping[str, Any], *, force: bool = False, strict: bool = False
    ) -> ObjectMetadata:
        """Server-side apply under the manager `pullkeeper`. Without force, fields of somebody else with another value
        raise OwnershipConflict; with it they are taken over. Sends no resourceVersion: last writer wins, by design.
        strict: unknown fields are refused, not dropped.
        """
        query = {"fieldManager": MANAGER, "force": str(force).lower()}
        if strict:
            query["fieldValidation"] = "Strict"
        return await self._apply(path, body, query)

    async def look(self, path: str, kind: str) -> ObjectMetadata | None:
        """An object's metadata, with no right but `patch` on its name: a dry run of an apply that says nothing, which
        the server answers with what is there. None if there is nothing.
        """
        namespace, _, name = path.split("/")[-3:]
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
        seen = await self._apply(path, body, {"fieldManager": OBSERVER, "dryRun": "All"})
        return None if seen.created else seen

    async def get(self, path: str) -> dict[str, Any]:
        """Never of a secret: there is no such call in Pullkeeper, and no right to it in its role."""
        _, answer = await self._object("GET", path, {}, {"Accept": "application/json"}, None)
        return answer

    async def find(self, path: str) -> dict[str, Any] | None:
        """As `get`; None where there is nothing."""
        try:
            return await self.get(path)
        except (NotFound, errors.NamespaceMissing):
            return None

    async def release(self, path: str, manifest: Mapping[str, Any], uid: str) -> ObjectMetadata:
        """Give up every field that we have applied to this very object, and the values with them: an apply that says
        nothing leaves nothing of it behind.
        """
        metadata = {key: manifest["metadata"][key] for key in ("name", "namespace") if key in manifest["metadata"]}
        bare = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": {**metadata, "uid": uid}}
        return await self._apply(path, bare, {"fieldManager": MANAGER})

    async def merge(self, path: str, body: Mapping[str, Any]) -> None:
        headers = {"Accept": _METADATA_ONLY, "Content-Type": "application/merge-patch+json"}
        await self._object("PATCH", path, {"fieldManager": MANAGER}, headers, dict(body))

    async def delete(self, path: str, uid: str) -> None:
        """Delete this very object: one that was made anew meanwhile has another uid, and stays."""
        dry = {"dryRun": ["All"]} if self._dry else {}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}, **dry}
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        with contextlib.suppress(NotFound):
            await self._tried("DELETE", path, {}, headers, body)

    async def may(self, verb: str, group: str, resource: str) -> bool:
        """Whether we may do that in every namespace."""
        attributes = {"verb": verb, "group": group, "resource": resource}
        review = {"apiVersion": _REVIEWS, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        path = f"/apis/{_REVIEWS}/selfsubjectaccessreviews"
        _, answer = await self._tried("POST", path, {}, headers, review)
        return bool(answer.get("status", {}).get("allowed"))

    async def json_patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> None:
        headers = {"Accept": _METADATA_ONLY, "Content-Type": "application/json-patch+json"}
        await self._object("PATCH", path, {"fieldManager": MANAGER}, headers, list(operations))

    async def _apply(self, path: str, body: Mapping[str, Any], query: dict[str, str]) -> ObjectMetadata:
        headers = {"Accept": _METADATA_ONLY, "Content-Type": "application/apply-patch+yaml"}
        status, answer = await self._object("PATCH", path, query, headers, dict(body))
        return ObjectMetadata(created=status == 201, metadata=answer["metadata"])  # noqa: PLR2004 - Created

    async def _object(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        """A call that is answered with an object, or with an object's metadata."""
        changing = self._dry if method == "PATCH" else {}
        status, answer = await self._tried(method, path, {**query, **changing}, headers, body)
        metadata = answer.get("metadata")
        if not isinstance(metadata, dict) or "uid" not in metadata:
            raise errors.ClusterMoved(f"{self._host} does not speak as an API server does")
        return status, answer

    async def _tried(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        async for attempt in stamina.retry_context(on=_worth_retrying, attempts=3, timeout=_DEADLINE):
            with attempt:
                return await self._once(method, path, query, headers, body)
        raise AssertionError("stamina raises the last error")

    async def _once(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        authorization = {"Authorization": f"Bearer {self._token.reveal()}"} if self._token else {}
        request = await self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params={**authorization, **headers}, body=body
        )
        try:
            response = (await self._client.call_api(*request, _request_timeout=_TIMEOUT)).response
            async with response:
                text = await bounded.read(response, _LONGEST_ANSWER)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as e:
            raise errors.ClusterTlsUntrusted(f"{self._host}: {e}") from e
        except aiohttp.ClientConnectorDNSError as e:
            raise errors.ClusterMoved(f"{self._host} does not resolve: {e}") from e
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise errors.ClusterUnreachable(f"{self._host}: {type(e).__name__}: {e}") from e
        if response.status not in {200, 201}:
            raise refusal(response.status, text, response.headers)
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise errors.ClusterMoved(f"{self._host} does not speak as an API server does")
        return response.status, answer


def path_of(manifest: Mapping[str, Any]) -> str:
    """Where an object lives. All kinds that Pullkeeper applies have regular plurals."""
    metadata, version = manifest["metadata"], manifest["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{space}/{manifest['kind'].lower()}s/{metadata['name']}"


def _worth_retrying(error: Exception) -> bool | timedelta:
    return isinstance(error, _SOON) and not isinstance(error, Overtaken) and error.again(_DEADLINE / 2)


def _no_redirects() -> aiohttp.TraceConfig:
    """An API server never redirects an apply. Whoever does wants the token."""

    async def refuse(*_: object) -> None:
        raise errors.ClusterMoved("the server answered with a redirect")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


@contextmanager
def _in_memory(pem: str) -> Iterator[str]:
    """A path to the PEM that exists in memory only: Python's ssl module takes client certificates by path alone."""
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
