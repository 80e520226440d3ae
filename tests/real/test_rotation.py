"""A thousand tokens in one secret."""

import json
import secrets as randomness
from datetime import UTC, datetime, timedelta

from local.azure.entra import AKS
from local.cloud import LocalCluster
from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.api import Api
from pullkeeper.model import Endpoint, Target
from pullkeeper.publisher.hub import Hub
from pullkeeper.tokens import EntraToken, Token
from tests.contract.conversation import Caller
from tests.real.conftest import Join
from tests.real.watch import watching
from tests.world import World

_ROTATIONS = 1000


def _hub(world: World) -> Hub:
    trusted = world.cloud.environment("")["TRUSTED_GOOGLE_HOSTS"]
    return Hub.parse(dict(world.cloud.hubs["main"].document), trusted_hosts=frozenset(trusted.split(",")))


def _token(number: int) -> Token:
    issued = datetime.now(UTC) + number * timedelta(minutes=25)
    return Token(f"ya29.c.{number}.{randomness.token_urlsafe(180)}", issued, issued + timedelta(hours=1))


def _api(world: World, cluster: LocalCluster) -> Api:
    endpoint = Endpoint(server=cluster.server.url, ca=cluster.server.ca_pem, read_at=world.clock())
    return Api(endpoint, EntraToken(world.cloud.entra.token(world.cloud.app, AKS)))


async def test_a_thousand_rotations_keep_one_uid_and_leave_nothing_behind(
    world: World, join: Join, admin: Caller, target: Target
) -> None:
    """Each is one change that a kubelet sees, none is a secret that is not there, and the object does not grow."""
    cluster = await join()
    hub, known = _hub(world), None
    async with watching(admin, target.namespace) as watch:
        async with _api(world, cluster) as api:
            for number in range(_ROTATIONS):
                written = await pull_secret.write(api, target, hub, _token(number), known_uid=known, adopt=False)
                assert written.drift is None
                known = written.uid
        events = await watch.events(target.secret)

    assert [event.kind for event in events] == ["ADDED"] + ["MODIFIED"] * (_ROTATIONS - 1)
    assert {known} == {event.uid for event in events}
    versions = [event.version for event in events]
    assert sorted(set(versions)) == versions
    assert [(entry["manager"], entry["operation"]) for entry in events[-1].metadata["managedFields"]] == [
        ("pullkeeper", "Apply")
    ]
    sizes = {len(json.dumps(event.metadata["managedFields"])) for event in events}
    assert len(sizes) == 1
    assert max(sizes) < 600


async def test_the_same_token_again_changes_nothing(world: World, join: Join, admin: Caller, target: Target) -> None:
    """A message that comes twice, two instances with one mint: no pod sees any of it."""
    cluster = await join()
    hub, token = _hub(world), _token(0)
    async with watching(admin, target.namespace) as watch:
        async with _api(world, cluster) as api:
            first = await pull_secret.write(api, target, hub, token, known_uid=None, adopt=False)
            for _ in range(10):
                await pull_secret.write(api, target, hub, token, known_uid=first.uid, adopt=False)
        assert [event.kind for event in await watch.events(target.secret)] == ["ADDED"]
