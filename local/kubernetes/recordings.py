"""Answers of a real kube-apiserver, one file each, with placeholders for what differs from call to call.

`recordings/<case>.json` holds `status`, `headers` and `body` (an object, or a string where the server sends text).
`tests/contract` makes the files on the real server and compares them again; tests use them as faults, and the stand-in
fills them for its own refusals. So no wording of the server is written by hand.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from local.serving import Fault

FOLDER: Final = Path(__file__).parent / "recordings"
EXAMPLE: Final[Mapping[str, str]] = json.loads(FOLDER.with_name("example.json").read_text(encoding="utf-8"))
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Recording:
    """body: an object, or the text itself."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else json.dumps(self.body, separators=(",", ":")) + "\n"

    def fill(self, values: Mapping[str, str]) -> "Recording":
        """Put values in. Fields that become empty are left out, as Go's encoder leaves them out. Raises KeyError for a
        placeholder without a value.
        """
        return Recording(self.status, self.headers, _fill(self.body, values))


def names() -> Iterator[str]:
    return (path.stem for path in sorted(FOLDER.glob("*.json")))


@cache
def load(case: str) -> Recording:
    """As it is in the file. Raises FileNotFoundError."""
    return Recording(**json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8")))


def fill(case: str, **values: str) -> Recording:
    """With the values that are given, and for all others what a refresh of the pull secret would put there."""
    return load(case).fill({**EXAMPLE, **values})


def fault(case: str, *, path: str = "/secrets/", method: str | None = None) -> Fault:
    """A fault that answers as recorded."""
    answer = fill(case)
    headers = {name: value for name, value in answer.headers.items() if name != "Content-Type"}
    content_type = answer.headers["Content-Type"].partition(";")[0]
    return Fault(
        path=path, method=method, status=answer.status, body=answer.text, content_type=content_type, headers=headers
    )


def _fill(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: values[match[1]], value)
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if isinstance(value, dict):
        made = {name: _fill(item, values) for name, item in value.items()}
        return {name: item for name, item in made.items() if item != "" or value[name] == ""}
    return value
