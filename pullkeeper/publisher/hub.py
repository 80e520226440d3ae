"""The hub: a publisher's credential configuration, its registries, and an image to probe."""

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from pullkeeper.document import Document
from pullkeeper.publisher.credential_config import LONGEST_LIFE, CredentialConfig

_REGISTRY = re.compile(r"[a-z0-9-]{1,50}-docker\.pkg\.dev|((us|eu|asia)\.)?gcr\.io", re.ASCII)
_PART = r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<host>[a-z0-9.-]+(:\d{{1,5}})?)/(?P<name>{_PART}(/{_PART})+)(:(?P<tag>\w[\w.-]{{0,127}}))?",
    re.ASCII,
)

MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
"""What a pull accepts as an image: the header `Accept`."""

HubName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


@dataclass(frozen=True, slots=True)
class Image:
    """An image as HOST/NAME[:TAG]; at Artifact Registry the name is PROJECT/REPOSITORY/IMAGE."""

    host: str
    name: str
    tag: str | None

    @classmethod
    def parse(cls, text: str) -> "Image":
        """Raises ValueError for any other form; nothing is unescaped or stripped."""
        found = _IMAGE.fullmatch(text)
        if not found:
            raise ValueError("must be HOST/PROJECT/REPOSITORY/IMAGE[:TAG]")
        return cls(found["host"], found["name"], found["tag"])

    @property
    def token_url(self) -> str:
        """Where the registry issues a token that may pull this image."""
        return (
            f"https://{self.host}/v2/token?{urlencode({'service': self.host, 'scope': f'repository:{self.name}:pull'})}"
        )

    @property
    def manifest_url(self) -> str | None:
        return f"https://{self.host}/v2/{self.name}/manifests/{self.tag}" if self.tag else None

    def __str__(self) -> str:
        return f"{self.host}/{self.name}" + (f":{self.tag}" if self.tag else "")


class Hub(Document):
    """A publisher at Google: whose token to get, and the registries that it opens.

    probe: an image (HOST/PROJECT/REPOSITORY/IMAGE[:TAG]) that a good token can pull.
    token_lifetime: in seconds; more than 3600 (up to 12 hours) needs an organisation policy at Google. None: that of
    the credential configuration, else an hour.
    entra_resource: the audience of the Entra token; by default that of token exchange in this Azure cloud. A dedicated
    app registration (api://APPID) is safer: a token for the default is also an assertion that Entra itself accepts.
    """

    credential_config: CredentialConfig
    registries: Annotated[tuple[str, ...], Field(min_length=1, max_length=20)]
    probe: Annotated[str, Field(max_length=512)]
    entra_resource: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:/._-]+$", max_length=255)] | None = None
    scope: Literal[
        "https://www.googleapis.com/auth/cloud-platform.read-only",
        "https://www.googleapis.com/auth/cloud-platform",
    ] = "https://www.googleapis.com/auth/cloud-platform.read-only"
    token_lifetime: Annotated[int, Field(ge=1, le=LONGEST_LIFE, strict=True)] | None = None

    @field_validator("registries")
    @classmethod
    def _are_google_registries(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        trusted: frozenset[str] = (info.context or {}).get("trusted_hosts", frozenset())
        if not all(_REGISTRY.fullmatch(host) or host in trusted for host in value):
            raise ValueError("must be LOCATION-docker.pkg.dev, gcr.io, or hosts of the setting TRUSTED_GOOGLE_HOSTS")
        return value

    @field_validator("probe")
    @classmethod
    def _is_in_one_of_the_registries(cls, value: str, info: ValidationInfo) -> str:
        host = Image.parse(value).host
        if host not in info.data.get("registries", {host}):
            raise ValueError("must name an image in one of the registries")
        return value

    @property
    def probe_image(self) -> Image:
        return Image.parse(self.probe)

    @property
    def life(self) -> timedelta:
        """The requested life of a token."""
        impersonation = self.credential_config.service_account_impersonation
        published = impersonation.token_lifetime_seconds if impersonation else 3600
        return timedelta(seconds=self.token_lifetime or published)

    @cached_property
    def identity(self) -> str:
        """A digest of the content: hubs with the same content share one mint."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
