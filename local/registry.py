"""Artifact Registry's Docker side: token handshake and manifests, for tokens that Google issued and no others."""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from local.google import Google

_CLOUD_SCOPES: Final = frozenset(
    {
        "https://www.googleapis.com/auth/cloud-platform",
        "https://www.googleapis.com/auth/cloud-platform.read-only",
    }
)
_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_FIVE_MINUTES: Final = timedelta(minutes=5)


@dataclass(slots=True)
class Repository:
    """PROJECT/REPOSITORY: who may read it, and its manifests by `IMAGE:TAG` and `IMAGE@DIGEST`."""

    readers: set[str] = field(default_factory=set)
    manifests: dict[str, bytes] = field(default_factory=dict)


class Registry:
    """One location's registry host."""

    def __init__(
        self, google: Google, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()
    ) -> None:
        self._google = google
        self._clock = clock
        self._repositories: dict[str, Repository] = {}
        # A registry token: what it opens (None: nothing, an anonymous one) and until when.
        self._tokens: dict[str, tuple[str | None, datetime]] = {}
        self.application = web.Application(middlewares=middlewares)
        self.application.router.add_get("/v2/", self._ping)
        self.application.router.add_get("/v2/token", self._handshake)
        self.application.router.add_get("/v2/{name:.+}/manifests/{reference}", self._manifest)

    def add_image(self, name: str, tag: str) -> str:
        """An image PROJECT/REPOSITORY/IMAGE with nothing in it. Its digest."""
        empty = {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
            "size": 2,
        }
        manifest = json.dumps({"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": empty, "layers": [empty]})
        digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
        repository, image = _split(name)
        held = self._repositories.setdefault(repository, Repository())
        held.manifests[f"{image}:{tag}"] = held.manifests[f"{image}@{digest}"] = manifest.encode()
        return digest

    def grant(self, repository: str, member: str) -> None:
        """roles/artifactregistry.reader on PROJECT/REPOSITORY."""
        self._repositories[repository].readers.add(member)

    def revoke(self, repository: str, member: str) -> None:
        self._repositories[repository].readers.discard(member)

    def opens(self, authorization: str, name: str) -> bool:
        """Whether this Authorization header may pull the image: a registry token, or Google's own token."""
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() == "basic":
            return self._may_pull(_password(credential) or "", name)
        opened, until = self._tokens.get(credential, (None, self._clock()))
        return (opened == name and self._clock() < until) or self._may_pull(credential, name)

    async def _ping(self, request: web.Request) -> web.Response:
        """200 for any token that is good, whatever it may do: this proves nothing."""
        _, _, credential = request.headers.get("Authorization", "").partition(" ")
        token = _password(credential) or credential
        if token in self._tokens or self._google.lookup(token):
            return web.json_response({})
        return self._challenge(request, None)

    async def _handshake(self, request: web.Request) -> web.Response:
        kind, _, rest = request.query.get("scope", "").partition(":")
        name, _, _ = rest.rpartition(":")
        header = request.headers.get("Authorization", "")
        if not header:
            return self._token(None)
        password = _password(header.removeprefix("Basic "))
        if password is None or self._google.lookup(password) is None:
            return _errors(401, "UNAUTHORIZED", "authentication failed")
        if kind == "repository":
            if _split(name)[0] not in self._repositories:
                return _errors(404, "NAME_UNKNOWN", f"Repository {_split(name)[0]} not found")
            if not self._may_pull(password, name):
                return self._denied(request, name)
        return self._token(name)

    async def _manifest(self, request: web.Request) -> web.Response:
        name, reference = request.match_info["name"], request.match_info["reference"]
        header = request.headers.get("Authorization", "")
        if not header:
            return self._challenge(request, name)
        if not self.opens(header, name):
            return self._denied(request, name)
        repository, image = _split(name)
        key = f"{image}@{reference}" if reference.startswith("sha256:") else f"{image}:{reference}"
        manifest = self._repositories[repository].manifests.get(key)
        if manifest is None:
            return _errors(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{reference}"')
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        return web.Response(body=manifest, content_type=_MANIFEST_TYPE, headers={"Docker-Content-Digest": digest})

    def _may_pull(self, token: str, name: str) -> bool:
        issued = self._google.lookup(token)
        repository = self._repositories.get(_split(name)[0])
        return bool(issued and repository and issued.scopes & _CLOUD_SCOPES and issued.member in repository.readers)

    def _token(self, name: str | None) -> web.Response:
        token = secrets.token_urlsafe(64)
        self._tokens[token] = name, self._clock() + _FIVE_MINUTES
        return web.json_response({"token": token, "expires_in": int(_FIVE_MINUTES.total_seconds())})

    def _denied(self, request: web.Request, name: str) -> web.Response:
        project, _, repository = _split(name)[0].partition("/")
        location = request.host.partition("-docker.")[0].partition(":")[0]
        return _errors(
            403,
            "DENIED",
            'Permission "artifactregistry.repositories.downloadArtifacts" denied on resource '
            f'"projects/{project}/locations/{location}/repositories/{repository}" (or it may not exist)',
        )

    def _challenge(self, request: web.Request, name: str | None) -> web.Response:
        scope = f',scope="repository:{name}:pull"' if name else ""
        response = _errors(401, "UNAUTHORIZED", "authentication required")
        realm = f"https://{request.host}/v2/token"
        response.headers["WWW-Authenticate"] = f'Bearer realm="{realm}",service="{request.host}"{scope}'
        return response


def _split(name: str) -> tuple[str, str]:
    """PROJECT/REPOSITORY and the rest."""
    project, _, rest = name.partition("/")
    repository, _, image = rest.partition("/")
    return f"{project}/{repository}", image


def _password(credential: str) -> str | None:
    """The token in Basic credentials, if the user name is the one that goes with tokens."""
    try:
        user, _, password = base64.b64decode(credential, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if user == "oauth2accesstoken" else None


def _errors(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)
