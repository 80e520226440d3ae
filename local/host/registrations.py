"""What the app registers, read from its own function app object: the same JSON that the real host receives."""

import importlib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.functions.decorators.function_app import FunctionRegister

from local.host.settings import UnsupportedError

_log = logging.getLogger("local.host")
_SETTING = re.compile(r"%([^%]+)%")


class IndexingError(RuntimeError):
    """The function is wrong: the host runs without it."""


@dataclass(frozen=True, slots=True)
class HttpTrigger:
    """methods: upper case, empty for any. auth_level: anonymous, function or admin."""

    route: str
    methods: frozenset[str]
    auth_level: str


@dataclass(frozen=True, slots=True)
class TimerTrigger:
    """schedule: with its settings resolved."""

    schedule: str


@dataclass(frozen=True, slots=True)
class QueueTrigger:
    """connection: the setting that names the storage account, or the prefix of the settings that do."""

    queue: str
    connection: str


@dataclass(frozen=True, slots=True)
class Registration:
    """One function; its trigger's value is passed as `parameter`."""

    name: str
    call: Callable[..., Any]
    parameter: str
    trigger: HttpTrigger | TimerTrigger | QueueTrigger


def load(app: Path, environment: Mapping[str, str]) -> list[Registration]:
    """Import `function_app.py` of the directory `app` and index it.

    As in the real host, an exception at import, a duplicate name or a wrong parameter means no functions at all, and
    a setting that is missing means that one function less; the log alone says so. Raises UnsupportedError.
    """
    try:
        functions = [(function, _bindings(function)) for function in _import(app).get_functions()]
    except Exception:  # noqa: BLE001 - whatever an app raises at import
        _log.exception("0 functions found: the app cannot be indexed")
        return []
    registrations = []
    for function, bindings in functions:
        try:
            registrations.append(_registration(function, bindings, environment))
        except IndexingError as error:
            _log.error("The function %s is off: %s", function.get_function_name(), error)
    _log.info("%d functions found", len(registrations))
    return registrations


def _import(app: Path) -> FunctionRegister:
    if sys.path[0] != str(app):
        sys.path.insert(0, str(app))
    importlib.invalidate_caches()
    module = importlib.import_module("function_app")
    if Path(str(module.__file__)).parent != app:
        raise ImportError(f"function_app was imported from {module.__file__}, not from {app}")
    (function_app,) = {value for value in vars(module).values() if isinstance(value, FunctionRegister)}
    return function_app


def _bindings(function: Any) -> list[dict[str, Any]]:
    bindings: list[dict[str, Any]] = function.get_bindings_dict()["bindings"]
    declared = set(inspect.signature(function.get_user_function()).parameters)
    bound = {binding["name"] for binding in bindings} - {"$return"}
    if declared != bound:
        name = function.get_function_name()
        raise TypeError(f"{name}: parameters {sorted(declared)} do not match bindings {sorted(bound)}")
    return bindings


def _registration(function: Any, bindings: list[dict[str, Any]], environment: Mapping[str, str]) -> Registration:
    name = function.get_function_name()
    for binding in bindings:
        if binding["type"] not in {"httpTrigger", "http", "timerTrigger", "queueTrigger"}:
            raise UnsupportedError(f"{name}: the binding {binding['type']!r}")
    (binding,) = (binding for binding in bindings if binding["type"] != "http")
    if environment.get(f"AzureWebJobs.{name}.Disabled"):
        raise UnsupportedError(f"the setting AzureWebJobs.{name}.Disabled")
    return Registration(name, function.get_user_function(), binding["name"], _trigger(binding, environment))


def _trigger(binding: Mapping[str, Any], environment: Mapping[str, str]) -> HttpTrigger | TimerTrigger | QueueTrigger:
    if binding["type"] == "timerTrigger":
        if binding.get("runOnStartup") or binding.get("useMonitor") is False:
            raise UnsupportedError("a timer with run_on_startup, or without use_monitor")
        return TimerTrigger(_resolve(binding["schedule"], environment))
    if binding["type"] == "queueTrigger":
        return QueueTrigger(_resolve(binding["queueName"], environment).lower(), binding["connection"])
    methods = frozenset(_text(method).upper() for method in binding.get("methods") or ())
    return HttpTrigger(binding["route"], methods, _text(binding.get("authLevel") or "function"))


def _text(value: object) -> str:
    """An enum's value as function.json has it, or the string itself."""
    return str(getattr(value, "value", value)).lower()


def _resolve(text: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise IndexingError(f"'%{match[1]}%' does not resolve to a value.")
        return environment[match[1]]

    return _SETTING.sub(value, text)
