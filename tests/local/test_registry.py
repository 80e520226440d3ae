"""Artifact Registry's handshake and manifests, for tokens that Google's stand-in issued and for all others."""

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
class Answer:
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
        """One of Google's."""
        return self.google._issue("ya29.c.", member, frozenset({scope}), life)[0]

    async def ask(self, path: str, authorization: str | None = None, method: str = "GET") -> Answer:
        headers = {"Authorization": authorization} if authorization is not None else {}
        async with self.session.request(method, self.server.url + path, headers=headers) as answer:
            raw = await answer.read()
            json = await answer.json(content_type=None) if raw else None
            return Answer(answer.status, dict(answer.headers), json, raw)

    async def handshake(self, authorization: str | None, scope: str = f"repository:{IMAGE}:pull") -> Answer:
        return await self.ask(f"/v2/token?service={self.server.host}&scope={scope}", authorization)

    async def manifest(self, authorization: str | None, reference: str = "latest", method: str = "GET") -> Answer:
        return await self.ask(f"/v2/{IMAGE}/manifests/{reference}", authorization, method)


def basic(token: str, user: str = "oauth2accesstoken") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


@pytest.fixture
async def host(authority: Authority) -> AsyncIterator[Host]:
    clock = Clock()
    google = Google(Entra(clock), clock)
    registry = Registry(google, clock)
    digest = registry.add_image(IMAGE, "latest")
    registry.add_image(f"{REPOSITORY}/other", "1.0")
    registry.grant(REPOSITORY, READER)
    server = Server(registry.application, authority=authority)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Host(clock, google, registry, digest, server, session)
    await server.stop()


@pytest.mark.parametrize("scope", [READ_SCOPE, CLOUD_SCOPE])
async def test_a_pull_goes_by_challenge_handshake_and_manifest(host: Host, scope: str) -> None:
    """As a kubelet does it, with nothing but what it is told on the way."""
    challenge = await host.manifest(None)
    told = dict(re.findall(r'(\w+)="([^"]+)"', challenge.headers["WWW-Authenticate"]))
    path = told["realm"].removeprefix(host.server.url)
    handshake = await host.ask(
        f"{path}?service={told['service']}&scope={told['scope']}", basic(host.token(scope=scope))
    )
    manifest = await host.manifest(f"Bearer {handshake.body['token']}")

    assert challenge.error[:2] == (401, "UNAUTHORIZED")
    assert told["scope"] == f"repository:{IMAGE}:pull"
    assert (handshake.status, handshake.body["expires_in"]) == (200, 300)
    assert manifest.status == 200
    assert manifest.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest.headers["Docker-Content-Digest"] == host.digest
    assert f"sha256:{hashlib.sha256(manifest.raw).hexdigest()}" == host.digest


async def test_head_and_digest_find_the_same_manifest(host: Host) -> None:
    token = basic(host.token())
    head, by_digest = await host.manifest(token, method="HEAD"), await host.manifest(token, host.digest)

    assert (head.status, head.raw, head.headers["Docker-Content-Digest"]) == (200, b"", host.digest)
    assert (by_digest.status, by_digest.headers["Docker-Content-Digest"]) == (200, host.digest)


async def test_googles_own_token_opens_a_manifest_too(host: Host) -> None:
    token = host.token()

    assert [(await host.manifest(how)).status for how in (basic(token), f"Bearer {token}")] == [200, 200]


async def test_a_federated_principal_that_was_granted_access_needs_no_service_account(host: Host) -> None:
    principal = "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s"
    token = basic(host.token(principal))
    before = await host.handshake(token)
    host.registry.grant(REPOSITORY, principal)

    assert before.status == 403
    assert (await host.handshake(token)).status == 200


@pytest.mark.parametrize("user", ["oauth2accesstoken", "_json_key", ""])
@pytest.mark.parametrize("token", ["ya29.c.guessed", "", "x" * 5000])
async def test_a_token_that_google_did_not_issue_is_refused(host: Host, user: str, token: str) -> None:
    answers = await host.handshake(basic(token, user)), await host.manifest(basic(token, user))

    assert [answer.error[:2] for answer in answers] == [(401, "UNAUTHORIZED")] * 2


@pytest.mark.parametrize("header", ["", "Basic", "Basic %%%", "Basic /w==", "Digest abc", "Bearer"])
async def test_a_header_that_makes_no_sense_is_refused(host: Host, header: str) -> None:
    assert (await host.handshake(header)).status == 401
    assert (await host.manifest(header)).status == 401


async def test_a_good_token_under_another_user_name_is_refused(host: Host) -> None:
    assert (await host.handshake(basic(host.token(), "somebody"))).status == 401


