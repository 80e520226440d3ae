"""Artifact Registry's handshake and manifests, with valid and invalid tokens of Google's stand-in."""

import base64
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


@dataclass(frozen=True, slots=True)
class Host:
    clock: Clock
    google: Google
    registry: Registry
    server: Server
    session: aiohttp.ClientSession

    def token(self, member: str = READER, scope: str = READ_SCOPE) -> str:
        """An access token of Google."""
        return self.google.issue("ya29.c.", member, frozenset({scope}), timedelta(hours=1))[0]

    async def send(self, path: str, authorization: str | None = None) -> tuple[int, Any]:
        """Status and body."""
        headers = {"Authorization": authorization} if authorization is not None else {}
        async with self.session.get(self.server.url + path, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def refusal(self, path: str, authorization: str | None = None) -> tuple[int, str]:
        """Status and code."""
        status, body = await self.send(path, authorization)
        return status, body["errors"][0]["code"]


MANIFEST = f"/v2/{IMAGE}/manifests/latest"
HANDSHAKE = f"/v2/token?service=registry&scope=repository:{IMAGE}:pull"


def basic(token: str, user: str = "oauth2accesstoken") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


@pytest.fixture
async def host(authority: Authority, entra: Entra) -> AsyncIterator[Host]:
    clock = Clock()
    google = Google(entra.with_clock(clock), clock)
    registry = Registry(google, clock)
    registry.add_image(IMAGE, "latest")
    registry.add_image(f"{REPOSITORY}/other", "1.0")
    registry.add_image("deepintshield/private/image", "latest")
    registry.grant(REPOSITORY, READER)
    server = Server(registry.application, authority=authority)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Host(clock, google, registry, server, session)
    await server.stop()


@pytest.mark.parametrize("scope", [READ_SCOPE, CLOUD_SCOPE])
async def test_a_pull_is_challenge_handshake_and_manifest(host: Host, scope: str) -> None:
    """As a kubelet pulls: realm, service and scope come from the challenge."""
    async with host.session.get(host.server.url + MANIFEST) as challenge:
        parameters = dict(re.findall(r'(\w+)="([^"]+)"', challenge.headers["WWW-Authenticate"]))
    path = parameters["realm"].removeprefix(host.server.url)
    query = f"service={parameters['service']}&scope={parameters['scope']}"
    status, body = await host.send(f"{path}?{query}", basic(host.token(scope=scope)))

    assert (challenge.status, parameters["scope"]) == (401, f"repository:{IMAGE}:pull")
    assert (status, body["expires_in"]) == (200, 300)
    assert (await host.send(MANIFEST, f"Bearer {body['token']}"))[0] == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !",
        "Bearer guessed",
        "Digest x",
        basic("guessed"),
        basic("TOKEN", "another-user"),
        "Basic b2F1dGgyYWNjZXNzdG9rZW4=",
    ],
)
async def test_an_invalid_header_is_a_401(host: Host, header: str) -> None:
    header = header.replace(basic("TOKEN", "another-user"), basic(host.token(), "another-user"))
    assert [(await host.send(path, header))[0] for path in (HANDSHAKE, MANIFEST)] == [401, 401]


async def test_an_expired_token_is_a_401(host: Host) -> None:
    token = basic(host.token())
    assert (await host.send("/v2/", token))[0] == 200
    host.clock.advance(timedelta(hours=1))
    assert [(await host.send(path, token))[0] for path in (HANDSHAKE, MANIFEST, "/v2/")] == [401, 401, 401]


async def test_without_a_grant_or_with_another_scope_a_pull_is_denied(host: Host) -> None:
    other_scope = basic(host.token(scope="https://www.googleapis.com/auth/iam"))
    assert await host.refusal(HANDSHAKE, other_scope) == (403, "DENIED")
    host.registry.revoke(REPOSITORY, READER)
    token = basic(host.token())
    assert [await host.refusal(path, token) for path in (HANDSHAKE, MANIFEST)] == [(403, "DENIED")] * 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("token?scope=repository:deepintshield/nothing/image:pull", (404, "NAME_UNKNOWN")),
        ("token?scope=repository:deepintshield/private/image:pull", (403, "DENIED")),
        (f"token?scope=repository:{IMAGE}:pull&scope=repository:deepintshield/private/image:pull", (403, "DENIED")),
        (f"token?scope=repository:{IMAGE}:push", (403, "DENIED")),
        (f"token?scope=repository:{IMAGE}:pull,push", (403, "DENIED")),
        (f"token?scope=repository:{IMAGE}:", (403, "DENIED")),
        ("token?scope=registry:catalog:*", (501, "UNSUPPORTED")),
        (f"{IMAGE}/manifests/1.0", (404, "MANIFEST_UNKNOWN")),
        (f"{IMAGE}/manifests/sha256:{'0' * 64}", (404, "MANIFEST_UNKNOWN")),
    ],
)
async def test_a_reader_is_refused_what_it_may_not_read(host: Host, path: str, expected: tuple[int, str]) -> None:
    assert await host.refusal(f"/v2/{path}", basic(host.token())) == expected


async def test_a_registry_token_is_for_the_images_it_was_issued_for(host: Host) -> None:
    """One without images, or for no one, opens none: so `/v2/` is no probe."""
    other = f"/v2/token?scope=repository:{REPOSITORY}/other:pull"
    user = basic(host.token())
    issued = [
        await host.send(path, header)
        for path, header in ((other, user), (HANDSHAKE, user), ("/v2/token", user), (HANDSHAKE, None))
    ]
    tokens = [f"Bearer {body['token']}" for _, body in issued]
    assert [(await host.send(MANIFEST, token))[0] for token in tokens] == [403, 200, 403, 403]
    assert (await host.send("/v2/", tokens[3]))[0] == 200
