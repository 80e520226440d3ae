"""The credential configuration: the JSON document that a publisher sends, parsed into its ids.

google-auth trusts such a document: it has accepted a token URL at the metadata address, and it reads files and URLs and
runs executables named there. So no part of the document is followed: it must have the one form that workload identity
federation for Azure has, and requests to Google are built from the ids in it.
The form: https://google.aip.dev/auth/4117; an example is in docs/reference.md.
"""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

LONGEST_LIFE: Final = 12 * 3600
"""Of an access token, in seconds: Google issues none for longer."""
_TOKEN_HOST: Final = "sts.googleapis.com"
_IMPERSONATION_HOST: Final = "iamcredentials.googleapis.com"

# ASCII: Python's \d is any script's digit.
_AUDIENCE = re.compile(
    r"//iam\.googleapis\.com/projects/(?P<project>[1-9]\d{0,19})/locations/global"
    r"/workloadIdentityPools/(?P<pool>[a-z0-9-]{4,32})"
    r"/providers/(?P<provider>[a-z0-9-]{4,32})",
    re.ASCII,
)
_TOKEN_URL = re.compile(r"https://(?P<host>[a-z0-9.-]{1,253}(:\d{1,5})?)/v1/token", re.ASCII)
_INFO_URL = re.compile(r"https://(?P<host>[a-z0-9.-]{1,253}(:\d{1,5})?)/v1/introspect", re.ASCII)
_IMPERSONATION_URL = re.compile(
    r"https://(?P<host>[a-z0-9.-]{1,253}(:\d{1,5})?)/v1/projects/-/serviceAccounts"
    r"/(?P<email>[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z][a-z0-9-]{4,28}[a-z0-9]\.iam\.gserviceaccount\.com)"
    r":generateAccessToken",
    re.ASCII,
)


class _Source(BaseModel):
    """Where another program would find its token: in a file or at a URL (`--azure`). Pullkeeper opens neither. An
    `executable`, a `certificate` or an AWS `environment_id` is refused: such a document is for another purpose.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: Annotated[str, Field(max_length=4096)] | None = None
    url: Annotated[str, Field(max_length=4096)] | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    format: dict[Literal["type", "subject_token_field_name"], str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("must have either a file or a url")
        return self


class _Impersonation(BaseModel):
    """Written by gcloud for `--service-account-token-lifetime-seconds`. The limits are those of the form."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    token_lifetime_seconds: Annotated[int, Field(ge=600, le=LONGEST_LIFE, strict=True)]


class CredentialConfig(BaseModel):
    """A validated credential configuration, in the document's own field names.

    Hosts other than Google's are refused, unless validation is given `context={"trusted_hosts": frozenset[str]}`
    (setting TRUSTED_GOOGLE_HOSTS).

    token_info_url: gcloud writes it where there is no service account. It is never called.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["external_account"]
    audience: str
    subject_token_type: Literal["urn:ietf:params:oauth:token-type:jwt"]
    token_url: str
    token_info_url: str | None = Field(default=None, exclude=True)
    service_account_impersonation_url: str | None = None
    service_account_impersonation: _Impersonation | None = None
    credential_source: _Source | None = Field(default=None, exclude=True, repr=False)
    universe_domain: Literal["googleapis.com"] = "googleapis.com"

    @field_validator("audience")
    @classmethod
    def _is_a_provider(cls, value: str) -> str:
        if not _AUDIENCE.fullmatch(value):
            raise ValueError(
                "must be //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL"
                "/providers/PROVIDER, with the project's number, not its id"
            )
        return value

    @field_validator("token_url")
    @classmethod
    def _is_the_token_service(cls, value: str, info: ValidationInfo) -> str:
        _require_trusted(_TOKEN_URL.fullmatch(value), _TOKEN_HOST, f"https://{_TOKEN_HOST}/v1/token", info)
        return value

    @field_validator("token_info_url")
    @classmethod
    def _is_introspection(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            form = f"https://{_TOKEN_HOST}/v1/introspect"
            _require_trusted(_INFO_URL.fullmatch(value), _TOKEN_HOST, form, info)
        return value

    @field_validator("service_account_impersonation_url")
    @classmethod
    def _is_generate_access_token(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            form = (
                f"https://{_IMPERSONATION_HOST}/v1/projects/-/serviceAccounts/NAME@PROJECT"
                ".iam.gserviceaccount.com:generateAccessToken"
            )
            _require_trusted(_IMPERSONATION_URL.fullmatch(value), _IMPERSONATION_HOST, form, info)
        return value

    @property
    def service_account(self) -> str | None:
        """The e-mail address to impersonate. None: the federated token itself is used."""
        url = self.service_account_impersonation_url
        found = _IMPERSONATION_URL.fullmatch(url) if url else None
        return found["email"] if found else None

    @property
    def ids(self) -> dict[str, str]:
        """`project` (number), `pool`, `provider`, and `service_account` if there is one: what the remedies' commands
        need.
        """
        found, account = _AUDIENCE.fullmatch(self.audience), self.service_account
        return {**(found.groupdict() if found else {}), **({"service_account": account} if account else {})}

    def principal(self, subject: str) -> str:
        """Return the identity with this subject, as IAM policies name it."""
        pool = self.audience.removeprefix("//").rpartition("/providers/")[0]
        return f"principal://{pool}/subject/{subject}"


def _require_trusted(found: re.Match[str] | None, host: str, form: str, info: ValidationInfo) -> None:
    """Report the expected form, never the value: that may be anything, a token included."""
    if not found:
        raise ValueError(f"must be of the form {form}")
    extra: frozenset[str] = (info.context or {}).get("trusted_hosts", frozenset())
    if found["host"] not in {host, *extra}:
        raise ValueError(f"must name {host}, or a host of the setting TRUSTED_GOOGLE_HOSTS")
