"""Events and instruments. Everything that an alert, a workbook or a test looks for is named here.

Events are log records of the logger `pullkeeper`, which the Azure Monitor exporter turns into customEvents. Instruments
are OpenTelemetry's, and do nothing until the Functions worker has set up an exporter. Nothing here can fail a refresh.
Source: https://learn.microsoft.com/azure/azure-monitor/app/opentelemetry-add-modify
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import Final, Literal

from opentelemetry import metrics

from pullkeeper.documentation import Documentation
from pullkeeper.errors import InternalError

Event = Literal[
    "run.completed",
    "shard.completed",
    "fleet.status",
    "secret.refreshed",
    "secret.refresh_failed",
    "drift.repaired",
    "target.added",
    "target.removed",
    "message.deferred",
    "message.poisoned",
    "token.minted",
    "token.revoked",
    "mint.unrecorded",
    "clock.skewed",
    "operation.completed",
    "settings.invalid",
]

_CAUSE: Final = {"category": str, "detail": str, "remedy": str}
_TARGET: Final = {"cluster": str, "target": str}
_TOKEN: Final = {"token_issued": datetime, "token_expiry": datetime}
FIELDS: Final[Mapping[Event, Mapping[str, type]]] = {
    "run.completed": {
        **dict.fromkeys(("clusters", "queued", "overdue", "other_version"), int),
        **dict.fromkeys(("fresh", "stale", "expired", "pending", "unknown", "removed"), int),
        **dict.fromkeys(("refresh_depth", "refresh_poison_depth"), int),
        **dict.fromkeys(("onboarding_depth", "onboarding_poison_depth"), int),
        **dict.fromkeys(("slow_tick_seconds", "longest_tick_seconds"), float),
        **_CAUSE,
    },
    "shard.completed": {
        "shard": str,
        "reason": str,
        **dict.fromkeys(("clusters", "ok", "failed", "unreadable"), int),
        "seconds": float,
        **_CAUSE,
    },
    "fleet.status": {**_TARGET, "state": str, **_TOKEN, "last_success": datetime, "category": str, "remedy": str},
    "secret.refreshed": {**_TARGET, "uid": str, **_TOKEN, "note": str},
    "secret.refresh_failed": {**_TARGET, **_CAUSE},
    "drift.repaired": {**_TARGET, "uid": str, **_TOKEN, **_CAUSE},
    "target.added": _TARGET,
    "target.removed": {**_TARGET, "detail": str},
    "message.deferred": {"queue": str, **_CAUSE},
    "message.poisoned": {"queue": str, "shard": str, "function": str, **_CAUSE},
    "token.minted": {"provider": str, "token_expiry": datetime, **_CAUSE},
    "token.revoked": {"provider": str, "accepted_at": datetime, "queued": int, **_CAUSE},
    "mint.unrecorded": {"hub": str, **_CAUSE},
    "clock.skewed": _CAUSE,
    "operation.completed": {
        **dict.fromkeys(("operation", "kind", "cluster", "status", "category", "remedy"), str),
        "seconds": float,
    },
    "settings.invalid": {"setting": str, "severity": str, "detail": str, "remedy": str},
}
"""What each event may have. Queries, docs/monitoring.md and what the app emits in the tests are compared with it."""

_RESERVED: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
_SDKS: Final = ("aiohttp", "google", "msal", "urllib3")
_AZURE_SDKS: Final = ("core", "data", "mgmt", "monitor", "storage")  # azure.functions is the worker's own
_logger = logging.getLogger("pullkeeper")
# The root logger is at INFO on Azure and at WARNING elsewhere; events must pass in both cases.
_logger.setLevel(logging.INFO)
# Nothing but our own records: the SDKs write ten for a refresh, each longer than our event. Retries are reported by us.
for _sdk in (*_SDKS, *(f"azure.{part}" for part in _AZURE_SDKS)):
    logging.getLogger(_sdk).setLevel(logging.WARNING)
logging.getLogger("stamina").setLevel(logging.ERROR)
_meter = metrics.get_meter("pullkeeper")
documentation = Documentation()
"""Where remedies lead that are pages. The composition root sets it, once per process."""

remaining_lifetime = _meter.create_histogram("secret.remaining_lifetime", unit="s")
"""Of the token in a secret, measured at every run of the timer."""
refresh_duration = _meter.create_histogram("refresh.duration", unit="s")
"""Of one run over a shard."""
refresh_count = _meter.create_counter("refresh.count")
"""Refreshes of targets, by `category` (`ok` for none)."""
queue_depth = _meter.create_gauge("queue.depth")
"""Messages on each queue, by `queue`, those hidden at the moment included."""

Attribute = str | int | float | datetime | None


def emit(event: Event, attributes: Mapping[str, Attribute], level: int = logging.INFO) -> None:
    """Log an event. Attributes are flat, because the exporter makes one string of a nested dict; times become ISO 8601
    in UTC; None is left out. A category without a remedy gets its runbook page as the remedy.

    The message has all of it too, because outside OpenTelemetry mode the message is all that the host keeps.
    """
    if (category := attributes.get("category")) and "remedy" not in attributes:
        attributes = {**attributes, "remedy": documentation.page(str(category))}
    flat = {_attribute_name(key): _attribute_value(value) for key, value in attributes.items() if value is not None}
    # On one line: some values quote other services, which must not forge lines of the log.
    text = " ".join(" ".join(f"{key}={value}" for key, value in flat.items()).splitlines())
    with _suppress_failures():
        _logger.log(level, "%s %s", event, text, extra={"microsoft.custom_event.name": event, **flat})


def measure(instrument: Callable[..., None], amount: float, attributes: Mapping[str, str] | None = None) -> None:
    """Record a figure. instrument: the method that takes it, as in `measure(queue_depth.set, 7)`."""
    with _suppress_failures():
        instrument(amount, attributes)


def _suppress_failures() -> AbstractContextManager[None]:
    """Suppress what handlers and exporters raise: a refresh must not fail because of its log."""
    return suppress(Exception)


def _attribute_name(key: str) -> str:
    """Append `_` to a name that log records use themselves: `logging` raises KeyError for those."""
    return f"{key}_" if key in _RESERVED else key


def _attribute_value(value: Attribute) -> str | int | float:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if isinstance(value, (int, float)) else str(value)


def report_unexpected(where: str, error: Exception) -> InternalError:
    """Log an unexpected exception with type and traceback, and return the failure that replaces it. Both leave out the
    exception's text, because that may quote anything.
    """
    place = "".join(traceback.format_tb(error.__traceback__))
    _logger.error("%s failed: %s\n%s", where, type(error).__name__, place)
    return InternalError(type(error).__name__)
