"""Documents of a publisher: the credential configuration of the guide that Pullkeeper replaces, and a hub with it."""

import copy
from typing import Any

from pullkeeper.publisher.hub import Hub

PROVIDER = (
    "//iam.googleapis.com/projects/417300214096/locations/global/workloadIdentityPools/acme-azure-pool"
    "/providers/acme-azure-provider"
)
SERVICE_ACCOUNT = "image-puller@deepintshield-prod.iam.gserviceaccount.com"
TOKEN_URL = "https://sts.googleapis.com/v1/token"
IMPERSONATION_URL = (
    f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateAccessToken"
)
_CREDENTIAL_CONFIG = {
    "type": "external_account",
    "audience": PROVIDER,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "service_account_impersonation_url": IMPERSONATION_URL,
    "token_url": TOKEN_URL,
    "credential_source": {
        "file": "/var/run/secrets/azure/tokens/azure-identity-token",
        "format": {"type": "text"},
    },
}
_HUB = {
    "credentialConfig": _CREDENTIAL_CONFIG,
    "registries": ["europe-docker.pkg.dev", "us-docker.pkg.dev"],
    "probe": "europe-docker.pkg.dev/deepintshield-prod/acme/deepintshield:latest",
}


def credential_config(**changes: Any) -> dict[str, Any]:
    """The document with some fields changed; None removes a field."""
    return _change(_CREDENTIAL_CONFIG, changes)


def hub(**changes: Any) -> dict[str, Any]:
    """A hub as in a setting or a request, with some fields changed; None removes a field."""
    return _change(_HUB, changes)


def parsed_hub(**changes: Any) -> Hub:
    return Hub.parse(hub(**changes))


def _change(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**copy.deepcopy(document), **changes}
    return {name: value for name, value in merged.items() if value is not None}
