"""An upgrade and a rollback: hosts of two versions share queues and tables, and nothing is lost.

The newer version is this one with another format of rows and messages. That is the hardest case: each knows its own.
"""

import shutil
from itertools import count
from pathlib import Path

import pytest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from local.cloud import LocalCluster
from pullkeeper.fleet.shards import shard_of
from pullkeeper.fleet.table import entity_keys
from pullkeeper.model import ClusterId
from tests.end_to_end.conftest import Deployed, read_token, until
from tests.world import World

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]


def write_newer_version(folder: Path) -> Path:
    for name in ("functions", "manifests", "pullkeeper"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("function_app.py", "host.json"):
        shutil.copy(ROOT / name, folder)
    module = folder / "pullkeeper" / "fleet" / "queues.py"
    text = module.read_text(encoding="utf-8")
    for right, newer in (
        ("FORMAT: Final = 1\n", "FORMAT: Final = 2\n"),
        ("Literal[1] = FORMAT", "Literal[2] = FORMAT"),
    ):
        assert text.count(right) == 1
        text = text.replace(right, newer)
    module.write_text(text, encoding="utf-8")
    return folder


async def join_newer(world: World, other: ClusterId) -> LocalCluster:
    """Add a cluster as the newer version would, in another shard than this one."""
    names = (f"newer-{n}" for n in count())
    name = next(
        name
        for name in names
        if shard_of(ClusterId.of(other.subscription, other.resource_group, name)) != shard_of(other)
    )
    cluster = await world.join(name, "short")
    rows = {"fleet": entity_keys(cluster.id), "shards": {"PartitionKey": "shard", "RowKey": shard_of(cluster.id)}}
    async with TableServiceClient.from_connection_string(world.storage) as tables:
        for table, keys in rows.items():
            await tables.get_table_client(table).update_entity({**keys, "Format": 2}, mode=UpdateMode.MERGE)
    return cluster


async def test_two_versions_share_a_queue_and_a_rollback_loses_nothing(
    world: World, deployed: Deployed, tmp_path: Path
) -> None:
    world.cloud.add_hub("short", lifetime=20)
    older = await world.join("older", "short")
    newer = await join_newer(world, older.id)

    async def renew(*clusters: LocalCluster) -> None:
        """Wait until each has another token than now."""
        for cluster in clusters:
            before = await read_token(world, cluster)

            async def is_renewed(cluster: LocalCluster = cluster, before: str | None = before) -> bool:
                return await read_token(world, cluster) not in {None, before}

            await until(is_renewed)

    first = await deployed.host()
    await renew(older)
    assert await read_token(world, newer) is None
    upgraded = await deployed.host(app=str(write_newer_version(tmp_path)))
    await renew(older, newer)
    await upgraded.stop()
    kept = await read_token(world, newer)
    await renew(older)
    assert await read_token(world, newer) == kept
    await upgraded.restart()
    await renew(older, newer)
    queues = world.services.queues
    assert [await queues[f"{name}-poison"].depth() for name in ("refresh", "onboarding")] == [0, 0]
    for host in (first, upgraded):
        assert "unknown_format" in host.output
        assert "message.poisoned" not in host.output
