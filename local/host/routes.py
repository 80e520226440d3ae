"""Route templates as regular expressions: `{a}`, `{a?}`, `{a=default}`, `{*rest}`, `{a}.{b}`, `{a:int}`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from local.host.settings import SettingsError

_PARAMETER = re.compile(
    r"(?P<slash>/?)\{(?P<star>\*{0,2})(?P<name>\w+)(?P<constraint>:[^{}=?/]+)?(?:=(?P<default>[^{}/]*))?(?P<optional>\??)\}"
)
_ANY = "[^/]+"
_CONSTRAINTS = {
    ":int": r"[+-]?\d{1,9}",
    ":bool": "true|false",
    ":alpha": "[a-z]+",
    ":guid": "[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}


@dataclass(frozen=True, slots=True)
class Route:
    """unsupported: a constraint that this host does not play: what matches without it is answered with 501."""

    pattern: re.Pattern[str]
    defaults: Mapping[str, str]
    unsupported: str | None = None

    @classmethod
    def parse(cls, template: str) -> Self:
        """template: from the root, with its slash. Raises SettingsError where the real host would not start."""
        pattern, position, defaults, unsupported = "", 0, {}, None
        for found in _PARAMETER.finditer(template):
            pattern += _literal(template[position : found.start()])
            position = found.end()
            constraint, name = found["constraint"], found["name"]
            if constraint and constraint not in _CONSTRAINTS:
                unsupported = constraint
            value = f"(?P<{name}>{'[^/].*' if found['star'] else _CONSTRAINTS.get(constraint, _ANY)})"
            if found["star"] or found["optional"] or found["default"] is not None:
                if position < len(template):
                    raise SettingsError(f"the route {template!r} has a parameter that may be missing before its end")
                pattern += f"(?:/{value})?"
                defaults = {} if found["default"] is None else {name: found["default"]}
            else:
                pattern += found["slash"] + value
        pattern += _literal(template[position:].removesuffix("/")) + "/?"
        try:
            return cls(re.compile(pattern, re.IGNORECASE | re.DOTALL), defaults, unsupported)
        except re.error as twice:
            raise SettingsError(f"the route {template!r}: {twice}") from twice

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters' values for a decoded path, or None if the path belongs to another route."""
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        return {**self.defaults, **{name: value for name, value in match.groupdict().items() if value is not None}}


def _literal(text: str) -> str:
    if re.search(r"[{}?*]|//", text):
        raise SettingsError(f"{text!r} cannot be part of a route")
    return re.escape(text)
