"""A diagnosis gets a token of its own, and leaves the mint of the refresh alone."""

import asyncio
from datetime import timedelta

import pytest

from local.serving import Fault
from pullkeeper.diagnosis.course import Course
from pullkeeper.diagnosis.diagnostics import Diagnostics
from tests.diagnosis.conftest import Doctor, find_hop, format_hops
from tests.world import MINUTE

pytestmark = pytest.mark.servers


async def test_the_chain_is_fresh_and_its_token_reaches_no_cluster_and_no_cache(doctor: Doctor) -> None:
    """The refresh after it uses the token that it held before."""
    cluster = await doctor.onboard()
    world, google = doctor.world, doctor.world.cloud.google
    held, exchanges = await world.read_token(cluster), google.exchanges
    secret = await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    diagnosis = await doctor.examine(cluster)
    assert diagnosis.state == "ok", format_hops(diagnosis)
    assert (google.exchanges, google.impersonations) == (exchanges + 1, exchanges + 1)
    assert secret == await cluster.admin.read_secret("deepintshield", "ar-pull-secret")
    assert not [event for event in world.events.seen if event["event"] == "token.minted"][1:]
    await world.refresh(cluster)
    assert google.exchanges == exchanges + 1
    assert held == await world.read_token(cluster)


async def test_a_token_that_the_registry_refuses_is_not_handed_out(doctor: Doctor) -> None:
    cluster = await doctor.onboard()
    world = doctor.world
    hub = world.cloud.hubs["main"]
    held = await world.read_token(cluster)
    world.cloud.registries[0].revoke(hub.repository, hub.reader)
    diagnosis = await doctor.examine(cluster)
    assert find_hop(diagnosis, "registry-permission").state == "failed"
    assert find_hop(diagnosis, "probe-image").because == "registry-permission"
    world.clock.advance(25 * MINUTE)
    assert await world.refresh_category(cluster) == "registry_denied"
    assert held == await world.read_token(cluster)


async def test_a_refusal_of_the_refresh_is_not_repeated_but_asked_again(doctor: Doctor) -> None:
    """A refresh remembers a refusal for a minute. An operator who has just repaired it sees that at once."""
    cluster = await doctor.onboard()
    world = doctor.world
    world.clock.advance(25 * MINUTE)
    fault = Fault(path=":generateAccessToken$", status=404, body='{"error":{"code":404,"message":"Not found"}}')
    with world.cloud.google_part.faults.inject(fault):
        assert await world.refresh_category(cluster) == "service_account_missing"
        assert find_hop(await doctor.examine(cluster), "impersonation").category == "service_account_missing"
    assert find_hop(await doctor.examine(cluster), "impersonation").state == "ok"


async def test_diagnoses_at_the_same_time_share_one_mint_of_a_hub(doctor: Doctor) -> None:
    """A dashboard that opens ten clusters costs one exchange; the next diagnosis is fresh again."""
    clusters = [await doctor.onboard(f"aks-{number}") for number in range(3)]
    world, google = doctor.world, doctor.world.cloud.google
    exchanges, asked = google.exchanges, world.cloud.identity_part.journal.count()
    # So the first is still under way when the last begins.
    world.cloud.identity_part.faults.add(Fault(delay=timedelta(seconds=1), slow_only=True, times=1))
    diagnoses = await asyncio.gather(*map(doctor.examine, clusters), world.services.diagnostics.examine_hub("main"))
    assert {diagnosis.state for diagnosis in diagnoses} == {"ok"}
    assert google.exchanges == exchanges + 1
    assert world.cloud.identity_part.journal.count() <= asked + 4
    assert world.services.diagnostics._shared == {}
    asked = world.cloud.identity_part.journal.count()
    await world.services.diagnostics.examine_hub("main")
    assert google.exchanges == exchanges + 2
    assert world.cloud.identity_part.journal.count() == asked + 2, "nor are the tokens of Entra those of a cache"


