"""Azurite as the tests and the demo use it."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import HttpResponseError
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.azurite import Azurite, AzuriteError

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]


def queue_port(connection_string: str) -> int:
    fields = dict(field.split("=", 1) for field in connection_string.split(";"))
    port = urlsplit(fields["QueueEndpoint"]).port
    assert port is not None
    return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_each_account_has_its_own_storage(azurite: Azurite) -> None:
    async with QueueServiceClient.from_connection_string(azurite.account("one")) as one:
        await one.create_queue("work")
        assert [queue.name async for queue in one.list_queues()] == ["work"]
    async with QueueServiceClient.from_connection_string(azurite.account("other")) as other:
        assert [queue.name async for queue in other.list_queues()] == []


async def test_an_account_serves_tables_too(azurite: Azurite) -> None:
    async with TableServiceClient.from_connection_string(azurite.account("tables")) as tables:
        table = await tables.create_table_if_not_exists("status")
        await table.upsert_entity({"PartitionKey": "p", "RowKey": "r", "n": 1})
        assert (await table.get_entity("p", "r"))["n"] == 1


def test_the_same_name_is_the_same_account(azurite: Azurite) -> None:
    assert azurite.account("again") == azurite.account("again")


async def test_a_wrong_key_is_refused(azurite: Azurite) -> None:
    """Accounts are kept apart by their keys, not by good manners."""
    forged = azurite.account("forged").replace("AccountKey=", "AccountKey=AAAA")
    async with QueueServiceClient.from_connection_string(forged, retry_total=0) as queues:
        with pytest.raises(HttpResponseError) as refused:
            await queues.create_queue("work")
    assert refused.value.status_code == 403


async def test_it_starts_and_stops_within_a_running_loop() -> None:
    azurite = Azurite()
    await azurite.start()
    port = queue_port(azurite.account("any"))
    assert answers(port)
    await azurite.stop()
    assert not answers(port)
    with pytest.raises(AzuriteError, match="not running"):
        azurite.account("any")


def test_two_at_once_do_not_meet(azurite: Azurite) -> None:
    with Azurite() as second:
        assert queue_port(azurite.account("any")) != queue_port(second.account("any"))


def test_it_ends_with_a_parent_that_is_killed() -> None:
    script = """
import time
from local.azurite import Azurite
with Azurite() as azurite:
    print(azurite.account("any"), flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = queue_port(parent.stdout.readline().strip())
        assert answers(port)
        parent.kill()
    deadline = time.monotonic() + 10
    while answers(port):
        assert time.monotonic() < deadline, "Azurite outlived its parent by ten seconds"
        time.sleep(0.05)


def test_without_node_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AzuriteError, match=r"Node\.js.*make setup"), Azurite():
        pass


def test_without_its_modules_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AzuriteError, match="not installed; run `make setup`"), Azurite(home=tmp_path):
        pass


def test_a_process_that_ends_at_once_is_told_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "node_modules" / "azurite").mkdir(parents=True)
    (tmp_path / "run.cjs").write_text("console.error('no room on the disk'); process.exit(1)")
    with pytest.raises(AzuriteError, match="no room on the disk"), Azurite(home=tmp_path):
        pass


def test_the_lock_pins_one_version_and_names_no_registry() -> None:
    """With a host in the lock, `npm ci` would go there past whatever mirror a machine has."""
    package = json.loads((ROOT / "local/azurite/package.json").read_text())
    lock = json.loads((ROOT / "local/azurite/package-lock.json").read_text())["packages"]
    pinned = package["dependencies"]["azurite"]
    assert lock["node_modules/azurite"]["version"] == pinned
    modules = {path: entry for path, entry in lock.items() if path}
    assert [path for path, entry in modules.items() if "resolved" in entry] == []
    assert [path for path, entry in modules.items() if "integrity" not in entry] == []
