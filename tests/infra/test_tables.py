"""Backup and restore: after the loss of both tables the fleet is as it was, and its refresh goes on."""

import importlib.util
import json
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from azure.data.tables import EdmType, EntityProperty, TableServiceClient

from pullkeeper.fleet.creation import TABLES
from tests.infra.compiler import INFRA
from tests.world import World

pytestmark = pytest.mark.servers


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", INFRA / "tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_a_lost_fleet_is_restored(world: World, tmp_path: Path) -> None:
    script = load_script()
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    backup, again = tmp_path / "backup.jsonl", tmp_path / "again.jsonl"
    with TableServiceClient.from_connection_string(world.storage) as service:
        for name in TABLES:
            service.create_table_if_not_exists(name)
        operations = service.get_table_client("operations")
        operations.upsert_entity(
            {
                "PartitionKey": "operation",
                "RowKey": "1",
                "Text": "ü\n",
                "Number": EntityProperty(2**40, EdmType.INT64),
                "Is": True,
            }
        )
        assert script.save(service, backup) == 2
        service.delete_table("fleet")
        service.delete_table("operations")
        assert script.restore(service, backup) == 2
        operations = service.get_table_client("operations")
        operations.upsert_entity({"PartitionKey": "operation", "RowKey": "1", "Later": "a field of a newer row"})
        assert script.restore(service, backup) == 2
        assert script.save(service, again) == 2
    assert again.read_text(encoding="utf-8") == backup.read_text(encoding="utf-8")
    (row,) = (
        line["row"]
        for line in map(json.loads, backup.read_text(encoding="utf-8").splitlines())
        if line["table"] == "operations"
    )
    assert (row["Text"], row["Is"]) == ("ü\n", True)
    assert await world.services.fleet.member(cluster.id)
    before = await world.read_token(cluster)
    world.clock.advance(timedelta(minutes=25))
    await world.refresh(cluster)
    assert await world.read_token(cluster) != before


async def test_the_commands_of_the_documentation_save_and_restore(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, backup, accounts = load_script(), tmp_path / "backup.jsonl", list[str]()
    await world.join("aks-1")

    def sign_in(address: str, *, credential: object) -> TableServiceClient:
        accounts.append(f"{address} {credential}")
        return TableServiceClient.from_connection_string(world.storage)

    monkeypatch.setattr(script, "AzureCliCredential", lambda: nullcontext("az"))
    monkeypatch.setattr(script, "TableServiceClient", sign_in)
    with TableServiceClient.from_connection_string(world.storage) as service:
        service.create_table_if_not_exists("operations")
        for what, account in (("save", "shop"), ("restore", "https://shop.table.core.usgovcloudapi.net")):
            monkeypatch.setattr(sys, "argv", ["tables.py", what, account, str(backup)])
            script.main()
            if what == "save":
                service.delete_table("fleet")
        assert script.save(service, tmp_path / "again.jsonl") == 1
    assert backup.read_text(encoding="utf-8") == (tmp_path / "again.jsonl").read_text(encoding="utf-8")
    assert accounts == ["https://shop.table.core.windows.net az", "https://shop.table.core.usgovcloudapi.net az"]


def test_tables_that_are_not_saved_are_computed_again() -> None:
    """docs/architecture.md, Where state lives: the timer finds shards without a row."""
    assert set(TABLES) - set(load_script().TABLES) == {"shards"}


def test_a_value_that_would_be_restored_as_another_type_is_not_saved() -> None:
    with pytest.raises(TypeError, match="datetime"):
        load_script()._encode({"At": datetime.now(UTC)})
