"""The one Kubernetes transport: server-side apply, get, list, patch, delete.

Raw calls of `kubernetes.aio`'s REST client: the generated API classes cost a second of cold start, and their apply
silently becomes a merge when the content type is missing. One client per cluster and refresh. Only the retries written
here are made. Responses to writes are requested as metadata only, so that no secret's content ever comes back.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp

from pullkeeper import bounded, errors
from pullkeeper.cluster.connection import connect, host_of
from pullkeeper.cluster.ownership import MANAGER, OBSERVER, ObjectMetadata
from pullkeeper.cluster.refusals import NotFound, PatchTestFailed, map_refusal
from pullkeeper.deadline import remaining
from pullkeeper.model import Endpoint
from pullkeeper.retries import attempts
from pullkeeper.tokens import ClientCertificate, EntraToken
from pullkeeper.version import VERSION

_REVIEWS: Final = "authorization.k8s.io/v1"
_JSON: Final = "application/json"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE: Final = 500
_TIMEOUT: Final = 40.0
"""In seconds, for one try: the server itself ends a PATCH after 34 s."""
_CONNECT_TIMEOUT: Final = 5.0
"""In seconds: a firewall that drops packets shows as no connection."""
_DEADLINE: Final = timedelta(seconds=45)
"""For all tries of one call."""
_LONGEST_ANSWER: Final = 1024 * 1024
_LONGEST_PAGE: Final = 8 * _LONGEST_ANSWER
"""An object's annotations alone may have 256 KiB, and `kubectl apply` keeps a copy of the object in one."""
_REDIRECTS: Final = range(300, 400)
_USER_AGENT: Final = f"pullkeeper/{VERSION}"


