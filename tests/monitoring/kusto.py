"""Microsoft's language service for Kusto, from npm, pinned in `tests/monitoring/kusto/`."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pytest

from tests.monitoring.schema import TABLES

_HOME: Final = Path(__file__).with_name("kusto")


@dataclass(frozen=True, slots=True)
class Use:
    """What a pipe reads. table: what it begins with; None for another pipe. names: of the records that it selects; none
    for all. properties: with the function that converts each.
    """

    table: str | None
    names: frozenset[str]
    properties: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """faults: errors and warnings, with their place in the query."""

    faults: tuple[str, ...]
    uses: tuple[Use, ...]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        uses = (
            Use(use["table"], frozenset(use["names"]), tuple((name, function) for name, function in use["properties"]))
            for use in found["uses"]
        )
        return cls(tuple(found["faults"]), tuple(uses))


def check(queries: Sequence[str]) -> list[Checked]:
    node = shutil.which("node")
    if node is None or not (_HOME / "node_modules").is_dir():
        pytest.fail("needs Node.js 20 or later and its packages; run `make setup`", pytrace=False)
    asked = json.dumps({"tables": TABLES, "queries": queries})
    done = subprocess.run(
        [node, _HOME / "check.js"], input=asked, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [Checked.of(found) for found in json.loads(done.stdout)]
