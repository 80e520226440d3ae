"""Google fails: at the exchange (STS), at the impersonation (IAM), with its clock."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Final

import pytest
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from local.cloud import LocalCluster
from local.serving import Fault
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
STS: Final = "/v1/token$"
IAM: Final = ":generateAccessToken$"


def _refused(error: str, description: str) -> str:
    return json.dumps({"error": error, "error_description": description})


_UNAVAILABLE: Final = '{"error":{"code":503,"message":"The service is currently unavailable.","status":"UNAVAILABLE"}}'
_DENIED: Final = json.dumps(
    {
        "error": {
            "code": 403,
            "message": "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
            "status": "PERMISSION_DENIED",
        }
    }
)


async def _all_fail(world: World, clusters: list[LocalCluster]) -> set[str]:
    return set(await asyncio.gather(*(world.refresh_category(cluster) for cluster in clusters)))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path=STS, status=503, body=_UNAVAILABLE),
        Fault(path=STS, status=500, body="<html>Error 500 (Server Error)!!1</html>", content_type="text/html"),
        Fault(path=STS, status=429, body='{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}'),
        Fault(path=STS, drop=True),
        Fault(path=STS, status=200, body="<html>Sign in</html>", content_type="text/html"),
        Fault(path=IAM, status=503, body=_UNAVAILABLE),
        Fault(path=IAM, status=200, body='{"accessToken":""}'),
    ],
    ids=["503", "500-html", "429", "dropped", "200-html", "iam-503", "iam-empty"],
)
async def test_four_clusters_share_three_tries_and_keep_their_secrets(world: World, fault: Fault) -> None:
    """The failure is reported for each of them."""
    clusters = [await world.join(f"aks-{n}") for n in range(4)]
    for cluster in clusters:
        await world.refresh(cluster)
    before = [await cluster.admin.read_secret("deepintshield", "ar-pull-secret") for cluster in clusters]
    asked = world.cloud.google_part.journal.count("POST", fault.path)
    world.cloud.google_part.faults.add(fault)
    world.clock.advance(25 * MINUTE)
    assert {"google_unavailable"} == await _all_fail(world, clusters)
    assert asked + 3 == world.cloud.google_part.journal.count("POST", fault.path)
    assert before == [await cluster.admin.read_secret("deepintshield", "ar-pull-secret") for cluster in clusters]
    events = world.events.named("secret.refresh_failed")
    assert [event["category"] for event in events] == ["google_unavailable"] * 4


async def test_a_try_that_succeeds_after_others_is_a_success(world: World) -> None:
    cluster = await world.join("aks-1")
    world.cloud.google_part.faults.add(Fault(path=STS, status=503, body=_UNAVAILABLE, times=2))
    await world.refresh(cluster)
    assert world.cloud.google.exchanges == 1
    assert world.events.named("secret.refresh_failed") == []


async def test_a_slow_exchange_ends_with_the_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All callers fail at the same time: the chain has one deadline, not one per caller."""
    monkeypatch.setattr("pullkeeper.publisher.federation._DEADLINE", timedelta(seconds=0.5))
    clusters = [await world.join(f"aks-{n}") for n in range(4)]
    world.cloud.google_part.faults.add(Fault(path=STS, delay=timedelta(seconds=2)))
    assert {"google_unavailable"} == await _all_fail(world, clusters)
    assert world.cloud.google_part.journal.count("POST", STS) <= 1


async def test_retry_after_is_honoured(world: World) -> None:
    cluster = await world.join("aks-1")
    waits: list[float] = []

    def note(details: RetryDetails) -> None:
        waits.append(details.wait_for)

    world.cloud.google_part.faults.add(Fault(path=STS, status=429, headers={"Retry-After": "1"}, times=1))
    set_on_retry_hooks([note])
    try:
        with stamina.set_testing(False):
            await world.refresh(cluster)
    finally:
        set_on_retry_hooks(None)
    assert waits == [1.0]


@pytest.mark.parametrize("hop", ["google", "cluster"])
async def test_a_long_retry_after_is_not_waited_for(world: World, hop: str) -> None:
    """The message fails at once, and the queue waits instead."""
    cluster = await world.join("aks-1")
    part, path = (world.cloud.google_part, STS) if hop == "google" else (cluster.part, "/secrets/")
    part.faults.add(Fault(path=path, status=429, headers={"Retry-After": "40"}))
    with stamina.set_testing(False):
        category = await world.refresh_category(cluster)
    assert ("google_unavailable" if hop == "google" else "cluster_throttled") == category
    assert part.journal.count(path=path) == 1


