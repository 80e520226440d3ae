"""host.json as the host reads it: the platform's defaults, the file, and the environment over it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# The real host takes any value of host.json from the environment too, under this prefix, `__` between the levels.
_OVERRIDE = "azurefunctionsjobhost__"
_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2}(?:\.\d{1,7})?)")


class SettingsError(ValueError):
    """A value of host.json, or of the environment that overrides it, or a route, with which the host does not start."""


class UnsupportedError(NotImplementedError):
    """The real host has this, this one does not: it does not start, so that nothing seems to work."""


def timespan(text: str) -> timedelta:
    """A duration as .NET writes it: `hh:mm:ss`, `d.hh:mm:ss`, with fractions of a second or without."""
    match = _TIMESPAN.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is not a duration like 00:00:30")
    days, hours, minutes, seconds = match.groups()
    return timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds))


_Duration = Annotated[timedelta, BeforeValidator(timespan)]


class QueueSettings(BaseModel):
    """`extensions.queues`. The defaults are the platform's. Unknown names, which it ignores, are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", ""))

    batch_size: int = Field(16, ge=1, le=32)
    new_batch_threshold: int = Field(default_factory=lambda data: data["batch_size"] // 2, ge=0, le=1000)
    max_dequeue_count: int = Field(5, ge=1, le=1000)
    visibility_timeout: _Duration = timedelta(0)
    max_polling_interval: _Duration = timedelta(minutes=1)
    message_encoding: Literal["base64"] = "base64"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The part of host.json that this host acts on. function_timeout: None for no limit."""

    route_prefix: str
    function_timeout: timedelta | None
    queues: QueueSettings

    @classmethod
    def read(cls, app: Path, environment: Mapping[str, str]) -> Self:
        """Read `host.json` of the app directory `app`; raises SettingsError."""
        try:
            document = json.loads((app / "host.json").read_bytes())
            for name, value in environment.items():
                if name.lower().startswith(_OVERRIDE):
                    _override(document, name[len(_OVERRIDE) :].split("__"), value)
            if document.get("version") != "2.0":
                raise SettingsError('host.json must say "version": "2.0"')
            extensions, timeout = document.get("extensions", {}), document.get("functionTimeout", "00:30:00")
            queues = {name.lower(): value for name, value in extensions.get("queues", {}).items()}
            return cls(
                route_prefix=extensions.get("http", {}).get("routePrefix", "api").strip("/"),
                function_timeout=None if timeout == "-1" else timespan(timeout),
                queues=QueueSettings.model_validate(queues),
            )
        except (OSError, ValueError) as wrong:
            raise SettingsError(f"host.json: {wrong}") from wrong


def _override(document: dict[str, Any], path: list[str], value: str) -> None:
    """Put `value` at `path`; names are compared without case, as the real host does."""
    *sections, leaf = path
    for section in sections:
        document = document.setdefault(_find_name(document, section), {})
    document[_find_name(document, leaf)] = value


def _find_name(section: Mapping[str, Any], name: str) -> str:
    return next((key for key in section if key.lower() == name.lower()), name)
