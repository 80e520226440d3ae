"""Events and instruments, by name. Everything that an alert, a workbook or a test looks for is named here.

Events are log records of the logger `pullkeeper` that the Azure Monitor exporter turns into customEvents; instruments
are OpenTelemetry's, which do nothing until the Functions worker has set up an exporter (that is: until there is an
Application Insights connection string). Nothing here can fail a refresh.
Source: https://learn.microsoft.com/azure/azure-monitor/app/opentelemetry-add-modify
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import Final, Literal

from opentelemetry import metrics

Event = Literal[
    "run.completed",
    "fleet.status",
    "secret.refreshed",
    "secret.refresh_failed",
    "drift.repaired",
    "message.poisoned",
    "token.minted",
    "operation.completed",
]

_TAKEN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
_logger = logging.getLogger("pullkeeper")
# The worker's root logger is at INFO on Azure, and at WARNING on a bare interpreter: our events are wanted on both.
_logger.setLevel(logging.INFO)
_meter = metrics.get_meter("pullkeeper")

remaining_lifetime = _meter.create_histogram("secret.remaining_lifetime", unit="s")
"""Of the token in a secret, when the scheduler looked."""
refresh_duration = _meter.create_histogram("refresh.duration", unit="s")
"""Of one cluster, all its targets."""
refresh_count = _meter.create_counter("refresh.count")
"""Refreshes of targets, by `category` (`ok` for none)."""
queue_depth = _meter.create_gauge("queue.depth")
"""Messages on the queue `refresh`: the platform's own figure is hourly and has no queue dimension."""

Attribute = str | int | float | datetime | None


def emit(event: Event, attributes: Mapping[str, Attribute], level: int = logging.INFO) -> None:
    """Flat attributes, because a nested dict becomes one string at the exporter; times as ISO 8601 in UTC."""
    flat = {_free(key): _flat(value) for key, value in attributes.items() if value is not None}
    # On one line: some of it was said by others, who shall not write lines of their own into the log.
    text = " ".join(" ".join(f"{key}={value}".splitlines()) for key, value in flat.items())
    with _harmless():
        _logger.log(level, "%s %s", event, text, extra={"microsoft.custom_event.name": event, **flat})


def measure(instrument: Callable[..., None], amount: float, attributes: Mapping[str, str] | None = None) -> None:
    """instrument: what takes the figure, as in `measure(queue_depth.set, 7)`."""
    with _harmless():
        instrument(amount, attributes)


def _harmless() -> AbstractContextManager[None]:
    """Handlers and exporters are others' code, and what they raise would otherwise come out where we speak."""
    return suppress(Exception)


def _free(key: str) -> str:
    """`logging` raises KeyError for an attribute that its records have themselves."""
    return f"{key}_" if key in _TAKEN else key


def _flat(value: Attribute) -> str | int | float:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if isinstance(value, (int, float)) else str(value)
