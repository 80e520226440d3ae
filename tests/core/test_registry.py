"""The content of a pull secret, as kubectl writes it, and the probe of a token."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.serving import Authority
from pullkeeper import errors
from pullkeeper.publisher import registry
from pullkeeper.publisher.hub import Hub, Image
from pullkeeper.publisher.registry import dockerconfigjson, repository_of
from pullkeeper.tokens import Token
from tests.core.canned import ANY_PATH, MALFORMED, CannedServer, http, serve_canned
from tests.core.failures import format_failure
from tests.core.publisher import SERVICE_ACCOUNT, credential_config, hub

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CANARY = "ya29.c.canary-0123456789"
_NAME = "deepintshield-prod/acme/deepintshield"
_HANDSHAKE, _MANIFEST = "/v2/token", f"/v2/{_NAME}/manifests/latest"
_SUBJECT = "5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b"
_REGISTRY_TOKEN = http(200, {"token": "canary-registry-token", "expires_in": 300})


def _token(text: str = _CANARY) -> Token:
    return Token(text, _NOW, _NOW + timedelta(hours=1))


# The content of a secret


def _write_with_kubectl(host: str, token: str, home: Path) -> str:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: it is the reference")
    command = ["kubectl", "create", "secret", "docker-registry", "ar-pull-secret", f"--docker-server={host}"]
    command += ["--docker-username=oauth2accesstoken", f"--docker-password={token}", "--dry-run=client", "-o", "json"]
    done = subprocess.run(
        command, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, timeout=30, check=True
    )
    secret = json.loads(done.stdout)
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    return base64.b64decode(secret["data"][".dockerconfigjson"]).decode()


@pytest.mark.parametrize("host", ["europe-docker.pkg.dev", "gcr.io", "127.0.0.1:5000"])
@pytest.mark.parametrize(
    "token", [_CANARY, "ya29.d.b0Aaekm1K8_-" + "Zk7QpWx8/+=" * 90, "a"], ids=["token", "long token", "one letter"]
)
def test_one_registry_is_byte_for_byte_what_kubectl_writes(host: str, token: str, tmp_path: Path) -> None:
    assert _write_with_kubectl(host, token, tmp_path) == dockerconfigjson([host], _token(token))


def test_several_registries_are_what_kubectl_writes_for_each_in_the_hubs_order(tmp_path: Path) -> None:
    hosts = ["us-docker.pkg.dev", "europe-docker.pkg.dev", "gcr.io"]
    each: dict[str, Any] = {}
    for host in hosts:
        each |= json.loads(_write_with_kubectl(host, _CANARY, tmp_path))["auths"]

    assert json.dumps({"auths": each}, separators=(",", ":")) == dockerconfigjson(hosts, _token())


@given(
    hosts=st.lists(st.sampled_from(["gcr.io", "us.gcr.io", "europe-docker.pkg.dev"]), min_size=1),
    token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
)
def test_a_kubelet_reads_user_and_password_back(hosts: Sequence[str], token: str) -> None:
    """By user and password, or by `auth` alone; without a newline."""
    content = dockerconfigjson(hosts, _token(token))

    auths = json.loads(content)["auths"]
    assert list(auths) == list(dict.fromkeys(hosts))
    assert "\n" not in content
    for entry in auths.values():
        assert list(entry) == ["username", "password", "auth"]
        assert (entry["username"], entry["password"]) == ("oauth2accesstoken", token)
        assert base64.b64decode(entry["auth"], validate=True).decode() == f"oauth2accesstoken:{token}"


# The probe


def _hub(server: CannedServer, tag: str = ":latest", **changes: Any) -> Hub:
    document = hub(registries=[server.host], probe=f"{server.host}/{_NAME}{tag}", **changes)
    return Hub.parse(document, trusted_hosts=frozenset({server.host}))


async def _fail(hub: Hub) -> errors.PullkeeperError:
    with pytest.raises(errors.PullkeeperError) as raised:
        await registry.probe(hub, _token(), _SUBJECT)
    assert "canary" not in format_failure(raised.value)
    return raised.value


async def test_the_probe_uses_the_token_as_a_kubelet_does(authority: Authority) -> None:
    async with serve_canned(authority, {_HANDSHAKE: _REGISTRY_TOKEN, _MANIFEST: http(200)}) as server:
        await registry.probe(_hub(server), _token(), _SUBJECT)

    handshake, manifest = server.requests
    assert parse_qs(urlsplit(handshake.path).query) == {
        "service": [server.host],
        "scope": [f"repository:{_NAME}:pull"],
    }
    scheme, _, basic = handshake.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(basic).decode()) == ("Basic", f"oauth2accesstoken:{_CANARY}")
    assert (manifest.method, manifest.headers["authorization"]) == ("HEAD", "Bearer canary-registry-token")
    assert "application/vnd.oci.image.index.v1+json" in manifest.headers["accept"]


@pytest.mark.usefixtures("netrc")
async def test_a_password_in_netrc_does_not_stop_the_probe(authority: Authority) -> None:
    """The client would refuse to combine it with the token."""
    async with serve_canned(authority, {_HANDSHAKE: _REGISTRY_TOKEN, _MANIFEST: http(200)}) as server:
        await registry.probe(_hub(server), _token(), _SUBJECT)
    assert len(server.requests) == 2


async def test_without_a_tag_only_the_registry_token_is_requested(authority: Authority) -> None:
    async with serve_canned(authority, {_HANDSHAKE: _REGISTRY_TOKEN}) as server:
        await registry.probe(_hub(server, tag=""), _token(), _SUBJECT)

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [(_HANDSHAKE, 401), (_HANDSHAKE, 403), (_HANDSHAKE, 404), (_MANIFEST, 401), (_MANIFEST, 403)],
)
async def test_a_refusal_is_registry_denied_with_the_command_that_fixes_it(
    authority: Authority, status: int, path: str
) -> None:
    denied = {
        "errors": [
            {
                "code": "DENIED",
                "message": 'Permission "artifactregistry.repositories.downloadArtifacts" denied on resource '
                '"projects/deepintshield-prod/locations/europe/repositories/acme" (or it may not exist)',
            }
        ]
    }
    answers: dict[str, Any] = {_HANDSHAKE: _REGISTRY_TOKEN, _MANIFEST: http(200), path: http(status, denied)}
    async with serve_canned(authority, answers) as server:
        failure = await _fail(_hub(server))

    assert type(failure) is errors.RegistryDenied
    assert f"HTTP {status}" in failure.detail
    grant = f"--location={server.host} --role=roles/artifactregistry.reader --member=serviceAccount:{SERVICE_ACCOUNT}."
    assert f"add-iam-policy-binding acme --project=deepintshield-prod {grant}" in failure.remedy


async def test_a_manifest_that_is_gone_is_a_missing_probe_image(authority: Authority) -> None:
    """The registry has granted a token that may pull the image."""
    async with serve_canned(authority, {_HANDSHAKE: _REGISTRY_TOKEN, _MANIFEST: http(404)}) as server:
        failure = await _fail(_hub(server))

    assert type(failure) is errors.ProbeImageMissing
    assert f"gcloud artifacts docker tags list {server.host}/{_NAME}" in failure.remedy


async def test_without_a_service_account_the_command_names_the_identity_itself(authority: Authority) -> None:
    config = credential_config(service_account_impersonation_url=None)
    async with serve_canned(authority, {_HANDSHAKE: http(403, b"\xff is no text")}) as server:
        failure = await _fail(_hub(server, credentialConfig=config))

    pool = "projects/417300214096/locations/global/workloadIdentityPools/acme-azure-pool"
    assert f"--member=principal://iam.googleapis.com/{pool}/subject/{_SUBJECT}." in failure.remedy


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(429, b"later"), id="throttled"),
        pytest.param(http(500, f"x {_CANARY}".encode()), id="broken"),
        pytest.param(http(200, b'{"token": "canary\\r\\nX: y"}'), id="a header in the token"),
        *(pytest.param(response, id=case) for case, response in MALFORMED.items()),
    ],
)
async def test_any_other_response_is_registry_unavailable(authority: Authority, answer: bytes) -> None:
    async with serve_canned(authority, {_HANDSHAKE: answer, _MANIFEST: http(200)}) as server:
        failure = await _fail(_hub(server))

    assert type(failure) is errors.RegistryUnavailable
    assert f"the app can reach https://{server.host} " in failure.remedy


@pytest.mark.parametrize(
    ("host", "repository", "location"),
    [
        ("gcr.io", "gcr.io", "us"),
        ("us.gcr.io", "us.gcr.io", "us"),
        ("eu.gcr.io", "eu.gcr.io", "europe"),
        ("asia.gcr.io", "asia.gcr.io", "asia"),
        ("europe-west1-docker.pkg.dev", "r", "europe-west1"),
    ],
)
def test_a_repository_is_named_as_artifact_registry_names_it(host: str, repository: str, location: str) -> None:
    """Each host of gcr.io is a repository of that name in a multi-region."""
    assert repository_of(Image.parse(f"{host}/p-1/r/i")) == ("p-1", repository, location)


@pytest.mark.parametrize("path", [_HANDSHAKE, _MANIFEST])
async def test_a_redirect_is_not_followed(authority: Authority, path: str) -> None:
    """A server that redirects would get the token."""
    async with serve_canned(authority, {"/elsewhere": http(200)}) as elsewhere:
        away = http(307, b"", Location=f"https://{elsewhere.host}/elsewhere")
        answers: dict[str, Any] = {_HANDSHAKE: _REGISTRY_TOKEN, _MANIFEST: http(200), path: away}
        async with serve_canned(authority, answers) as server:
            failure = await _fail(_hub(server))

    assert type(failure) is errors.RegistryUnavailable
    assert elsewhere.requests == []


async def test_the_probe_is_made_by_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    host = "registry.invalid"
    async with serve_canned(None, {ANY_PATH: http(503)}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        document = hub(registries=[host], probe=f"{host}/{_NAME}")
        failure = await _fail(Hub.parse(document, trusted_hosts=frozenset({host})))

    assert type(failure) is errors.RegistryUnavailable
    assert [(request.method, request.path) for request in proxy.requests] == [("CONNECT", f"{host}:443")]


async def test_a_server_without_a_trusted_certificate_gets_no_token() -> None:
    async with serve_canned(Authority(), {_HANDSHAKE: _REGISTRY_TOKEN}) as server:
        failure = await _fail(_hub(server))

    assert type(failure) is errors.RegistryUnavailable
    assert server.requests == []
