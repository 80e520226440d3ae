"""docs/host-json.md has each setting of host.json, and its value."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from tests.docs.pages import ROOT

_SINGLE: Final = ("http.", "queues.", "functionTimeout", "telemetryMode")
_ROW: Final = re.compile(r"^\| (`[^|]+`) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)


def _flatten(settings: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}".removeprefix("extensions."), str(value)


def _documented() -> dict[str, str]:
    """Names without their section mean that of the name before; a bundle and a level have a value in one row."""
    found = {}
    text = (ROOT / "docs/host-json.md").read_text(encoding="utf-8").partition("## ")[0]
    for names, values in _ROW.findall(text):
        section = ""
        for name, value in zip(re.findall(r"`([^`]+)`", names), values.replace("`", "").split(", "), strict=False):
            section = name.rpartition(".")[0] or section
            found[f"{section}.{name.rpartition('.')[2]}".lstrip(".")] = value
    return found


def test_each_value_is_as_documented() -> None:
    settings = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    documented, actual = _documented(), dict(_flatten(settings))
    single = {name: value for name, value in actual.items() if name.startswith(_SINGLE)}
    assert single.keys() == {name for name in documented if name.startswith(_SINGLE)}
    assert {name: documented[name] for name in single} == single
    assert documented["logging.logLevel"] == actual["logging.logLevel.default"]
    assert documented["extensionBundle"] == actual["extensionBundle.version"].partition(", ")[0]
