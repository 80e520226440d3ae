"""host.json as the host reads it: the platform's defaults, the file, and the environment over it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

# The real host takes any value of host.json from the environment too, under this prefix, `__` between the levels.
_OVERRIDE = "azurefunctionsjobhost__"
_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2}(?:\.\d{1,7})?)")


class SettingsError(ValueError):
    """host.json, or the environment over it, says something that the host would not run with."""


def timespan(text: str) -> timedelta:
    """A duration as .NET writes it: `hh:mm:ss`, `d.hh:mm:ss`, with fractions of a second or without."""
    match = _TIMESPAN.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is not a duration like 00:00:30")
    days, hours, minutes, seconds = match.groups()
    return timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds))


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`extensions.queues`. The defaults are the platform's, also those that one would not choose."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: timedelta = timedelta(0)
    max_polling_interval: timedelta = timedelta(minutes=1)
    base64: bool = True

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> Self:
        known = {
            "batchsize": ("batch_size", _number(1, 32)),
            "newbatchthreshold": ("new_batch_threshold", _number(0, 1000)),
            "maxdequeuecount": ("max_dequeue_count", _number(1, 1000)),
            "visibilitytimeout": ("visibility_timeout", timespan),
            "maxpollinginterval": ("max_polling_interval", timespan),
            "messageencoding": ("base64", _encoding),
        }
        values: dict[str, Any] = {}
        for key, value in section.items():
            if key.lower() not in known:
                # The real host passes over what it does not know: a slip of the pen is found here or nowhere.
                raise SettingsError(f"extensions.queues has no setting {key!r}")
            name, parse = known[key.lower()]
            values[name] = parse(value)
        if "new_batch_threshold" not in values and "batch_size" in values:
            values["new_batch_threshold"] = values["batch_size"] // 2
        return cls(**values)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What of host.json this host acts on. `function_timeout` None: no limit."""

    route_prefix: str
    function_timeout: timedelta | None
    queues: QueueSettings

    @classmethod
    def read(cls, app: Path, environment: Mapping[str, str]) -> Self:
        """Read `host.json` of the app directory `app`; raises SettingsError."""
        try:
            document = json.loads((app / "host.json").read_bytes())
        except FileNotFoundError as missing:
            raise SettingsError(f"there is no host.json in {app}") from missing
        except ValueError as malformed:
            raise SettingsError(f"host.json is not JSON: {malformed}") from malformed
        if document.get("version") != "2.0":
            raise SettingsError('host.json must say "version": "2.0"')
        for name, value in environment.items():
            if name.lower().startswith(_OVERRIDE):
                _override(document, name[len(_OVERRIDE) :].split("__"), value)
        extensions = document.get("extensions", {})
        return cls(
            route_prefix=extensions.get("http", {}).get("routePrefix", "api").strip("/"),
            function_timeout=_timeout(document.get("functionTimeout", "00:30:00")),
            queues=QueueSettings.read(extensions.get("queues", {})),
        )


def _timeout(text: str) -> timedelta | None:
    return None if text == "-1" else timespan(text)


def _number(least: int, most: int) -> Callable[[int | str], int]:
    def parse(value: int | str) -> int:
        number = int(value)
        if not least <= number <= most:
            raise SettingsError(f"extensions.queues: {number} is not between {least} and {most}")
        return number

    return parse


def _encoding(text: str) -> bool:
    if text.lower() not in {"base64", "none"}:
        raise SettingsError(f"extensions.queues.messageEncoding is base64 or none, not {text!r}")
    return text.lower() == "base64"


def _override(document: dict[str, Any], path: list[str], value: str) -> None:
    """Put `value` at `path`; names are compared without case, as the real host does."""
    *sections, leaf = path
    for section in sections:
        document = document.setdefault(_named(document, section), {})
    document[_named(document, leaf)] = value


def _named(section: Mapping[str, Any], name: str) -> str:
    return next((key for key in section if key.lower() == name.lower()), name)
