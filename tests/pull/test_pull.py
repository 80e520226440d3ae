"""skopeo pulls a real image with nothing but what the secret holds, as a kubelet would."""

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
    """How it ended, what skopeo said, and the digests of the blobs it brought."""

    code: int
    said: str
    brought: frozenset[str]


async def pull(hosted: Hosted, secret: bytes, into: Path) -> Pull:
    """With the secret's content as authentication file, no credentials around it and nothing in the home folder."""
    return await asyncio.to_thread(_pull, hosted.reference, secret, into)


def _pull(reference: str, secret: bytes, into: Path) -> Pull:
    into.mkdir()
    authfile = into / "auth.json"
    authfile.write_bytes(secret)
    signatures_do_not_matter = "--insecure-policy"
    copy = ["copy", signatures_do_not_matter, f"--authfile={authfile}", f"docker://{reference}", f"dir:{into}/image"]
    done = subprocess.run(
        [at_hand.program("skopeo"), *copy],
        env={"PATH": "/usr/bin:/bin", "HOME": str(into), "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    blobs = [file.read_bytes() for file in into.glob("image/*") if file.name not in {"manifest.json", "version"}]
    return Pull(done.returncode, done.stdout, frozenset(digest(blob) for blob in blobs))


async def content(cluster: LocalCluster) -> bytes:
    """Of the secret, decoded, byte for byte."""
    target = cluster.target
    secret = await cluster.admin.read_secret(target.namespace, target.secret)
    return base64.b64decode(secret["data"][".dockerconfigjson"])


def whole(hosted: Hosted) -> frozenset[str]:
    return frozenset({digest(hosted.image.layer), digest(hosted.image.config)})


async def test_the_secret_is_all_that_a_pull_needs(world: World, hosted: Hosted, tmp_path: Path) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    pulled = await pull(hosted, await content(cluster), tmp_path / "pulled")

    assert pulled.code == 0, pulled.said
    assert pulled.brought == whole(hosted)


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
    assert (first.code, second.code) == (0, 0), first.said + second.said
    assert second.brought == whole(hosted)
    assert under_way.code == 0, "whoever read the secret just before the rotation pulls undisturbed"


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
    assert "unauthorized: authentication failed" in refused.said
    assert refused.brought == frozenset()
    assert pulled.code == 0, pulled.said


async def test_without_the_secret_nothing_is_pulled(hosted: Hosted, tmp_path: Path) -> None:
    refused = await pull(hosted, b'{"auths":{}}', tmp_path / "refused")

    assert refused.code == 1
    assert 'denied: Permission "artifactregistry.repositories.downloadArtifacts"' in refused.said.replace("\\", "")
    assert refused.brought == frozenset()