@pytest.mark.parametrize(
    "seconds",
    ["-1", "Tue, 24 Nov 2026 00:00:00 GMT", "", "9" * 40, "9" * 5000],
    ids=["negative", "date", "empty", "ages", "beyond-int"],
)
@pytest.mark.parametrize("hop", ["google", "cluster"])
async def test_an_invalid_retry_after_is_ignored(world: World, hop: str, seconds: str) -> None:
    cluster = await world.join("aks-1")
    part, path = (world.cloud.google_part, STS) if hop == "google" else (cluster.part, "/secrets/")
    part.faults.add(Fault(path=path, status=429, headers={"Retry-After": seconds}))
    await world.refresh_category(cluster)
    assert part.journal.count(path=path) == 3


@pytest.mark.parametrize(
    ("path", "status", "body", "category"),
    [
        (
            STS,
            400,
            _refused("invalid_grant", "The audience in ID Token [x] does not match the expected audience."),
            "federation_audience",
        ),
        (
            STS,
            400,
            _refused("invalid_grant", "The issuer in ID Token x does not match the expected one in config: y"),
            "federation_issuer",
        ),
        (
            STS,
            400,
            _refused("unauthorized_client", "The given credential is rejected by the attribute condition."),
            "federation_condition",
        ),
        (
            STS,
            400,
            _refused("invalid_target", 'The target service indicated by the "audience" parameters is invalid.'),
            "federation_provider",
        ),
        (STS, 400, _refused("invalid_grant", "Unable to verify the ID Token signature."), "federation_token"),
        (IAM, 403, _DENIED, "impersonation_denied"),
        (IAM, 404, '{"error":{"code":404,"message":"Not found; Gaia id not found"}}', "service_account_missing"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.replace("_", "").isalpha() else "",
)
async def test_a_refusal_is_not_retried_and_reported_for_every_cluster(
    world: World, path: str, status: int, body: str, category: str
) -> None:
    """Each message is done; the next refresh comes after a quarter of a life."""
    clusters = [await world.join(f"aks-{n}") for n in range(4)]
    world.cloud.google_part.faults.add(Fault(path=path, status=status, body=body))
    assert {category} == await _all_fail(world, clusters)
    assert world.cloud.google_part.journal.count("POST", path) == 1
    assert [category] * 4 == [event["category"] for event in world.events.named("secret.refresh_failed")]
    for cluster in clusters:
        until = await world.next_due(cluster) - world.clock()
        assert 14 * MINUTE < until <= 15 * MINUTE
        assert "<" not in str((await world.target(cluster)).remedy)


@pytest.mark.parametrize("service", ["sts.googleapis.com", "iamcredentials.googleapis.com"])
async def test_a_disabled_api_is_reported_with_the_command_that_enables_it(world: World, service: str) -> None:
    cluster = await world.join("aks-1")
    world.cloud.google.disabled.add(service)
    assert await world.refresh_category(cluster) == "google_api_disabled"
    assert f"gcloud services enable {service} --project=100000" in str((await world.target(cluster)).remedy)


@pytest.mark.parametrize("service", ["sts.googleapis.com", "iamcredentials.googleapis.com"])
async def test_a_perimeter_is_reported_with_its_identifier(world: World, service: str) -> None:
    cluster = await world.join("aks-1")
    world.cloud.google.protected.add(service)
    assert await world.refresh_category(cluster) == "google_perimeter_denied"
    detail = (await world.target(cluster)).detail or ""
    assert re.fullmatch(r"Request is prohibited .* vpcServiceControlsUniqueIdentifier: [\w-]{54}", detail)


async def test_a_mint_that_takes_too_long_is_a_refusal_for_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that takes as long as a refusal counts."""
    monkeypatch.setattr("pullkeeper.publisher.federation._DEADLINE", timedelta(seconds=1))
    first, second = await world.join("aks-1"), await world.join("aks-2")
    with world.cloud.google_part.faults.inject(Fault(path=STS, hang=True)):
        refresh = asyncio.create_task(world.refresh_category(first))
        while not world.cloud.google_part.faults.have_fired:  # noqa: ASYNC110 - it tells no one
            await asyncio.sleep(0.01)
        world.clock.advance(MINUTE)
        assert await refresh == "google_unavailable"
    assert await world.refresh_category(second) == "google_unavailable"
    assert world.cloud.google.exchanges == 0


async def test_a_refusal_that_is_kept_leads_to_no_token(world: World) -> None:
    """The frames of the calls hold them."""
    cluster = await world.join("aks-1")
    world.cloud.google_part.faults.add(Fault(path=IAM, status=403, body=_DENIED))
    for _ in range(2):
        assert await world.refresh_category(cluster) == "impersonation_denied"
    [mint] = world.services.federation._mints.values()
    assert mint.refusal
    assert (mint.refusal.__traceback__, mint.refusal.__context__) == (None, None)


async def test_a_stale_entra_token_is_renewed_once(world: World) -> None:
    cluster = await world.join("aks-1")
    body = _refused("invalid_grant", "ID Token issued at 1 is stale to sign-in.")
    world.cloud.google_part.faults.add(Fault(path=STS, status=400, body=body))
    assert await world.refresh_category(cluster) == "federation_stale"
    assert world.cloud.google_part.journal.count("POST", STS) == 2
    assert world.cloud.identity_part.journal.count() == 2


@pytest.mark.parametrize("path", [STS, IAM])
async def test_a_redirect_is_not_followed(world: World, path: str) -> None:
    """It would send the Entra token to another server."""
    cluster = await world.join("aks-1")
    trap = world.cloud._arm_server.url
    world.cloud.google_part.faults.add(Fault(path=path, status=307, headers={"Location": f"{trap}/v1/token"}))
    assert await world.refresh_category(cluster) == "google_unavailable"
    assert world.cloud.arm_part.journal.requests == []


@pytest.mark.parametrize("path", [STS, IAM])
async def test_a_huge_response_is_a_failure_of_google(world: World, path: str) -> None:
    cluster = await world.join("aks-1")
    huge = json.dumps({"access_token": "x" * 10_000_000, "accessToken": "x", "expires_in": 3600})
    world.cloud.google_part.faults.add(Fault(path=path, status=200, body=huge))
    assert await world.refresh_category(cluster) == "google_unavailable"
    status = await world.target(cluster)
    assert len(str(status.detail)) < 700


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_googles_clock_never_makes_a_token_live_longer(
    world: World, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """With a clock that is fast, Google's expireTime lies more than an hour ahead; what counts is what was asked."""
    cluster = await world.join("aks-1")
    issue = world.cloud.google.issue

    def skewed(prefix: str, member: str, scopes: frozenset[str], life: timedelta) -> object:
        token, until = issue(prefix, member, scopes, life)
        return token, until + minutes * MINUTE

    monkeypatch.setattr(world.cloud.google, "issue", skewed)
    await world.refresh(cluster)
    status = await world.target(cluster)
    issued = world.cloud.google.lookup(await world.read_token(cluster))
    assert status.expires_at is not None
    assert issued is not None
    assert status.expires_at <= issued.expires_at + timedelta(seconds=1)


async def test_a_token_that_was_expired_when_it_came_is_not_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's clock is more than a token's life behind: that is reported, not a failure of the cluster."""
    cluster = await world.join("aks-1")
    issue = world.cloud.google.issue

    def skewed(prefix: str, member: str, scopes: frozenset[str], life: timedelta) -> object:
        token, until = issue(prefix, member, scopes, life)
        return token, until - 70 * MINUTE

    monkeypatch.setattr(world.cloud.google, "issue", skewed)
    assert await world.refresh_category(cluster) == "google_unavailable"
    assert cluster.part.journal.count("PATCH", "/secrets/") == 0


async def test_a_revoked_token_is_replaced_by_hand_once_the_held_one_has_aged(world: World) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(2)]
    await world.tick()
    revoked = await world.read_token(clusters[0])
    world.cloud.google.revoke_all()
    world.clock.advance(10 * MINUTE + timedelta(seconds=1))
    await world.services.scheduler.refresh_all_now()
    await world.process_queue()
    for cluster in clusters:
        token = await world.read_token(cluster)
        assert revoked != token
        assert world.cloud.google.lookup(token) is not None


async def test_a_failing_hub_leaves_the_others_clusters_fresh(world: World) -> None:
    world.cloud.add_hub("other")
    bad = [await world.join(f"bad-{n}", "main") for n in range(3)]
    good = [await world.join(f"good-{n}", "other") for n in range(3)]
    account = world.cloud.hubs["main"].service_account
    world.cloud.google_part.faults.add(Fault(path=f"{account}{IAM}", status=503, body=_UNAVAILABLE))
    await world.tick()
    assert [(await world.target(cluster)).state(world.clock()) for cluster in bad] == ["pending"] * 3
    assert [(await world.target(cluster)).state(world.clock()) for cluster in good] == ["fresh"] * 3
    for cluster in good:
        assert world.cloud.google.lookup(await world.read_token(cluster)) is not None
