"""What the app registers, read from its own function app object: the same JSON that the real host is given."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.functions.decorators.function_app import FunctionRegister

_SETTING = re.compile(r"%([^%]+)%")
RETURN = "$return"


class IndexingError(RuntimeError):
    """The app registers what the real host would refuse, or what this one has no trigger or binding for."""


@dataclass(frozen=True, slots=True)
class HttpTrigger:
    """`methods` is empty where any will do; `auth_level` is anonymous, function or admin."""

    route: str
    methods: frozenset[str]
    auth_level: str


@dataclass(frozen=True, slots=True)
class TimerTrigger:
    schedule: str
    run_on_startup: bool = False
    use_monitor: bool = True


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of the storage account that the setting `connection` names; as a trigger or as an output."""

    name: str
    connection: str


@dataclass(frozen=True, slots=True)
class Registration:
    """One function. `outputs` are its queues by parameter name; `$return` is the value itself."""

    name: str
    call: Callable[..., Any]
    parameter: str
    trigger: HttpTrigger | TimerTrigger | Queue
    outputs: Mapping[str, Queue] = field(default_factory=dict)
    wants_context: bool = False


def load(app: Path, environment: Mapping[str, str]) -> list[Registration]:
    """Import `function_app.py` of the directory `app` and index it.

    Raises whatever the import raises, and IndexingError.
    """
    if str(app) not in sys.path:
        sys.path.insert(0, str(app))
    importlib.invalidate_caches()
    module = importlib.import_module("function_app")
    if Path(str(module.__file__)).parent != app:
        raise IndexingError(f"function_app was imported from {module.__file__}, not from {app}")
    apps = {id(value): value for value in vars(module).values() if isinstance(value, FunctionRegister)}
    if len(apps) != 1:
        raise IndexingError(f"function_app.py must define exactly one function app object, not {len(apps)}")
    (function_app,) = apps.values()
    registrations = [_registration(function, environment) for function in function_app.get_functions()]
    if not registrations:
        raise IndexingError("function_app.py registers no functions")
    return registrations


def _registration(function: Any, environment: Mapping[str, str]) -> Registration:
    name = function.get_function_name()
    bindings: list[dict[str, Any]] = function.get_bindings_dict()["bindings"]
    trigger: HttpTrigger | TimerTrigger | Queue | None = None
    parameter = ""
    outputs: dict[str, Queue] = {}
    for binding in bindings:
        match binding["type"]:
            case "queue":
                outputs[binding["name"]] = _queue(binding, environment)
            case "http":
                continue
            case "httpTrigger" | "timerTrigger" | "queueTrigger":
                trigger, parameter = _trigger(binding, environment), binding["name"]
            case other:
                raise IndexingError(f"{name}: this host has no {other!r} binding")
    if trigger is None:
        raise IndexingError(f"{name} has no trigger")
    call = function.get_user_function()
    declared = set(inspect.signature(call).parameters) - {"context"}
    bound = {binding["name"] for binding in bindings} - {RETURN}
    if declared != bound:
        raise IndexingError(f"{name}: parameters {sorted(declared)} do not match bindings {sorted(bound)}")
    wants_context = "context" in inspect.signature(call).parameters
    return Registration(name, call, parameter, trigger, outputs, wants_context)


def _trigger(binding: Mapping[str, Any], environment: Mapping[str, str]) -> HttpTrigger | TimerTrigger | Queue:
    if binding["type"] == "timerTrigger":
        schedule = _resolve(binding["schedule"], environment)
        return TimerTrigger(
            schedule,
            run_on_startup=bool(binding.get("runOnStartup")),
            use_monitor=binding.get("useMonitor") is not False,
        )
    if binding["type"] == "queueTrigger":
        return _queue(binding, environment)
    methods = frozenset(_text(method).upper() for method in binding.get("methods") or ())
    return HttpTrigger(binding["route"], methods, _text(binding.get("authLevel") or "function"))


def _queue(binding: Mapping[str, Any], environment: Mapping[str, str]) -> Queue:
    # The service takes only lower case; the real host lowers the name for the same reason.
    return Queue(_resolve(binding["queueName"], environment).lower(), binding["connection"])


def _text(value: object) -> str:
    """An enum's value as function.json has it, or the string itself."""
    return str(getattr(value, "value", value)).lower()


def _resolve(text: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise IndexingError(f"'%{match[1]}%' does not resolve to a value.")
        return environment[match[1]]

    return _SETTING.sub(value, text)
