"""Times as a reader wants them: how long until, how long ago."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from pullkeeper.errors import MALFORMED

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def parse_date(header: str) -> datetime | None:
    """Read the header `Date`; None if it has another form. Whatever stands before the app may have written it."""
    try:
        date = parsedate_to_datetime(header)
    except MALFORMED:
        return None
    return date if date.tzinfo else None


def describe(span: timedelta) -> str:
    """Return a span in its largest unit that is at least two: `95s`, `34m`, `3h`, `4d`; negative ones with a minus."""
    seconds = round(abs(span.total_seconds()))
    sign = "-" if span < timedelta() else ""
    for length, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= 2 * length:
            return f"{sign}{seconds // length}{unit}"
    return f"{sign}{seconds}s"


def describe_left(until: str | None, now: datetime) -> str:
    """How long something still lives; `-` if that is not known."""
    time = parse_time(until)
    return describe(time - now) if time else "-"


def describe_ago(since: str | None, now: datetime, never: str = "never") -> str:
    time = parse_time(since)
    return f"{describe(max(now - time, timedelta()))} ago" if time else never


def now() -> datetime:
    return datetime.now(UTC)
