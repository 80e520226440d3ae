"""The list of safeguards, and of the code without each: a YAML file for each folder of the code."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parents[2]
_LISTS: Final = Path(__file__).parent / "safeguards"


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
    """Return the mutants by the names of their safeguards. Raises ValueError for a name that is there twice."""
    mutants: dict[str, Mutant] = {}
    for file in sorted(_LISTS.glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        listed = yaml.load(text, yaml.CSafeLoader)
        # The loader keeps the last of those that have one name.
        if len(listed) != len(re.findall(r"^\w.*:$", text, re.MULTILINE)):
            raise ValueError(f"{file.name}: a name is there twice")
        for name, fields in listed.items():
            if name in mutants:
                raise ValueError(f"{file.name}: {name} is there twice")
            mutants[name] = Mutant(**{**fields, "tests": tuple(fields["tests"])})
    return mutants
