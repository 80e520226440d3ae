"""A Log Analytics workspace: what the app emits, as Azure Monitor's own exporter writes it, and queries over it.

The exporter's records get the time of the test's clock: OpenTelemetry would take that of the machine.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import duckdb
import duckdb_kql
import pytest
from azure.monitor.opentelemetry.exporter.export.logs._exporter import _convert_log_to_envelope
from azure.monitor.opentelemetry.exporter.export.metrics._exporter import (
    APPLICATION_INSIGHTS_METRIC_TEMPORALITIES,
    _convert_point_to_envelope,
)
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData

from pullkeeper import telemetry
from tests.monitoring.schema import TABLES

_TYPES: Final = {"datetime": "TIMESTAMP", "string": "VARCHAR", "dynamic": "JSON", "real": "DOUBLE", "int": "INTEGER"}
Row = dict[str, Any]


class Workspace:
    """Collects while it is open, and runs queries."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._database = duckdb.connect()
        # Of so few records every plan is as good: the optimizer costs more than it saves.
        self._database.execute("SET TimeZone = 'UTC'; SET threads = 1; PRAGMA disable_optimizer")
        self._database.execute(
            "CREATE TABLE asked (since TIMESTAMP, until TIMESTAMP); INSERT INTO asked VALUES (NULL, NULL)"
        )
        for table, columns in TABLES.items():
            declared = ", ".join(f'"{column}" {_TYPES[type_]}' for column, type_ in columns.items())
            self._database.execute(f"CREATE TABLE All{table} ({declared})")
            # What Azure adds to a query: the time range that it is asked for.
            self._database.execute(
                f"CREATE VIEW {table} AS SELECT one.* FROM All{table} one, asked"
                " WHERE TimeGenerated > since AND TimeGenerated <= until"
            )
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        temporality: Any = APPLICATION_INSIGHTS_METRIC_TEMPORALITIES
        self._reader = InMemoryMetricReader(preferred_temporality=temporality)

    @contextmanager
    def collect(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Collect what the app emits."""
        logs, meters = LoggerProvider(), MeterProvider([self._reader])
        logs.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        meter = meters.get_meter(telemetry.__name__)
        for instrument in telemetry._meter._instruments:  # type: ignore[attr-defined] # proxies until there is a meter
            monkeypatch.setattr(instrument, "_real_instrument", None)
            instrument.on_meter_set(meter)
        handler, logger = LoggingHandler(logger_provider=logs), logging.getLogger("pullkeeper")
        handler.addFilter(self._set_time)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logs.shutdown()
            meters.shutdown()

    def export(self) -> None:
        """Export what was emitted and measured since the last call, as the app does every minute."""
        for record in self._logs.get_finished_logs():
            self._add_log(_convert_log_to_envelope(record))
        self._logs.clear()
        data = self._reader.get_metrics_data()
        for metric in _metrics(data) if data else ():
            for point in metric.data.data_points:
                self._add_metric(_convert_point_to_envelope(point, metric.name))

    def query(self, text: str, *, over: timedelta) -> list[Row]:
        """Run a query now, over the time until now. Raises KqlError where the engine cannot run it."""
        now = _naive(self._clock())
        self._database.execute("UPDATE asked SET since = ?, until = ?", [now - over, now])
        statement, parameters = _translate(text)
        found = self._database.execute(statement, dict.fromkeys(parameters, now))
        columns = [column[0] for column in found.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]

    def events(self) -> list[tuple[str, Mapping[str, str]]]:
        """Name and properties of every event until now."""
        found = self._database.execute("SELECT Name, Properties FROM AllAppEvents ORDER BY TimeGenerated").fetchall()
        return [(name, json.loads(properties)) for name, properties in found]

    def times(self, event: str, cluster: str = "") -> list[datetime]:
        """When an event was emitted, in order; with a cluster: about it."""
        condition = "Name = ? AND coalesce(Properties ->> 'cluster', '') = ?" if cluster else "Name = ? || ?"
        found = self._database.execute(
            f"SELECT TimeGenerated FROM AllAppEvents WHERE {condition} ORDER BY TimeGenerated", [event, cluster]
        )
        return [time.replace(tzinfo=UTC) for (time,) in found.fetchall()]

    def metrics(self) -> dict[str, set[str]]:
        """The dimensions of each metric until now."""
        found = self._database.execute("SELECT DISTINCT Name, Properties FROM AllAppMetrics").fetchall()
        names: dict[str, set[str]] = {name: set() for name, _ in found}
        for name, properties in found:
            names[name] |= json.loads(properties).keys()
        return names

    def _set_time(self, record: logging.LogRecord) -> bool:
        record.created = self._clock().timestamp()
        return True

    def _add_log(self, item: Any) -> None:
        data = item.data.base_data
        if item.data.base_type == "EventData":
            self._add("AppEvents", item.time, Name=data.name, Properties=json.dumps(data.properties))
        else:
            self._add("AppTraces", item.time, Type="AppTraces", Message=data.message, SeverityLevel=data.severity_level)

    def _add_metric(self, item: Any) -> None:
        data = item.data.base_data
        [value] = data.metrics
        least, most = (value.value if bound is None else bound for bound in (value.min, value.max))
        figures = {"Sum": value.value, "Min": least, "Max": most, "ItemCount": value.count or 1}
        self._add("AppMetrics", self._clock(), Name=value.name, Properties=json.dumps(data.properties), **figures)

    def _add(self, table: str, time: datetime, **columns: object) -> None:
        marks = ", ".join("?" * (len(columns) + 1))
        names = ", ".join(f'"{name}"' for name in ("TimeGenerated", *columns))
        self._database.execute(f"INSERT INTO All{table} ({names}) VALUES ({marks})", [_naive(time), *columns.values()])


@cache
def _translate(text: str) -> tuple[duckdb.Statement, tuple[str, ...]]:
    """Return the query in SQL, parsed, which takes longer than to run it. query_now becomes a parameter of the SQL."""
    schema = {table: list(columns) for table, columns in TABLES.items()}
    sql = duckdb_kql.to_sql(text, schema=schema, query_now=datetime.now(UTC), allow_write=False)
    [statement] = duckdb.extract_statements(str(sql))
    return statement, tuple(sql.parameters)


def _metrics(data: MetricsData) -> Iterator[Any]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def _naive(moment: datetime) -> datetime:
    """DuckDB keeps times without a zone, as Kusto does: UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None)
