"""The registry fails at the probe: a token that it refuses is not written; without an answer it is."""

import json

import pytest

from local.serving import Fault
from pullkeeper.errors import ProbeImageMissing
from tests.world import World

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_definite_refusal_stops_the_token(world: World, status: int) -> None:
    cluster = await world.join("aks-1")
    world.cloud.registry_parts[0].faults.add(Fault(path="/v2/token", status=status))
    assert await world.refresh_category(cluster) == "registry_denied"
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429),
        Fault(status=200, body="<html>"),
        Fault(status=200, body="[" * 60_000),
        Fault(status=200, body='{"token":"a\\nb"}'),
        Fault(drop=True),
    ],
    ids=["429", "html", "deep", "newline", "dropped"],
)
async def test_any_other_failure_is_a_warning(world: World, fault: Fault) -> None:
    cluster = await world.join("aks-1")
    fault.path = "/v2/token"
    world.cloud.registry_parts[0].faults.add(fault)
    await world.refresh(cluster)
    assert [event["category"] for event in world.events.named("token.minted")] == ["registry_unavailable"]


async def test_a_deleted_probe_image_is_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A publisher's clean-up must not let every secret expire."""
    cluster = await world.join("aks-1")
    document = world.cloud.hubs["main"].document
    world.cloud.registries[0].remove_image(world.cloud.hubs["main"].image)
    await world.refresh(cluster)
    [event] = world.events.named("token.minted")
    expires_at = (await world.target(cluster)).expires_at
    assert expires_at
    assert event == {
        "event": "token.minted",
        "provider": document["credentialConfig"]["audience"],
        "token_expiry": expires_at.isoformat(),
        "category": "probe_image_missing",
        "detail": f"{document['probe']}: HTTP 404 ",
        "remedy": ProbeImageMissing("", {"untagged": document["probe"].removesuffix(":latest")}).remedy,
    }
    assert [one.levelname for one in caplog.records if one.message.startswith("token.minted")] == ["WARNING"]
    assert (await world.read_token(cluster)).startswith("ya29.")


async def test_a_reader_who_lost_the_right_is_refused_even_if_the_image_is_gone(world: World) -> None:
    cluster = await world.join("aks-1")
    hub = world.cloud.hubs["main"]
    world.cloud.registries[0].remove_image(hub.image)
    world.cloud.registries[0].revoke(hub.image.rpartition("/")[0], f"serviceAccount:{hub.service_account}")
    assert await world.refresh_category(cluster) == "registry_denied"
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0


async def test_a_response_in_many_packets_is_read_to_its_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    cluster = await world.join("aks-1")
    faults = world.cloud.registry_parts[0].faults
    faults.add(Fault(path="/v2/token", status=200, body=json.dumps({"padding": "x" * 60_000, "token": "t"})))
    faults.add(Fault(path="/manifests/", status=200))
    await world.refresh(cluster)
    assert [event.get("category") for event in world.events.named("token.minted")] == [None]
    assert [one.levelname for one in caplog.records if one.message.startswith("token.minted")] == ["INFO"]
