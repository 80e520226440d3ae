"""Events as the Azure Monitor exporter wants them, by the names that alerts look for; and nothing of it can fail."""

import ast
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest

import pullkeeper
from pullkeeper import telemetry

_PACKAGE = Path(*pullkeeper.__path__)
_RESERVED = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def _emitted(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (record,) = caplog.records
    return record


def test_an_event_is_a_log_record_with_a_name_and_flat_attributes(caplog: pytest.LogCaptureFixture) -> None:
    telemetry.emit("secret.refreshed", {"target": "c1/d/s", "left": 3000.5, "tries": 2, "note": None})

    record = _emitted(caplog)
    extra = {name: value for name, value in vars(record).items() if name not in _RESERVED}
    assert extra == {
        "microsoft.custom_event.name": "secret.refreshed",
        "target": "c1/d/s",
        "left": 3000.5,
        "tries": 2,
    }
    assert (record.name, record.levelno) == ("pullkeeper", logging.INFO)
    assert record.getMessage() == "secret.refreshed target=c1/d/s left=3000.5 tries=2"


def test_times_are_written_in_utc(caplog: pytest.LogCaptureFixture) -> None:
    there = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    telemetry.emit("fleet.status", {"token_expiry": there, "last_success": datetime(2026, 1, 1, 12, tzinfo=UTC)})

    written = vars(_emitted(caplog))
    assert written["token_expiry"] == written["last_success"] == "2026-01-01T12:00:00+00:00"


def test_an_event_has_the_level_it_was_given(caplog: pytest.LogCaptureFixture) -> None:
    telemetry.emit("message.poisoned", {}, logging.ERROR)

    assert _emitted(caplog).levelno == logging.ERROR


@pytest.mark.parametrize("name", sorted(_RESERVED))
def test_an_attribute_that_logging_reserves_gets_another_name(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """`logging` raises KeyError for it, and a refresh would fail for the sake of its log."""
    telemetry.emit("run.completed", {name: "ours"})

    assert vars(_emitted(caplog))[f"{name}_"] == "ours"


def test_a_foreign_text_cannot_add_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    telemetry.emit("secret.refresh_failed", {"detail": "denied\r\nINFO run.completed\u2028queued=0\x0b"})

    assert len(_emitted(caplog).getMessage().splitlines()) == 1


def test_a_percent_sign_is_written_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    telemetry.emit("secret.refresh_failed", {"detail": "100 %s of %(quota)d"})

    assert "100 %s of %(quota)d" in _emitted(caplog).getMessage()


def test_events_are_logged_whatever_the_root_loggers_level() -> None:
    assert logging.getLogger("pullkeeper").isEnabledFor(logging.INFO)


def _calls() -> Iterator[tuple[ast.AST, ast.Call]]:
    """Every call of `emit`, and the function it stands in."""
    for path in _PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
                        yield function, node


def test_every_event_is_emitted_somewhere() -> None:
    emitted = {call.args[0].value for _, call in _calls() if isinstance(call.args[0], ast.Constant)}

    assert emitted == set(get_args(telemetry.Event))


def test_no_event_uses_an_attribute_that_logging_reserves() -> None:
    """So that no alert has to know of a name with an underscore behind it."""
    used = {
        key.value
        for function, _ in _calls()
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }

    assert {"cluster", "target", "category", "token_expiry"} <= used
    assert used & _RESERVED == set()


def test_the_message_alone_says_what_happened_and_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """Outside OpenTelemetry mode it is all that the host keeps."""
    failure = {"target": "c1/d/s", "category": "quota_exceeded", "detail": "no room"}
    telemetry.emit("secret.refresh_failed", {**failure, "remedy": "kubectl describe quota"}, logging.WARNING)
    telemetry.emit("message.poisoned", failure, logging.ERROR)
    telemetry.emit("operation.completed", {"category": None})

    first, second, third = (record.getMessage() for record in caplog.records)
    assert first == (
        "secret.refresh_failed target=c1/d/s category=quota_exceeded detail=no room remedy=kubectl describe quota"
    )
    assert second == (
        "message.poisoned target=c1/d/s category=quota_exceeded detail=no room "
        f"remedy={telemetry.documentation.base}/docs/runbook/quota_exceeded.md"
    )
    assert third == "operation.completed "


@pytest.mark.parametrize(
    ("library", "silent", "heard"),
    [
        ("azure.core.pipeline.policies.http_logging_policy", logging.INFO, logging.WARNING),
        ("azure.storage", logging.INFO, logging.WARNING),
        ("azure.data.tables", logging.INFO, logging.WARNING),
        ("azure.mgmt.core", logging.INFO, logging.WARNING),
        ("azure.monitor.opentelemetry.exporter", logging.INFO, logging.WARNING),
        ("aiohttp.client", logging.INFO, logging.WARNING),
        ("google.auth", logging.INFO, logging.WARNING),
        ("msal", logging.INFO, logging.WARNING),
        ("urllib3", logging.INFO, logging.WARNING),
        ("stamina", logging.WARNING, logging.ERROR),
    ],
)
def test_the_sdks_log_no_requests_and_no_retries(
    library: str, silent: int, heard: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the root logger is at INFO, as on Azure."""
    caplog.set_level(logging.INFO)
    assert not logging.getLogger(library).isEnabledFor(silent)
    assert logging.getLogger(library).isEnabledFor(heard)


_USE_ALL = """
import warnings; warnings.simplefilter("error")
{before}
from pullkeeper import telemetry
telemetry.remaining_lifetime.record(1800.0, {{"target": "t"}})
telemetry.refresh_duration.record(0.5)
telemetry.refresh_count.add(1, {{"category": "ok"}})
telemetry.queue_depth.set(3)
telemetry.emit("run.completed", {{"clusters": 1}})
{after}
"""
_WITH_SDK = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
"""
_NAMES = """
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(scope.scope.name, *sorted(f"{metric.name}:{metric.unit}" for metric in scope.metrics))
"""


def _run(before: str = "", after: str = "") -> str:
    """In a process of its own: a meter provider is set once and for all."""
    code = _USE_ALL.format(before=before, after=after)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_PACKAGE.parent, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout + done.stderr


def test_without_an_exporter_nothing_is_written_and_nothing_fails() -> None:
    assert _run() == ""


def test_with_an_exporter_the_instruments_have_the_names_that_alerts_look_for() -> None:
    """Also when it is set up after they were made, as the worker may do."""
    set_up = "metrics.set_meter_provider(MeterProvider([reader]))"
    first = _run(_WITH_SDK + set_up, _NAMES)

    assert first.split() == [
        "pullkeeper",
        "queue.depth:",
        "refresh.count:",
        "refresh.duration:s",
        "secret.remaining_lifetime:s",
    ]
    assert first == _run(_WITH_SDK + "from pullkeeper import telemetry\n" + set_up, _NAMES)