async def test_what_a_caller_did_not_wait_for_is_not_given_to_the_next(doctor: Doctor) -> None:
    await doctor.onboard()
    diagnostics, google = doctor.world.services.diagnostics, doctor.world.cloud.google
    course = await _abandon(diagnostics)
    await course.finish()
    exchanges = google.exchanges
    await diagnostics.examine_hub("main")
    assert google.exchanges == exchanges + 1


async def test_what_a_caller_did_not_wait_for_is_dropped_by_the_diagnosis_of_another_hub(doctor: Doctor) -> None:
    """Unless it is under way."""
    await doctor.onboard()
    diagnostics = doctor.world.services.diagnostics
    course = await _abandon(diagnostics)
    account = doctor.world.cloud.hubs["main"].service_account
    with doctor.world.cloud.google_part.faults.inject(Fault(path=f"/{account}:generateAccessToken", hang=True)):
        await diagnostics.examine_hub("two")
        assert [one for one, _ in diagnostics._shared.values()] == [course]
        await course.close()
    await diagnostics.examine_hub("two")
    assert diagnostics._shared == {}


async def _abandon(diagnostics: Diagnostics) -> Course:
    """Begin a diagnosis of the hub main, and return what is left under way when its caller goes away."""
    abandoned = asyncio.create_task(diagnostics.examine_hub("main"))
    await asyncio.sleep(0)
    abandoned.cancel()
    await asyncio.wait([abandoned])
    [(course, _)] = diagnostics._shared.values()
    return course


async def test_the_calls_of_a_diagnosis_are_few(doctor: Doctor) -> None:
    """docs/runbook/README.md has the figures. They share a few connections."""
    names = ("one", "two", "three", "four")
    targets = [{"namespace": name, "serviceAccounts": ["default"]} for name in names]
    clusters = [await doctor.onboard("aks-1"), await doctor.onboard("aks-2", targets=targets)]
    cloud = doctor.world.cloud
    calls = []
    for cluster in clusters:
        parts = [cloud.identity_part, cloud.google_part, cloud.registry_parts[0], cloud.arm_part, cluster.part]
        before, first = sum(part.journal.count() for part in parts), cluster.part.journal.count()
        await doctor.examine(cluster)
        calls.append(sum(part.journal.count() for part in parts) - before)
    # Ten for each namespace; the second cluster needs no federated credential, and so three calls less to Azure.
    assert calls == [25, 25 + 3 * 10 - 3]
    ports = {request.port for request in clusters[-1].part.journal.requests[first:]}
    assert len(ports) <= 1 + 2 * 4, "one to knock, and as many as each of two identities may have"


@pytest.mark.parametrize(
    ("path", "hop"), [("/v1/token$", "token-exchange"), (":generateAccessToken$", "impersonation")]
)
async def test_the_call_to_google_that_failed_is_told_apart(doctor: Doctor, path: str, hop: str) -> None:
    """Both calls can respond alike."""
    for fault in (
        Fault(path=path, status=503, body="upstream"),
        Fault(path=path, status=200, body="<html>Sign in</html>", content_type="text/html"),
        Fault(path=path, status=200, body="{}"),
        Fault(path=path, drop=True),
    ):
        with doctor.world.cloud.google_part.faults.inject(fault):
            diagnosis = await doctor.world.services.diagnostics.examine_hub("main")
        failed = [(one.name, one.category) for one in diagnosis.hops if one.state == "failed"]
        assert failed == [(hop, "google_unavailable")], format_hops(diagnosis)


async def test_the_claims_are_shown_and_the_token_is_not(doctor: Doctor) -> None:
    """Also where Google refuses them, because they are what it has refused."""
    cloud = doctor.world.cloud
    cloud.hubs["main"].provider.disabled = True
    diagnosis = await doctor.world.services.diagnostics.examine_hub("main")
    refused = find_hop(diagnosis, "token-exchange")
    expected = {"iss": cloud.entra.issuer_v2, "sub": cloud.app.principal_id}
    assert expected.items() <= refused.evidence.items()
    assert expected.items() <= find_hop(diagnosis, "entra-token").evidence.items()
    text = diagnosis.model_dump_json()
    assert not [token for token, _ in cloud.identity._cache.values() if token[:40] in text or token[-40:] in text]