async def test_an_expired_token_is_refused(host: Host) -> None:
    token = basic(host.token())
    host.clock.advance(60 * MINUTE)

    assert [(await host.handshake(token)).status, (await host.manifest(token)).status] == [401, 401]


async def test_without_a_grant_it_is_denied(host: Host) -> None:
    token = basic(host.token())
    host.registry.revoke(REPOSITORY, READER)

    assert (await host.handshake(token)).error == (403, "DENIED", DENIED)
    assert (await host.manifest(token)).error == (403, "DENIED", DENIED)


async def test_a_token_of_another_scope_is_denied(host: Host) -> None:
    token = host.token(scope="https://www.googleapis.com/auth/iam")

    assert (await host.handshake(basic(token))).error == (403, "DENIED", DENIED)


async def test_a_repository_that_is_not_there_is_unknown(host: Host) -> None:
    answer = await host.handshake(basic(host.token()), "repository:deepintshield/nothing/image:pull")

    assert answer.error[:2] == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("actions", ["push", "pull,push", "*", ""])
async def test_a_reader_may_only_pull(host: Host, actions: str) -> None:
    answer = await host.handshake(basic(host.token()), f"repository:{IMAGE}:{actions}")

    assert answer.error[:2] == (403, "DENIED")
    assert "uploadArtifacts" in answer.error[2]


@pytest.mark.parametrize("reference", ["1.0", "sha256:" + "0" * 64])
async def test_a_manifest_that_is_not_there_is_unknown(host: Host, reference: str) -> None:
    answer = await host.manifest(basic(host.token()), reference)

    assert answer.error[:2] == (404, "MANIFEST_UNKNOWN")


async def test_a_registry_token_opens_what_it_was_asked_for_and_no_more(host: Host) -> None:
    other = await host.handshake(basic(host.token()), f"repository:{REPOSITORY}/other:pull")
    none = await host.ask("/v2/token", basic(host.token()))
    both = await host.handshake(
        basic(host.token()), f"repository:{REPOSITORY}/other:pull&scope=repository:{IMAGE}:pull"
    )

    tokens = [f"Bearer {answer.body['token']}" for answer in (other, none, both)]
    assert [(await host.manifest(token)).status for token in tokens] == [403, 403, 200]


async def test_one_denied_scope_denies_the_handshake(host: Host) -> None:
    host.registry.add_image("deepintshield/private/image", "latest")

    answer = await host.handshake(
        basic(host.token()), f"repository:{IMAGE}:pull&scope=repository:deepintshield/private/image:pull"
    )

    assert answer.error[:2] == (403, "DENIED")


async def test_registry_tokens_last_five_minutes_and_not_longer_than_the_token_behind_them(host: Host) -> None:
    usual, short = [await host.handshake(basic(host.token(life=life))) for life in (60 * MINUTE, 2 * MINUTE)]
    tokens = [f"Bearer {answer.body['token']}" for answer in (usual, short)]

    assert short.body["expires_in"] <= 120
    host.clock.advance(2 * MINUTE)
    assert [(await host.manifest(token)).status for token in tokens] == [200, 401]
    host.clock.advance(3 * MINUTE)
    assert (await host.manifest(tokens[0])).status == 401


async def test_anybody_gets_an_anonymous_token_and_nothing_for_it(host: Host) -> None:
    """Which is why `/v2/` proves nothing."""
    handshake = await host.handshake(None)
    token = f"Bearer {handshake.body['token']}"
    manifest = await host.manifest(token)

    assert handshake.status == 200
    assert (await host.ask("/v2/", token)).status == 200
    assert manifest.error == (403, "DENIED", DENIED)


@pytest.mark.parametrize("expired", [False, True])
async def test_the_root_wants_some_token_that_is_good(host: Host, *, expired: bool) -> None:
    token = basic(host.token())
    challenge = await host.ask("/v2/")
    host.clock.advance(60 * MINUTE if expired else timedelta())

    assert challenge.error[:2] == (401, "UNAUTHORIZED")
    assert f'service="{host.server.host}"' in challenge.headers["WWW-Authenticate"]
    assert (await host.ask("/v2/", token)).status == (401 if expired else 200)


def test_opens_judges_a_header_for_those_who_put_a_real_registry_behind_this_one(host: Host) -> None:
    token = host.token()

    assert host.registry.opens(basic(token), IMAGE)
    assert not host.registry.opens(basic(token), "deepintshield/nothing/image")
    assert not host.registry.opens("", IMAGE)
    host.clock.advance(60 * MINUTE)
    assert not host.registry.opens(basic(token), IMAGE)
