"""A small image, built and pushed here, so that no network is needed."""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import Any

import aiohttp

_OCI = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Image:
    """An image named PROJECT/REPOSITORY/IMAGE, with one file in one layer."""

    name: str
    layer: bytes
    config: bytes

    @property
    def manifest(self) -> bytes:
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor(f"{_OCI}.config.v1+json", self.config),
            "layers": [_descriptor(f"{_OCI}.layer.v1.tar+gzip", self.layer)],
        }
        return json.dumps(manifest).encode()

    async def push(self, registry: aiohttp.ClientSession) -> None:
        for blob in (self.config, self.layer):
            async with registry.post(f"/v2/{self.name}/blobs/uploads/") as response:
                response.raise_for_status()
                upload = response.headers["Location"]
            async with registry.put(f"{upload}&digest={digest(blob)}", data=blob) as response:
                response.raise_for_status()
        media_type = {"Content-Type": f"{_OCI}.manifest.v1+json"}
        where = f"/v2/{self.name}/manifests/latest"
        async with registry.put(where, data=self.manifest, headers=media_type) as response:
            response.raise_for_status()


def build(name: str) -> Image:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        content = b"pulled\n"
        entry = tarfile.TarInfo("greeting")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    plain = tar.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
        "config": {},
    }
    return Image(name, gzip.compress(plain, mtime=0), json.dumps(config).encode())


def digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}
