"""Artifact Registry's Docker API: token handshake and manifests, for tokens that Google's stand-in issued."""

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

from local.google.token_services import CLOUD_SCOPE, READ_SCOPE, Google
from local.serving import Refusal

_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_PULL: Final = "artifactregistry.repositories.downloadArtifacts"
_PUSH: Final = "artifactregistry.repositories.uploadArtifacts"
_FIVE_MINUTES: Final = timedelta(minutes=5)


@dataclass(slots=True)
class Repository:
    """PROJECT/REPOSITORY: who may read it, and its manifests by `IMAGE:TAG` and `IMAGE@DIGEST`."""

    readers: set[str] = field(default_factory=set)
    manifests: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Token:
    """A registry token: the images it may pull, and its end. An anonymous one may pull none."""

    names: frozenset[str]
    expires_at: datetime


class Registry:
    """The registry host of one location. Image names are PROJECT/REPOSITORY/IMAGE."""

    def __init__(
        self, google: Google, clock: Callable[[], datetime], *, middlewares: Sequence[Middleware] = ()
    ) -> None:
        self._google = google
        self._clock = clock
        self._repositories: dict[str, Repository] = {}
        self._tokens: dict[str, _Token] = {}
        self.application = web.Application(middlewares=middlewares)
        self.application.router.add_get("/v2/", self._ping)
        self.application.router.add_get("/v2/token", self._handshake)
        self.application.router.add_get("/v2/{name:.+}/manifests/{reference}", self._manifest)

    def add_image(self, name: str, tag: str) -> str:
        """Add an empty image. Return its digest."""
        empty = {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": _digest(b"{}"),
            "size": 2,
        }
        content = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": empty, "layers": [empty]}
        # The annotation makes the digests of empty images differ.
        manifest = json.dumps({**content, "annotations": {"org.opencontainers.image.ref.name": f"{name}:{tag}"}})
        digest = _digest(manifest.encode())
        repository, image = _split(name)
        held = self._repositories.setdefault(repository, Repository())
        held.manifests[f"{image}:{tag}"] = held.manifests[f"{image}@{digest}"] = manifest.encode()
        return digest

    def remove_image(self, name: str) -> None:
        """Delete all tags and manifests of an image, as a clean-up policy does. The repository stays."""
        repository, image = _split(name)
        held = self._repositories[repository].manifests
        for key in [key for key in held if key.startswith((f"{image}:", f"{image}@"))]:
            del held[key]

    def grant(self, repository: str, member: str) -> None:
        """Grant roles/artifactregistry.reader on PROJECT/REPOSITORY to `serviceAccount:EMAIL` or a `principal://...`."""
        self._repositories[repository].readers.add(member)

    def revoke(self, repository: str, member: str) -> None:
        self._repositories[repository].readers.discard(member)

    def may_pull(self, authorization: str, name: str) -> bool:
        """Whether this Authorization header may pull the image, by a registry token or an access token of Google."""
        token = _credential(authorization)
        held = self._find_token(token)
        return (held is not None and name in held.names) or self._is_reader(token, name)

    async def _ping(self, request: web.Request) -> web.Response:
        """200 for any valid token, even one that may pull nothing."""
        self._authenticate(request)
        return web.json_response({})

    async def _handshake(self, request: web.Request) -> web.Response:
        """Issue a registry token for all scopes asked for, or for none of them."""
        header = request.headers.get("Authorization")
        if header is None:
            return self._issue(frozenset(), _FIVE_MINUTES)
        token = _credential(header)
        issued = self._google.lookup(token)
        if issued is None:
            raise _error(401, "UNAUTHORIZED", "authentication failed")
        names = set()
        for scope in request.query.getall("scope", []):
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind != "repository":
                raise _error(501, "UNSUPPORTED", f"The local stand-in for Artifact Registry does not play {scope}")
            self._check_access(request, token, name, actions.split(","))
            names.add(name)
        return self._issue(frozenset(names), min(issued.expires_at - self._clock(), _FIVE_MINUTES))

    def _check_access(self, request: web.Request, token: str, name: str, actions: Sequence[str]) -> None:
        repository, _ = _split(name)
        if repository not in self._repositories:
            raise _error(404, "NAME_UNKNOWN", f"Repository {repository} not found")
        if set(actions) != {"pull"}:
            raise _deny(request, name, _PUSH)
        if not self._is_reader(token, name):
            raise _deny(request, name, _PULL)

    async def _manifest(self, request: web.Request) -> web.Response:
        name, reference = request.match_info["name"], request.match_info["reference"]
        self._authenticate(request, name)
        if not self.may_pull(request.headers["Authorization"], name):
            raise _deny(request, name, _PULL)
        repository, image = _split(name)
        key = f"{image}@{reference}" if reference.startswith("sha256:") else f"{image}:{reference}"
        manifest = self._repositories[repository].manifests.get(key)
        if manifest is None:
            raise _error(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{reference}"')
        headers = {"Docker-Content-Digest": _digest(manifest)}
        return web.Response(body=manifest, content_type=_MANIFEST_TYPE, headers=headers)

    def _authenticate(self, request: web.Request, name: str | None = None) -> None:
        """Raise the challenge unless the request has a registry token or an access token of Google."""
        token = _credential(request.headers.get("Authorization", ""))
        if self._find_token(token) is None and self._google.lookup(token) is None:
            scope = f',scope="repository:{name}:pull"' if name else ""
            realm = f'Bearer realm="https://{request.host}/v2/token",service="{request.host}"{scope}'
            raise _error(401, "UNAUTHORIZED", "authentication required", realm)

    def _find_token(self, token: str) -> _Token | None:
        held = self._tokens.get(token)
        return held if held and self._clock() < held.expires_at else None

    def _is_reader(self, token: str, name: str) -> bool:
        issued = self._google.lookup(token)
        repository = self._repositories.get(_split(name)[0])
        return bool(
            issued and repository and issued.scopes & {CLOUD_SCOPE, READ_SCOPE} and issued.member in repository.readers
        )

    def _issue(self, names: frozenset[str], life: timedelta) -> web.Response:
        token = secrets.token_urlsafe(64)
        self._tokens[token] = _Token(names, self._clock() + life)
        return web.json_response({"token": token, "expires_in": int(life.total_seconds())})


def _split(name: str) -> tuple[str, str]:
    """PROJECT/REPOSITORY, and the image."""
    project, _, rest = name.partition("/")
    repository, _, image = rest.partition("/")
    return f"{project}/{repository}", image


def _credential(authorization: str) -> str:
    """The token in a header: after Bearer, or as the password of the user oauth2accesstoken. Empty if there is none."""
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credential
    try:
        user, _, password = base64.b64decode(credential, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return password if scheme.lower() == "basic" and user == "oauth2accesstoken" else ""


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _deny(request: web.Request, name: str, permission: str) -> Refusal:
    project, _, repository = _split(name)[0].partition("/")
    location = request.host.partition(":")[0].removesuffix("-docker.pkg.dev")
    resource = f"projects/{project}/locations/{location}/repositories/{repository}"
    return _error(403, "DENIED", f'Permission "{permission}" denied on resource "{resource}" (or it may not exist)')


def _error(status: int, code: str, message: str, challenge: str | None = None) -> Refusal:
    headers = {"WWW-Authenticate": challenge} if challenge else None
    return Refusal(status, {"errors": [{"code": code, "message": message}]}, headers)
