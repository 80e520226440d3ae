"""The list of safeguards, and of the code without each: mutants.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parents[2]
_LIST: Final = Path(__file__).parent / "mutants.yaml"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file in which `text` becomes `instead`. tests: what pytest takes; they fail if the safeguard is missing."""

    file: str
    text: str
    tests: tuple[str, ...]
    instead: str = ""

    def count(self, root: Path) -> int:
        """Return how often the text occurs in the file. Only once is right."""
        return (root / self.file).read_text(encoding="utf-8").count(self.text)


def read_mutants() -> Mapping[str, Mutant]:
    """Return the mutants by the names of their safeguards."""
    listed = yaml.safe_load(_LIST.read_text(encoding="utf-8"))
    return {name: Mutant(**{**fields, "tests": tuple(fields["tests"])}) for name, fields in listed.items()}
