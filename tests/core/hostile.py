"""Inputs and answers that must be refused: `hostile.json`, by the name of the table and of the case."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

_TABLES: Final[dict[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_name("hostile.json").read_text(encoding="utf-8")
)


def cases(table: str) -> list[Any]:
    """For `parametrize` with one argument."""
    return [pytest.param(value, id=case) for case, value in _TABLES[table].items()]


def pairs(table: str) -> list[Any]:
    """For `parametrize` with several arguments: the case is a list of them."""
    return [pytest.param(*values, id=case) for case, values in _TABLES[table].items()]
