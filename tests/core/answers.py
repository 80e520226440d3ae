"""Error responses of services, verbatim, and what each means: the JSON files of this folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullkeeper import errors
from pullkeeper.cluster import refusals
from pullkeeper.errors import PullkeeperError


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP error response, and the failure that it means."""

    case: str
    status: int
    body: str
    kind: type[PullkeeperError]


def read(name: str) -> dict[str, Any]:
    """The tables of a file: by case, the name of a failure, or a row with it."""
    tables: dict[str, Any] = json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
    return tables


def kind(name: str) -> type[PullkeeperError]:
    found: type[PullkeeperError] = vars(errors).get(name) or vars(refusals)[name]
    return found


def answers(table: dict[str, Any]) -> list[Answer]:
    """A row has `json`, `text`, or the number of brackets in `deep`."""
    return [Answer(case, row["status"], _body(row), kind(row["kind"])) for case, row in table.items()]


def _body(row: dict[str, Any]) -> str:
    if "json" in row:
        return json.dumps(row["json"])
    return str(row.get("text", "[" * row.get("deep", 0)))
