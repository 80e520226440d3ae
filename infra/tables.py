"""Save the tables `fleet` and `operations` to a file, and write them back.

    .venv/bin/python infra/tables.py save ACCOUNT FILE
    .venv/bin/python infra/tables.py restore ACCOUNT FILE

Signs in as the Azure CLI does. A file has one row in a line, as JSON. Restoring replaces rows with the same keys and
removes none.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from azure.core.exceptions import ResourceExistsError
from azure.data.tables import EdmType, EntityProperty, TableServiceClient, UpdateMode
from azure.identity import AzureCliCredential

TABLES: Final = ("fleet", "operations")
_PLAIN: Final = (str, bool, int, float)


def save(service: TableServiceClient, path: Path) -> int:
    """Write all rows to the file, and return how many. Raises TypeError for a value that the app would not write."""
    rows = [{"table": name, "row": _encode(row)} for name in TABLES for row in _read(service, name)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return len(rows)


def restore(service: TableServiceClient, path: Path) -> int:
    """Write all rows of the file to the tables, created if they are missing, and return how many."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    clients = {name: service.get_table_client(name) for name in TABLES}
    for client in clients.values():
        with suppress(ResourceExistsError):
            client.create_table()
    for line in lines:
        clients[line["table"]].upsert_entity(_decode(line["row"]), mode=UpdateMode.REPLACE)
    return len(lines)


def _read(service: TableServiceClient, name: str) -> Iterator[dict[str, Any]]:
    yield from service.get_table_client(name).list_entities()


def _encode(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _encode_value(value) for name, value in row.items()}


def _encode_value(value: Any) -> Any:
    """An integer of 64 bits arrives as a pair of value and type."""
    if isinstance(value, EntityProperty) and value.edm_type == EdmType.INT64:
        return {"int64": value.value}
    if isinstance(value, _PLAIN):
        return value
    raise TypeError(f"a value of the type {type(value).__name__}")


def _decode(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: EntityProperty(value["int64"], EdmType.INT64) if isinstance(value, dict) else value
        for name, value in row.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["save", "restore"])
    parser.add_argument("account", help="name of the storage account, or its table address in another cloud")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    address = given.account if "://" in given.account else f"https://{given.account}.table.core.windows.net"
    with AzureCliCredential() as credential, TableServiceClient(address, credential=credential) as service:
        done = save(service, given.file) if given.what == "save" else restore(service, given.file)
    print(f"{done} rows")


if __name__ == "__main__":
    main()
