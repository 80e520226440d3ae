"""What the real `gcloud iam workload-identity-pools create-cred-config` writes is a hub's configuration as it is."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pullkeeper.errors import InvalidRequest
from pullkeeper.publisher.credential_config import CredentialConfig
from pullkeeper.publisher.hub import Hub
from tests.apiserver import at_hand
from tests.core.publisher import IMPERSONATION_URL, PROVIDER, SERVICE_ACCOUNT, hub

pytestmark = pytest.mark.real
_FILE = "--credential-source-file=/var/run/secrets/azure/tokens/azure-identity-token"
_ACCOUNT = f"--service-account={SERVICE_ACCOUNT}"

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Returns the document for some flags. The command calls no service."""
    gcloud = at_hand.program("gcloud")
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}

    def run(*flags: str) -> dict[str, Any]:
        file = tmp_path / "credential-config.json"
        provider = PROVIDER.removeprefix("//iam.googleapis.com/")
        command = [
            str(gcloud),
            "iam",
            "workload-identity-pools",
            "create-cred-config",
            provider,
            f"--output-file={file}",
        ]
        subprocess.run([*command, *flags], env=environment, capture_output=True, timeout=60, check=True)
        document: dict[str, Any] = json.loads(file.read_text())
        return document

    return run


def _parse(document: dict[str, Any]) -> CredentialConfig:
    return Hub.parse(hub(credentialConfig=document)).credential_config


def test_without_a_service_account(write: Write) -> None:
    document = write(_FILE)

    assert "token_info_url" in document, "gcloud writes it in this case only"
    assert _parse(document).service_account is None


def test_with_a_service_account_and_the_lifetime_of_its_tokens(write: Write) -> None:
    document = write(_FILE, _ACCOUNT, "--service-account-token-lifetime-seconds=7200")

    config = _parse(document)
    assert (config.audience, config.service_account_impersonation_url) == (PROVIDER, IMPERSONATION_URL)
    assert Hub.parse(hub(credentialConfig=document)).life.total_seconds() == 7200
    assert Hub.parse(hub(credentialConfig=document, tokenLifetime=600)).life.total_seconds() == 600


def test_with_a_service_account_and_a_field_of_a_json_file(write: Write) -> None:
    """Without a lifetime."""
    config = _parse(
        write(_FILE, "--credential-source-type=json", "--credential-source-field-name=access_token", _ACCOUNT)
    )

    assert config.service_account_impersonation_url == IMPERSONATION_URL


@pytest.mark.parametrize(
    "flags",
    [
        ("--azure", "--app-id-uri=api://5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b"),
        ("--credential-source-url=http://127.0.0.1/token", "--credential-source-headers=A=canary,B=c", _ACCOUNT),
    ],
    ids=["azure", "any URL"],
)
def test_with_a_url_it_is_accepted_and_the_source_is_not_stored(write: Write, flags: tuple[str, ...]) -> None:
    """Pullkeeper brings its own token."""
    document = write(*flags)

    assert "headers" in document["credential_source"]
    stored = Hub.parse(hub(credentialConfig=document)).to_json()
    assert "credential_source" not in stored
    assert "canary" not in stored


def test_with_an_executable_it_is_refused(write: Write) -> None:
    """Such a document is for another purpose, and some programs would run what it names."""
    with pytest.raises(InvalidRequest, match=r"credentialConfig\.credential_source"):
        _parse(write("--executable-command=/bin/true", "--executable-timeout-millis=5000"))


def test_for_aws_it_is_refused(write: Write) -> None:
    with pytest.raises(InvalidRequest, match=r"credentialConfig\.subject_token_type"):
        _parse(write("--aws", "--enable-imdsv2"))
