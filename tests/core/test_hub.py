"""What a hub accepts as registries, probe and token settings, and what makes two hubs the same."""

from typing import Any

import pytest

from pullkeeper.errors import InvalidRequest
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.publisher.hub import Hub, Image
from tests.core.hostile import cases
from tests.core.publisher import credential_config, hub, parsed_hub


def _fail(document: Any) -> str:
    with pytest.raises(InvalidRequest) as raised:
        Hub.parse(document)
    return raised.value.detail


@pytest.mark.parametrize("host", cases("registries"))
def test_a_registry_of_another_provider_is_refused_and_not_quoted(host: str) -> None:
    message = _fail(hub(registries=["europe-docker.pkg.dev", host]))

    assert message.startswith("registries: must be ")
    assert "evil" not in message


@pytest.mark.parametrize(
    "host", ["europe-docker.pkg.dev", "us-central1-docker.pkg.dev", "gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"]
)
def test_registries_of_google_are_accepted(host: str) -> None:
    assert (host,) == parsed_hub(registries=[host], probe=f"{host}/p-1/r/i").registries


def test_a_hub_has_one_to_twenty_registries() -> None:
    hosts = [f"r{number}-docker.pkg.dev" for number in range(21)]

    assert len(parsed_hub(registries=hosts[1:], probe=f"{hosts[1]}/p-1/r/i").registries) == 20
    for wrong in (hosts, []):
        assert _fail(hub(registries=wrong)).startswith("registries: ")


@pytest.mark.parametrize("probe", cases("probes"))
def test_a_probe_of_another_form_is_refused_and_not_quoted(probe: Any) -> None:
    message = _fail(hub(probe=probe))

    assert message.startswith("probe: ")
    assert "evil" not in message


def test_a_probe_must_be_in_one_of_the_registries() -> None:
    message = _fail(hub(probe="asia-docker.pkg.dev/p-1/evil/image"))

    assert message == "probe: must name an image in one of the registries"


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("gcr.io/p-1/image", Image("gcr.io", "p-1/image", None)),
        ("gcr.io/p-1/image:1.2_3-x", Image("gcr.io", "p-1/image", "1.2_3-x")),
        ("127.0.0.1:5000/p-1/r/a__b/c--d:latest", Image("127.0.0.1:5000", "p-1/r/a__b/c--d", "latest")),
        ("europe-docker.pkg.dev/example.com/p-1/r/i", Image("europe-docker.pkg.dev", "example.com/p-1/r/i", None)),
    ],
)
def test_an_image_is_host_name_and_tag(text: str, image: Image) -> None:
    assert image == Image.parse(text)
    assert text == str(image)


@pytest.mark.parametrize("seconds", [0, -1, 12 * 3600 + 1, 1.5, "soon", [], 1e400, "3600", 3600.0, True])
def test_a_lifetime_beyond_googles_limits_is_refused(seconds: Any) -> None:
    document = {**hub(), "tokenLifetime": seconds}

    assert _fail(document).startswith("tokenLifetime: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scope", "https://www.googleapis.com/auth/evil"),
        ("entraResource", "api://evil app"),
        ("entraResource", ""),
        ("entraResource", "evil" * 64),
    ],
)
def test_scope_and_resource_must_have_a_known_form(field: str, value: str) -> None:
    message = _fail(hub(**{field: value}))

    assert message.startswith(f"{field}: ")
    assert "evil" not in message


def test_hubs_with_the_same_content_share_one_identity() -> None:
    """Whatever the order of fields, with defaults written out, with or without the pods' token file."""
    spelled_out = hub(
        credentialConfig=dict(reversed(credential_config(credential_source=None).items())),
        scope="https://www.googleapis.com/auth/cloud-platform.read-only",
    )

    assert parsed_hub().identity == Hub.parse(spelled_out).identity == Hub.parse(parsed_hub().to_json()).identity


@pytest.mark.parametrize(
    "change",
    [
        {"registries": ["europe-docker.pkg.dev"]},
        {"registries": ["us-docker.pkg.dev", "europe-docker.pkg.dev"]},
        {"probe": "europe-docker.pkg.dev/deepintshield-prod/acme/deepintshield:v2"},
        {"entraResource": "api://0b1f6471-1bf0-4dda-aec3-cb9272f09590"},
        {"scope": "https://www.googleapis.com/auth/cloud-platform"},
        {"tokenLifetime": 3599},
        {"credentialConfig": credential_config(service_account_impersonation_url=None)},
        {"credentialConfig": credential_config(audience=credential_config()["audience"] + "2")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_of_a_hub_changes_its_identity(change: dict[str, Any]) -> None:
    assert parsed_hub().identity != parsed_hub(**change).identity


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hub": "main", **hub()}, "send either hub or credentialConfig, not both"),
        (hub(probe=None), "credentialConfig needs registries and probe"),
        (hub(registries=None), "credentialConfig needs registries and probe"),
        ({"hub": "main", "registries": ["gcr.io"]}, "registries and probe need credentialConfig"),
        ({"probe": "gcr.io/p-1/image"}, "registries and probe need credentialConfig"),
    ],
)
def test_a_request_names_a_hub_or_brings_a_whole_one(fields: dict[str, Any], message: str) -> None:
    cluster = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/"
    with pytest.raises(InvalidRequest, match=message):
        Onboarding.parse({"cluster": f"{cluster}Microsoft.ContainerService/managedClusters/a", **fields})
