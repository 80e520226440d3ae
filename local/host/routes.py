"""Route templates of HTTP triggers, by the rules of ASP.NET: `{a}`, `{a?}`, `{a=default}`, `{*rest}`, `{a:int}`."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from local.host.registrations import IndexingError

_PARAMETER = re.compile(
    r"\{(?P<star>\*{0,2})(?P<name>\w+)(?P<constraints>(?::[^{}=?]+)*)(?:=(?P<default>[^{}]*))?(?P<optional>\??)\}"
)
_GUID = r"\{?[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\}?"
_PATTERNS = {
    "int": r"[+-]?\d{1,10}",
    "long": r"[+-]?\d{1,19}",
    "bool": r"(?i:true|false)",
    "guid": _GUID,
    "alpha": r"[A-Za-z]*",
    "required": r".+",
}
_WITH_ARGUMENT = re.compile(r"(minlength|maxlength|length|min|max|range|regex)\((.*)\)")


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    constraints: tuple[str, ...] = ()
    catch_all: bool = False
    optional: bool = False
    default: str | None = None

    def accepts(self, value: str) -> bool:
        return all(_accepts(constraint, value) for constraint in self.constraints)


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed template: literal segments (lower case) and parameters."""

    segments: tuple[str | Parameter, ...]

    @property
    def precedence(self) -> tuple[int, ...]:
        """Sorts the more particular route first: literals, constrained parameters, parameters, the rest of the path."""
        return tuple(_weight(segment) for segment in self.segments)

    def match(self, path: list[str]) -> dict[str, str] | None:
        """The parameters' values for the segments of a path, or None where it is another route's."""
        values: dict[str, str] = {}
        for position, segment in enumerate(self.segments):
            here = path[position] if position < len(path) else None
            if isinstance(segment, str):
                if here is None or here.lower() != segment:
                    return None
            elif not _take(segment, path[position:], values):
                return None
        caught = bool(self.segments) and isinstance(self.segments[-1], Parameter) and self.segments[-1].catch_all
        return values if caught or len(path) <= len(self.segments) else None


def parse(template: str) -> Route:
    """Raises IndexingError for a template that is none, or mixes text and parameters in a segment."""
    segments = tuple(_segment(text) for text in template.strip("/").split("/") if text)
    names = [segment.name.lower() for segment in segments if isinstance(segment, Parameter)]
    if len(names) != len(set(names)):
        raise IndexingError(f"route {template!r} names a parameter twice")
    if any(isinstance(segment, Parameter) and segment.catch_all for segment in segments[:-1]):
        raise IndexingError(f"route {template!r}: a catch-all parameter can only be the last segment")
    return Route(segments)


def segments(raw_path: str) -> list[str]:
    """A request's path as the real server splits it: decoded once but for %2F, dot segments taken out."""
    kept: list[str] = []
    for raw in raw_path.split("/"):
        text = "%2F".join(unquote(part) for part in re.split("%2f", raw, flags=re.IGNORECASE))
        if text == "..":
            del kept[-1:]
        elif text not in {"", "."}:
            kept.append(text)
    return kept


def _segment(text: str) -> str | Parameter:
    if "{" not in text and "}" not in text:
        return text.lower()
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise IndexingError(f"route segment {text!r} is not one this host knows")
    constraints = tuple(constraint for constraint in match["constraints"].split(":") if constraint)
    for constraint in constraints:
        if constraint not in _PATTERNS and not _WITH_ARGUMENT.fullmatch(constraint):
            raise IndexingError(f"route constraint {constraint!r} is not one this host knows")
    return Parameter(match["name"], constraints, bool(match["star"]), bool(match["optional"]), match["default"])


def _take(parameter: Parameter, rest: list[str], values: dict[str, str]) -> bool:
    value = "/".join(rest) if parameter.catch_all else (rest[0] if rest else None)
    if not value:
        if parameter.default is not None:
            values[parameter.name] = parameter.default
        return parameter.optional or parameter.catch_all or parameter.default is not None
    values[parameter.name] = value
    return parameter.accepts(value)


def _accepts(constraint: str, value: str) -> bool:
    if constraint in _PATTERNS:
        return re.fullmatch(_PATTERNS[constraint], value) is not None
    match = _WITH_ARGUMENT.fullmatch(constraint)
    if match is None:
        return False
    kind, argument = match.groups()
    if kind == "regex":
        return re.search(argument, value, re.IGNORECASE) is not None
    numbers = [int(number) for number in argument.split(",")]
    low, high = numbers[0], numbers[-1]
    if kind.endswith("length"):
        size = len(value)
    elif re.fullmatch(_PATTERNS["long"], value):
        size = int(value)
    else:
        return False
    return (kind.startswith("max") or size >= low) and (kind.startswith("min") or size <= high)


def _weight(segment: str | Parameter) -> int:
    if isinstance(segment, str):
        return 0
    return (3 if segment.catch_all else 2) - (1 if segment.constraints else 0)
