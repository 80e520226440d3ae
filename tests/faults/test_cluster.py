"""One cluster fails: it is down, slow, overloaded, or refuses."""

import itertools
import json
from datetime import timedelta
from typing import Final

import pytest

from local.kubernetes import recordings
from local.serving import Fault
from pullkeeper.model import Target
from pullkeeper.refresh.pace import quick_retry
from tests.world import MINUTE, World

pytestmark = pytest.mark.servers
_SECRETS: Final = "/secrets/"
_SLOW: Final = (14 * MINUTE, 15 * MINUTE)


async def test_a_refused_connection_keeps_the_old_secret_and_is_retried_by_the_queue(world: World) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    await cluster.server.stop()
    world.clock.advance(25 * MINUTE)
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    after = await world.status(cluster)
    assert timedelta() < await world.next_due(cluster) - world.clock() <= quick_retry(after.life)
    assert after.targets[str(cluster.target)].state(world.clock()) == "stale"
    await cluster.server.start()
    await world.refresh(cluster)
    assert (await world.target(cluster)).state(world.clock()) == "fresh"


async def test_a_cluster_that_hangs_is_called_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not three times: it would hold a place that others wait for."""
    cluster = await world.join("aks-1")
    monkeypatch.setattr("pullkeeper.cluster.api._TIMEOUT", 0.3)
    cluster.part.faults.add(Fault(path=_SECRETS, method="PATCH", hang=True))
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    assert cluster.part.journal.count("PATCH", _SECRETS) == 1


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "503"])
async def test_a_cluster_that_answers_with_errors_is_unreachable(world: World, *, dropped: bool) -> None:
    """One that does not respond at all is left to the queue; errors of its own may have passed at the next try."""
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path=_SECRETS, method="PATCH", status=503, body="upstream", drop=dropped))
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    assert cluster.part.journal.count("PATCH", _SECRETS) == (1 if dropped else 3)


async def test_an_overloaded_server_gets_the_wait_that_it_asks_for(world: World) -> None:
    """The body is plain text, not a Status."""
    cluster = await world.join("aks-1")
    fault = recordings.fault("throttled")
    fault.times = 2
    cluster.part.faults.add(fault)
    await world.refresh(cluster)
    assert cluster.part.journal.count("PATCH", _SECRETS) == 3
    fault.times = None
    assert await world.refresh_category(cluster) == "cluster_throttled"
    assert "Too many requests" in str((await world.target(cluster)).detail)


@pytest.mark.parametrize(
    ("case", "category"),
    [
        ("unauthorized", "cluster_unauthorized"),
        ("quota", "quota_exceeded"),
        ("webhook-denies", "admission_denied"),
        ("policy-denies", "admission_denied"),
        ("managed-fields", "internal"),
        ("unknown-field", "internal"),
    ],
)
async def test_a_refusal_is_not_retried_before_a_quarter_of_a_life(world: World, case: str, category: str) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(recordings.fault(case, method="PATCH"))
    assert await world.refresh_category(cluster) == category
    assert cluster.part.journal.count("PATCH", _SECRETS) == 1
    assert [category] == [event["category"] for event in world.events.named("secret.refresh_failed")]
    shortest, longest = _SLOW
    assert shortest < await world.next_due(cluster) - world.clock() <= longest
    assert await world.services.queues["refresh"].depth() == 0


@pytest.mark.parametrize(
    ("case", "category"), [("webhook-down", "admission_denied"), ("timed-out", "cluster_unreachable")]
)
async def test_a_failure_of_the_server_is_retried(world: World, case: str, category: str) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(recordings.fault(case, method="PATCH"))
    assert await world.refresh_category(cluster) == category
    assert cluster.part.journal.count("PATCH", _SECRETS) == 3


async def test_a_missing_role_is_reported_with_permission_and_principal(world: World) -> None:
    cluster = await world.join("aks-1", access=False)
    assert await world.refresh_category(cluster) == "cluster_rbac_denied"
    target = await world.target(cluster)
    principal = world.cloud.app.principal_id
    assert f'User "{principal}" cannot patch resource "secrets"' in str(target.detail)
    assert f"kubectl auth can-i patch secret/ar-pull-secret -n deepintshield --as={principal}" in str(target.remedy)
    shortest, longest = _SLOW
    assert shortest < await world.next_due(cluster) - world.clock() <= longest


async def test_a_terminating_namespace_is_not_reported_as_a_missing_role(world: World) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(recordings.fault("namespace-terminating"))
    assert await world.refresh_category(cluster) == "namespace_terminating"


async def test_a_missing_namespace_is_reported_as_such_if_the_role_is_cluster_wide(world: World) -> None:
    """Otherwise it looks like a missing role."""
    local = await world.join("local", local_accounts=True)
    entra = await world.join("entra")
    for cluster in (local, entra):
        await cluster.admin.call("DELETE", "/api/v1/namespaces/deepintshield")
    assert "namespace" in await world.refresh_category(local)
    assert await world.refresh_category(entra) in {"cluster_rbac_denied", "namespace_terminating"}


async def test_one_target_that_refuses_leaves_the_others_fresh(world: World) -> None:
    targets = [Target(namespace="one"), Target(namespace="two")]
    cluster = await world.join("aks-1", targets=targets)
    cluster.part.faults.add(recordings.fault("webhook-denies", path="/namespaces/one/secrets/"))
    await world.refresh_category(cluster)
    statuses = (await world.status(cluster)).targets
    assert [statuses[str(target)].state(world.clock()) for target in targets] == ["pending", "fresh"]


_DEEP = pytest.param("[" * 60_000, id="deeply nested")


@pytest.mark.parametrize("body", ["[]", "null", "<html>", '{"details": 1}', '{"details":{"causes":[1]}}', _DEEP])
async def test_a_refusal_in_an_unknown_form_is_a_failure(world: World, body: str) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path=_SECRETS, status=418, body=body))
    assert await world.refresh_category(cluster) == "internal"


@pytest.mark.parametrize("body", ["[]", "null", '{"metadata":[]}', '{"metadata":{"managedFields":[1]}}', "{}", _DEEP])
async def test_a_success_in_an_unknown_form_is_a_failure(world: World, body: str) -> None:
    """Something that answers 200 to everything is no API server."""
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path=_SECRETS, status=200, body=body))
    assert await world.refresh_category(cluster) == "cluster_unreachable"


async def test_a_response_in_many_packets_is_read_to_its_end(world: World) -> None:
    cluster = await world.join("aks-1")
    metadata = {"uid": "u-1", "annotations": {f"a{n}": "x" * 1000 for n in range(250)}}
    answer = json.dumps({"kind": "PartialObjectMetadata", "metadata": metadata})
    cluster.part.faults.add(Fault(path=_SECRETS, status=200, body=answer))
    await world.refresh(cluster)
    assert (await world.target(cluster)).uid == "u-1"


async def test_a_huge_response_is_not_read_to_its_end(world: World) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path=_SECRETS, status=200, body='{"metadata":{"uid":"' + "x" * 5_000_000 + '"}}'))
    assert await world.refresh_category(cluster) == "cluster_unreachable"


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_not_followed(world: World, status: int) -> None:
    """It would send the cluster's token, and Google's, to another server."""
    cluster, trap = await world.join("aks-1"), await world.join("trap")
    seen = len(trap.part.journal.requests)
    cluster.part.faults.add(Fault(path=_SECRETS, status=status, headers={"Location": f"{trap.server.url}/api"}))
    assert await world.refresh_category(cluster) == "cluster_unreachable"
    assert seen == len(trap.part.journal.requests)


async def test_a_cluster_that_stays_down_is_tried_at_growing_intervals(world: World) -> None:
    """At every tick while the last good token may be valid; after that a cluster that is gone costs little."""
    cluster = await world.join("aks-1")
    await world.tick()
    await cluster.server.stop()
    tried: list[int] = []
    for minute in range(0, 180, 5):
        world.clock.advance(5 * MINUTE)
        if await world.tick():
            tried.append(minute)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert gaps[:5] == [5] * 5
    assert {20, 25} >= set(gaps[-3:])
    await cluster.server.start()
    world.clock.advance(20 * MINUTE)
    await world.tick()
    assert (await world.target(cluster)).state(world.clock()) == "fresh"
    assert (await world.target(cluster)).failures == 0