class Api:
    """One cluster's API server. `async with` it; calls raise ClusterError."""

    def __init__(
        self, endpoint: Endpoint, credential: EntraToken | ClientCertificate | None, *, dry: bool = False
    ) -> None:
        """credential: a token for AKS, or a client certificate; None to call as no one. dry: the server checks every
        write, and keeps none. Raises ClusterTlsUntrusted.
        """
        self._dry = {"dryRun": "All"} if dry else {}
        self._host = host_of(endpoint)
        self._token = credential if isinstance(credential, EntraToken) else None
        self._client = connect(endpoint, credential if isinstance(credential, ClientCertificate) else None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def apply(
        self, path: str, body: Mapping[str, Any], *, force: bool = False, strict: bool = False
    ) -> ObjectMetadata:
        """Apply an object server-side under the field manager `pullkeeper`.

        force: take over fields of other managers; without it they raise OwnershipConflict if the value differs.
        strict: refuse unknown fields instead of dropping them. No resourceVersion is sent: the last writer wins.
        """
        query = {"fieldManager": MANAGER, "force": str(force).lower()}
        if strict:
            query["fieldValidation"] = "Strict"
        return await self._apply(path, body, query)

    async def look(self, path: str, kind: str, **fields: str) -> ObjectMetadata | None:
        """Read an object's metadata with no right but `patch` on its name: the server answers the dry run of an empty
        apply with the metadata of the object that exists. None if there is none. fields: with these; those with another
        value raise OwnershipConflict.
        """
        namespace, _, name = path.split("/")[-3:]
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}
        seen = await self._apply(path, body, {"fieldManager": OBSERVER, "dryRun": "All"})
        return None if seen.created else seen

    async def get(self, path: str) -> dict[str, Any]:
        """Read an object, never a secret: Pullkeeper's role has no right to that. Raises NotFound."""
        _, answer = await self._call_for_object("GET", path, {}, {"Accept": _JSON}, None)
        return answer

    async def find(self, path: str) -> dict[str, Any] | None:
        """Read an object, never a secret. None if object or namespace is missing."""
        try:
            return await self.get(path)
        except (NotFound, errors.NamespaceMissing):
            return None

    async def list_page(
        self, path: str, token: str, *, labels: str = "", fields: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """Return the metadata of up to 500 objects, and the token of the next page: "" behind the last, and for the
        first. labels, fields: selectors. Raises ListExpired for a token that is too old.
        """
        query = {"limit": str(_PAGE), "labelSelector": labels, "fieldSelector": fields, "continue": token}
        _, answer = await self._call_with_retries("GET", path, query, {"Accept": _METADATA_LIST}, None)
        try:
            items = answer["items"] or ()  # null for none
            return [item["metadata"] for item in items], answer["metadata"].get("continue", "")
        except (KeyError, TypeError, AttributeError):
            raise self._no_api_server() from None

    async def list_objects(self, path: str, most: int) -> list[dict[str, Any]]:
        """Return up to `most` whole objects, of whatever fits into 8 MiB. Never secrets."""
        _, answer = await self._call_with_retries("GET", path, {"limit": str(most)}, {"Accept": _JSON}, None)
        items = answer.get("items")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self._no_api_server()
        return items

    async def withdraw(self, path: str, manifest: Mapping[str, Any], uid: str) -> ObjectMetadata:
        """Remove every field that we have applied to the object with this uid: an empty apply does that."""
        metadata = {key: manifest["metadata"][key] for key in ("name", "namespace") if key in manifest["metadata"]}
        bare = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": {**metadata, "uid": uid}}
        return await self._apply(path, bare, {"fieldManager": MANAGER})

    async def merge_patch(self, path: str, body: Mapping[str, Any]) -> None:
        headers = {"Accept": _METADATA_ONLY, "Content-Type": "application/merge-patch+json"}
        await self._call_for_object("PATCH", path, {"fieldManager": MANAGER}, headers, dict(body))

    async def delete(self, path: str, uid: str) -> None:
        """Delete the object with this uid. One that was created again meanwhile has another uid, and stays."""
        dry = {"dryRun": ["All"]} if self._dry else {}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}, **dry}
        # An object with finalizers comes back as a whole otherwise: it is still there.
        headers = {"Accept": _METADATA_ONLY, "Content-Type": _JSON}
        with contextlib.suppress(NotFound):
            await self._call_with_retries("DELETE", path, {}, headers, body)

    async def is_allowed(self, verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> bool:
        """Whether we have that right in a namespace, or in every one, for an object, or for all."""
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name}
        review = {"apiVersion": _REVIEWS, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        headers = {"Accept": _JSON, "Content-Type": _JSON}
        path = f"/apis/{_REVIEWS}/selfsubjectaccessreviews"
        _, answer = await self._call_with_retries("POST", path, {}, headers, review)
        status = answer.get("status")
        if not isinstance(status, dict):
            raise self._no_api_server()
        return bool(status.get("allowed"))

    async def json_patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> None:
        headers = {"Accept": _METADATA_ONLY, "Content-Type": "application/json-patch+json"}
        await self._call_for_object("PATCH", path, {"fieldManager": MANAGER}, headers, list(operations))

    async def _apply(self, path: str, body: Mapping[str, Any], query: dict[str, str]) -> ObjectMetadata:
        headers = {"Accept": _METADATA_ONLY, "Content-Type": "application/apply-patch+yaml"}
        status, answer = await self._call_for_object("PATCH", path, query, headers, dict(body))
        return ObjectMetadata(created=status == 201, metadata=answer["metadata"])  # noqa: PLR2004 - Created

    async def _call_for_object(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        """Make a call whose response is an object, or an object's metadata."""
        dry = self._dry if method == "PATCH" else {}
        status, answer = await self._call_with_retries(method, path, {**query, **dry}, headers, body)
        metadata = answer.get("metadata")
        if not isinstance(metadata, dict) or "uid" not in metadata:
            raise self._no_api_server()
        return status, answer

    async def _call_with_retries(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        failure: errors.PullkeeperError | None = None
        try:  # before stamina, which costs a twentieth of a refresh
            return await self._call(method, path, query, headers, body)
        except errors.PullkeeperError as e:
            failure = e
        async for attempt in attempts(3, within=_DEADLINE, when=_may_retry):
            with attempt:
                if failure:
                    first, failure = failure, None
                    raise first
                return await self._call(method, path, query, headers, body)
        raise AssertionError("stamina raises the last error")

    async def _call(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        authorization = {"Authorization": f"Bearer {self._token.reveal()}"} if self._token else {}
        url = f"https://{self._host}{path}{'?' * bool(query)}{urlencode(query)}"
        headers = {**authorization, **headers, "User-Agent": _USER_AGENT}
        limits = aiohttp.ClientTimeout(total=remaining(_TIMEOUT), sock_connect=_CONNECT_TIMEOUT)
        try:
            data = None if body is None else json.dumps(body)
            async with await self._client.call(method, url, headers, data, limits) as response:
                longest = _LONGEST_PAGE if "limit" in query else _LONGEST_ANSWER
                text = await bounded.read(response, longest)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as e:
            raise errors.ClusterTlsUntrusted(f"{self._host}: {e}") from e
        except (aiohttp.ClientConnectorDNSError, UnicodeError) as e:  # UnicodeError: what can be no name
            raise errors.ClusterMoved(f"{self._host} does not resolve: {e}") from e
        except (aiohttp.ClientError, OSError) as e:
            raise errors.ClusterUnreachable(f"{self._host}: {type(e).__name__}: {e}") from e
        if response.status in _REDIRECTS:
            raise errors.ClusterMoved("the server answered with a redirect")
        if response.status not in {200, 201}:
            raise map_refusal(response.status, text, response.headers)
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._no_api_server()
        return response.status, answer

    def _no_api_server(self) -> errors.ClusterMoved:
        return errors.ClusterMoved(f"{self._host} does not respond as an API server does")


def plural_of(kind: str) -> str:
    """The resource of a kind. All kinds that Pullkeeper applies have regular plurals."""
    return re.sub("y$", "ie", kind.lower()) + "s"


def path_of(manifest: Mapping[str, Any]) -> str:
    """The object's path at the API server."""
    metadata, version = manifest["metadata"], manifest["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{space}/{plural_of(manifest['kind'])}/{metadata['name']}"


def _may_retry(failure: errors.PullkeeperError) -> bool:
    """A server that does not respond at all is left to the queue: its retries would hold a place that others need."""
    if isinstance(failure, PatchTestFailed):
        return False  # the caller has to read again first
    return isinstance(failure, (errors.ClusterThrottled, errors.ClusterUnwell, errors.AdmissionUnavailable))
