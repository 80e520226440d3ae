"""skopeo pulls a real image with the content of the secret and no other credentials."""

import asyncio
import base64
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.cloud import LocalCluster
from tests.apiserver import at_hand
from tests.pull.conftest import Hosted
from tests.pull.image import digest
from tests.world import MINUTE, World

pytestmark = [pytest.mark.servers, pytest.mark.real]


@dataclass(frozen=True, slots=True)
class Pull:
    """Exit code and output of skopeo, and the digests of the blobs it pulled."""

    code: int
    output: str
    blobs: frozenset[str]


async def pull(hosted: Hosted, secret: bytes, into: Path) -> Pull:
    """Pull with the secret's content as authentication file, and an empty home folder."""
    return await asyncio.to_thread(_pull, hosted.reference, secret, into)


def _pull(reference: str, secret: bytes, into: Path) -> Pull:
    into.mkdir()
    authfile = into / "auth.json"
    authfile.write_bytes(secret)
    no_signatures = "--insecure-policy"
    copy = ["copy", no_signatures, f"--authfile={authfile}", f"docker://{reference}", f"dir:{into}/image"]
    done = subprocess.run(
        [at_hand.program("skopeo"), *copy],
        env={"PATH": "/usr/bin:/bin", "HOME": str(into), "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    files = [file.read_bytes() for file in into.glob("image/*") if file.name not in {"manifest.json", "version"}]
    return Pull(done.returncode, done.stdout, frozenset(digest(blob) for blob in files))


async def content(cluster: LocalCluster) -> bytes:
    """Read and decode the secret's content."""
    target = cluster.target
    secret = await cluster.admin.read_secret(target.namespace, target.secret)
    return base64.b64decode(secret["data"][".dockerconfigjson"])


def all_blobs(hosted: Hosted) -> frozenset[str]:
    return frozenset({digest(hosted.image.layer), digest(hosted.image.config)})


async def test_a_pull_needs_only_the_secret(world: World, hosted: Hosted, tmp_path: Path) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    pulled = await pull(hosted, await content(cluster), tmp_path / "pulled")

    assert pulled.code == 0, pulled.output
    assert pulled.blobs == all_blobs(hosted)


async def test_a_pull_succeeds_before_and_after_a_rotation(world: World, hosted: Hosted, tmp_path: Path) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    before = await content(cluster)
    first = await pull(hosted, before, tmp_path / "first")
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    after = await content(cluster)
    second = await pull(hosted, after, tmp_path / "second")
    under_way = await pull(hosted, before, tmp_path / "under-way")

    assert before != after
    assert (first.code, second.code) == (0, 0), first.output + second.output
    assert second.blobs == all_blobs(hosted)
    assert under_way.code == 0, "a kubelet that read the secret just before the rotation still pulls"


async def test_an_expired_token_is_refused_until_the_next_rotation(
    world: World, hosted: Hosted, tmp_path: Path
) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    expired = await content(cluster)
    world.clock.advance(61 * MINUTE)
    refused = await pull(hosted, expired, tmp_path / "refused")
    await world.refresh(cluster)
    pulled = await pull(hosted, await content(cluster), tmp_path / "pulled")

    assert refused.code == 1
    assert "unauthorized: authentication failed" in refused.output
    assert refused.blobs == frozenset()
    assert pulled.code == 0, pulled.output


async def test_without_the_secret_nothing_is_pulled(hosted: Hosted, tmp_path: Path) -> None:
    refused = await pull(hosted, b'{"auths":{}}', tmp_path / "refused")

    assert refused.code == 1
    assert 'denied: Permission "artifactregistry.repositories.downloadArtifacts"' in refused.output.replace("\\", "")
    assert refused.blobs == frozenset()
