"""The timer's schedule: whether the Functions host will accept an NCRONTAB expression.

The host resolves and parses the schedule itself. One that it does not accept disables the timer alone, with a line in
the host's log, while everything else looks healthy.
Source: https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions
"""

import re
from collections.abc import Sequence
from typing import Final

_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_FIELDS: Final[tuple[tuple[int, int, Sequence[str]], ...]] = (
    (0, 59, ()),
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
"""Least and greatest value, and names: second, minute, hour, day, month, day of the week."""
_PART: Final = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]{1,4}))?", re.ASCII)


def is_ncrontab(text: str) -> bool:
    """Whether the text has six fields, or five without seconds, each with values in its range. The other form that a
    timer takes, a time span, is refused: it works on App Service plans only.
    """
    fields = text.split()
    least = len(_FIELDS) - 1
    if len(fields) not in {least, len(_FIELDS)}:
        return False
    return all(_is_field(field, *limits) for field, limits in zip(fields, _FIELDS[-len(fields) :], strict=True))


def _is_field(text: str, least: int, greatest: int, names: Sequence[str]) -> bool:
    return all(_is_part(part, least, greatest, names) for part in text.split(","))


def _is_part(text: str, least: int, greatest: int, names: Sequence[str]) -> bool:
    found = _PART.fullmatch(text)
    if not found or (found["step"] and int(found["step"]) == 0):
        return False
    return all(_is_value(value, least, greatest, names) for value in found.group("first", "last") if value)


def _is_value(text: str, least: int, greatest: int, names: Sequence[str]) -> bool:
    if text.isdecimal():
        return least <= int(text[:4]) <= greatest
    return any(name.startswith(text.lower()) for name in names)
