"""From the timer to the secret, through the host, the queue and the tables."""

import base64
import os
from contextlib import suppress
from datetime import timedelta
from functools import partial

import aiohttp
import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.queue.aio import QueueClient

from local.cloud import LocalCluster
from local.function_host import HostProcess
from local.serving import Fault
from tests.end_to_end.conftest import Deployed, read_token, until
from tests.world import World

pytestmark = pytest.mark.servers
_local_host_only = partial(pytest.mark.skipif, "CORE_TOOLS" in os.environ)


async def _post(host: HostProcess, route: str, key: str | None = None) -> tuple[int, str]:
    headers = {"x-functions-key": key} if key else {}
    async with aiohttp.ClientSession() as session, session.post(f"{host.url}/api/{route}", headers=headers) as answer:
        return answer.status, await answer.text()


async def test_timer_and_queue_keep_the_fleet_fresh_by_themselves(world: World, deployed: Deployed) -> None:
    """Two rotations with tokens of half a minute; the secrets stay the same objects."""
    world.cloud.add_hub("short", lifetime=20)
    clusters = [await world.join(f"aks-{n}", "short") for n in range(3)]
    await deployed.host()
    for cluster in clusters:
        await until(lambda cluster=cluster: _is_renewed(world, cluster, None))  # type: ignore[misc]
    tokens = {cluster.id: await world.read_token(cluster) for cluster in clusters}
    # From the secrets: the status is written a moment later.
    uids = {cluster.id: await _uid(cluster) for cluster in clusters}
    for cluster in clusters:
        await until(lambda cluster=cluster: _is_renewed(world, cluster, tokens[cluster.id]))  # type: ignore[misc]
    for cluster in clusters:
        assert await _uid(cluster) == uids[cluster.id]


async def _uid(cluster: LocalCluster) -> str:
    return str((await cluster.admin.read_secret("deepintshield", "ar-pull-secret"))["metadata"]["uid"])


async def _is_renewed(world: World, cluster: LocalCluster, old: str | None) -> bool:
    return await read_token(world, cluster) not in {None, old}


async def test_refresh_now_refreshes_one_cluster_or_all(world: World, deployed: Deployed) -> None:
    cluster = await world.join("aks-1")
    host = await deployed.host(schedule="0 0 0 1 1 *")
    one = f"clusters/{cluster.id.subscription}/{cluster.id.resource_group}/{cluster.id.name}/refresh"
    assert await _post(host, one, host.keys.default) == (202, '{"queued": 1}')
    await until(lambda: _is_renewed(world, cluster, None))
    assert await _post(host, "refresh", host.keys.default) == (202, '{"queued": 1}')
    status, body = await _post(host, one.replace("aks-1", "aks-2"), host.keys.default)
    assert status == 404
    assert '"category": "invalid_request"' in body
    status, body = await _post(host, one.replace(cluster.id.subscription, "mine"), host.keys.default)
    assert status == 400
    assert '"remedy"' in body


@pytest.mark.parametrize(("settings", "status"), [({}, 200), ({"HUBS": "not even JSON"}, 503)])
async def test_health_calls_no_service(world: World, deployed: Deployed, settings: dict[str, str], status: int) -> None:
    host = await deployed.host(schedule="0 0 0 1 1 *", **settings)
    async with aiohttp.ClientSession() as session, session.get(f"{host.url}/api/health") as response:
        assert response.status == status
    assert world.cloud.identity_part.journal.requests == []


@_local_host_only(reason="the time that a message is invisible is a constant in Azure: ten minutes")
async def test_a_killed_host_loses_no_cluster(world: World, deployed: Deployed) -> None:
    """Killed in the middle of a refresh, with the message in its hands; the next host takes it up."""
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path="/secrets/", hang=True, times=1))
    first = await deployed.host("--invisibility", "3")
    await until(lambda: _is_asked(cluster))
    await first.kill()
    await deployed.host("--invisibility", "3", schedule="0 0 0 1 1 *")
    await until(lambda: _is_renewed(world, cluster, None))


async def _is_asked(cluster: LocalCluster) -> bool:
    return cluster.part.faults.have_fired


async def test_forged_messages_go_to_poison_with_an_event(world: World, deployed: Deployed) -> None:
    """Other messages do not wait for them."""
    forged = (
        '{"cluster":"@-unknown","reason":"due"}',
        '{"cluster":"@","reason":"due","server":"https://evil.example"}',
        "no JSON at all",
    )
    cluster = await world.join("aks-1")
    host = await deployed.host()
    async with QueueClient.from_connection_string(world.storage, "refresh") as queue:
        with suppress(ResourceExistsError):
            await queue.create_queue()
        for message in forged:
            await queue.send_message(base64.b64encode(message.replace("@", str(cluster.id)).encode()).decode())
    await until(lambda: _logged(host, "message.poisoned", len(forged)))
    await until(lambda: _is_renewed(world, cluster, None))
    assert "evil.example" not in host.output


async def _logged(host: HostProcess, text: str, times: int) -> bool:
    return host.output.count(text) >= times


async def test_sigint_lets_functions_end(world: World, deployed: Deployed) -> None:
    cluster = await world.join("aks-1")
    cluster.part.faults.add(Fault(path="/secrets/", slow_only=True, delay=timedelta(seconds=1)))
    host = await deployed.host()
    await until(lambda: _is_asked(cluster))
    assert await host.stop() == 0
    assert await read_token(world, cluster) is not None
    assert "Traceback" not in host.output
