"""Artifact Registry's handshake and manifests, with valid and invalid tokens of Google's stand-in."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from local.azure.entra import Entra
from local.clock import Clock
from local.google.registry import Registry
from local.google.token_services import CLOUD_SCOPE, READ_SCOPE, Google
from local.serving import Authority, Server

REPOSITORY = "deepintshield/hub"
IMAGE = f"{REPOSITORY}/deepintshield"
READER = "serviceAccount:image-pull@deepintshield.iam.gserviceaccount.com"
MINUTE = timedelta(minutes=1)
DENIED = (
    'Permission "artifactregistry.repositories.downloadArtifacts" denied on resource '
    '"projects/deepintshield/locations/127.0.0.1/repositories/hub" (or it may not exist)'
)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: Any
    raw: bytes

    @property
    def error(self) -> tuple[int, str, str]:
        return self.status, self.body["errors"][0]["code"], self.body["errors"][0]["message"]


@dataclass(frozen=True, slots=True)
class Host:
    clock: Clock
    google: Google
    registry: Registry
    digest: str
    server: Server
    session: aiohttp.ClientSession

    def token(self, member: str = READER, scope: str = READ_SCOPE, life: timedelta = 60 * MINUTE) -> str:
        """An access token of Google."""
        return self.google.issue("ya29.c.", member, frozenset({scope}), life)[0]

    async def send(self, path: str, authorization: str | None = None, method: str = "GET") -> Response:
        headers = {"Authorization": authorization} if authorization is not None else {}
        async with self.session.request(method, self.server.url + path, headers=headers) as response:
            raw = await response.read()
            json = await response.json(content_type=None) if raw else None
            return Response(response.status, dict(response.headers), json, raw)

    async def handshake(self, authorization: str | None, scope: str = f"repository:{IMAGE}:pull") -> Response:
        return await self.send(f"/v2/token?service={self.server.host}&scope={scope}", authorization)

    async def manifest(self, authorization: str | None, reference: str = "latest", method: str = "GET") -> Response:
        return await self.send(f"/v2/{IMAGE}/manifests/{reference}", authorization, method)


def basic(token: str, user: str = "oauth2accesstoken") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


@pytest.fixture
async def host(authority: Authority, entra: Entra) -> AsyncIterator[Host]:
    clock = Clock()
    google = Google(entra.with_clock(clock), clock)
    registry = Registry(google, clock)
    digest = registry.add_image(IMAGE, "latest")
    registry.add_image(f"{REPOSITORY}/other", "1.0")
    registry.add_image("deepintshield/private/image", "latest")
    registry.grant(REPOSITORY, READER)
    server = Server(registry.application, authority=authority)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Host(clock, google, registry, digest, server, session)
    await server.stop()


@pytest.mark.parametrize("scope", [READ_SCOPE, CLOUD_SCOPE])
async def test_a_pull_is_challenge_handshake_and_manifest(host: Host, scope: str) -> None:
    """As a kubelet pulls: realm, service and scope come from the challenge."""
    challenge = await host.manifest(None)
    parameters = dict(re.findall(r'(\w+)="([^"]+)"', challenge.headers["WWW-Authenticate"]))
    path = parameters["realm"].removeprefix(host.server.url)
    query = f"service={parameters['service']}&scope={parameters['scope']}"
    handshake = await host.send(f"{path}?{query}", basic(host.token(scope=scope)))
    manifest = await host.manifest(f"Bearer {handshake.body['token']}")

    assert challenge.error[:2] == (401, "UNAUTHORIZED")
    assert parameters["scope"] == f"repository:{IMAGE}:pull"
    assert (handshake.status, handshake.body["expires_in"]) == (200, 300)
    assert manifest.status == 200
    assert manifest.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest.headers["Docker-Content-Digest"] == host.digest
    assert f"sha256:{hashlib.sha256(manifest.raw).hexdigest()}" == host.digest


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !",
        "Bearer guessed",
        "Digest x",
        basic("guessed"),
        basic("ya29.c.TOKEN", "another-user"),
        "Basic b2F1dGgyYWNjZXNzdG9rZW4=",
    ],
)
async def test_an_invalid_header_is_a_401(host: Host, header: str) -> None:
    header = header.replace(basic("ya29.c.TOKEN", "another-user"), basic(host.token(), "another-user"))

    assert [(await host.handshake(header)).status, (await host.manifest(header)).status] == [401, 401]


async def test_an_expired_token_is_a_401(host: Host) -> None:
    token = basic(host.token())
    assert (await host.send("/v2/", token)).status == 200
    host.clock.advance(60 * MINUTE)

    paths = [await host.handshake(token), await host.manifest(token), await host.send("/v2/", token)]
    assert [one.status for one in paths] == [401, 401, 401]


async def test_without_a_grant_or_with_another_scope_a_pull_is_denied(host: Host) -> None:
    other_scope = basic(host.token(scope="https://www.googleapis.com/auth/iam"))
    assert (await host.handshake(other_scope)).error == (403, "DENIED", DENIED)
    host.registry.revoke(REPOSITORY, READER)
    token = basic(host.token())

    assert (await host.handshake(token)).error == (403, "DENIED", DENIED)
    assert (await host.manifest(token)).error == (403, "DENIED", DENIED)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("repository:deepintshield/nothing/image:pull", (404, "NAME_UNKNOWN")),
        ("repository:deepintshield/private/image:pull", (403, "DENIED")),
        (f"repository:{IMAGE}:pull&scope=repository:deepintshield/private/image:pull", (403, "DENIED")),
        (f"repository:{IMAGE}:push", (403, "DENIED")),
        (f"repository:{IMAGE}:pull,push", (403, "DENIED")),
        (f"repository:{IMAGE}:", (403, "DENIED")),
        ("registry:catalog:*", (501, "UNSUPPORTED")),
    ],
)
async def test_a_handshake_is_refused_for_what_the_reader_may_not(
    host: Host, scope: str, expected: tuple[int, str]
) -> None:
    assert (await host.handshake(basic(host.token()), scope)).error[:2] == expected


@pytest.mark.parametrize("reference", ["1.0", "sha256:" + "0" * 64])
async def test_a_missing_manifest_is_unknown(host: Host, reference: str) -> None:
    assert (await host.manifest(basic(host.token()), reference)).error[:2] == (404, "MANIFEST_UNKNOWN")


async def test_a_registry_token_is_for_the_images_it_was_issued_for(host: Host) -> None:
    scopes = [f"repository:{REPOSITORY}/other:pull", f"repository:{IMAGE}:pull"]
    handshakes = [await host.handshake(basic(host.token()), one) for one in (scopes[0], "&scope=".join(scopes))]
    handshakes.append(await host.send("/v2/token", basic(host.token())))

    tokens = [f"Bearer {one.body['token']}" for one in handshakes]
    assert [(await host.manifest(token)).status for token in tokens] == [403, 200, 403]


async def test_an_anonymous_token_opens_v2_but_no_image(host: Host) -> None:
    """Which is why `/v2/` is no probe."""
    token = f"Bearer {(await host.handshake(None)).body['token']}"

    assert (await host.send("/v2/")).error[:2] == (401, "UNAUTHORIZED")
    assert (await host.send("/v2/", token)).status == 200
    assert (await host.manifest(token)).error == (403, "DENIED", DENIED)
