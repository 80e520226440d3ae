"""What is missing, wrong or misspelled among the settings, each with its remedy: also what only the host reads."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final, Literal

from azure.core.utils import parse_connection_string

from pullkeeper.clouds import CLOUDS, PUBLIC
from pullkeeper.document import Document
from pullkeeper.ncrontab import is_ncrontab

_HOST: Final = re.compile(r"[a-z0-9.-]+(:[0-9]{1,5})?")
_SCOPE: Final = re.compile(
    r"/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/resourceGroups/[\w.()-]{1,90})?",
    re.IGNORECASE | re.ASCII,
)
_ALIKE: Final = 0.85
"""From where on an unknown name is taken for a misspelling: REFRESH_SHEDULE has 0.97, AZURE_TENANT_ID has 0.8."""
_COPY: Final = "APPSETTING_"
"""App Service sets every setting a second time with this prefix."""
_LOGGER: Final = "pullkeeper"
_TRUE: Final = {"1", "true", "t", "yes", "y"}
"""What Microsoft's worker takes for true."""
_SET: Final = "az functionapp config appsettings set --ids <function app id> --settings '{}'"
_NEEDED: Final = {
    "blob": "the host keeps its locks and the timer's schedule there, and without it nothing is refreshed",
    "queue": "the host and the app need it",
    "table": "the app keeps the fleet there",
}


class Problem(Document):
    """What an operator should correct. error: something does not run because of it. setting: the one that is missing,
    wrong or misspelled, if it is one. runbook: the address of the page about it, if there is one.
    """

    setting: str | None = None
    severity: Literal["error", "warning"]
    detail: str
    remedy: str
    runbook: str | None = None


def find_problems(
    given: Mapping[str, str], faults: Mapping[str, str], environment: Mapping[str, str], names: Iterable[str]
) -> Iterator[Problem]:
    """Yield every problem. given: the known settings that have a value. faults: what is wrong with those that the model
    refuses. names: of all known settings.
    """
    for name, fault in faults.items():
        yield _error(name, fault)
    yield from _find_wrong_lists(given)
    yield from _find_missing_storage(given)
    yield from _find_wrong_schedule(given)
    if "WEBSITE_SITE_NAME" in environment:
        yield from _find_missing_export(given)
    yield from _find_misspelled(environment, {*names})


def is_host(text: str) -> bool:
    """Whether this is a host in lower case, with a port or without."""
    return _HOST.fullmatch(text) is not None


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _find_wrong_lists(given: Mapping[str, str]) -> Iterator[Problem]:
    if not all(map(is_host, split(given.get("TRUSTED_GOOGLE_HOSTS", "")))):
        yield _error("TRUSTED_GOOGLE_HOSTS", "must be hosts (with a port, if any) in lower case, separated by commas")
    if not all(map(_SCOPE.fullmatch, split(given.get("ONBOARDING_SCOPES", "")))):
        yield _error(
            "ONBOARDING_SCOPES",
            "must be /subscriptions/GUID or /subscriptions/GUID/resourceGroups/NAME, separated by commas",
        )


def _find_wrong_schedule(given: Mapping[str, str]) -> Iterator[Problem]:
    name = "REFRESH_SCHEDULE"
    if not is_ncrontab(given.get(name, "")):
        state = "is not an NCRONTAB expression with six fields" if name in given else "missing"
        yield _error(name, f"{state}: without it there is no timer, and nothing is refreshed", "0 */5 * * * *")


def _find_missing_storage(given: Mapping[str, str]) -> Iterator[Problem]:
    if connection := given.get("AzureWebJobsStorage"):
        if not _is_connection_string(connection):
            yield _error("AzureWebJobsStorage", "is not a connection string")
        return
    if "AzureWebJobsStorage__accountName" in given:
        return
    suffix = next((one.storage for name, one in CLOUDS.items() if name == given.get("AZURE_CLOUD")), PUBLIC.storage)
    for service, reason in _NEEDED.items():
        name = f"AzureWebJobsStorage__{service}ServiceUri"
        if name not in given:
            yield _error(
                name,
                f"missing, and so is AzureWebJobsStorage__accountName: {reason}",
                f"https://<storage account>.{service}.{suffix}",
            )


def _is_connection_string(text: str) -> bool:
    try:
        parts = parse_connection_string(text)
    except ValueError:
        return False
    return bool(parts.keys() & {"accountname", "sharedaccesssignature", "usedevelopmentstorage"})


def _find_missing_export(given: Mapping[str, str]) -> Iterator[Problem]:
    """On Azure alone: events that are not exported raise no alert."""
    if "APPLICATIONINSIGHTS_CONNECTION_STRING" not in given:
        yield _warning("APPLICATIONINSIGHTS_CONNECTION_STRING", "missing: no event is exported, no alert can fire")
    if given.get("PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY", "").strip().lower() not in _TRUE:
        name = "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY"
        yield _warning(name, "is not true: no event is exported, no alert can fire", "true")
    if given.get("PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME") != _LOGGER:
        name = "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME"
        yield _warning(name, f"is not {_LOGGER}: records of other loggers are exported and paid for too", _LOGGER)
    if given.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none":
        detail = "is not none: a span is exported and paid for with every call, ten for each refresh"
        yield _warning("OTEL_TRACES_EXPORTER", detail, "none")


def _find_misspelled(environment: Mapping[str, str], names: set[str]) -> Iterator[Problem]:
    """Names that differ from a setting's by a few letters or by their case."""
    by_upper = {name.upper(): name for name in names}
    others = (name for name in environment.keys() - names if not name.startswith(_COPY))
    for name in sorted(others):
        alike = get_close_matches(name.upper(), by_upper, cutoff=_ALIKE)
        if alike:
            meant = by_upper[alike[0]]
            yield Problem(
                setting=name,
                severity="warning",
                detail=f"{name}: there is no such setting; {meant} is one",
                remedy=f"az functionapp config appsettings delete --ids <function app id> --setting-names {name}, "
                f"and set {meant} if that was meant",
            )


def _error(name: str, fault: str, value: str = "<value>") -> Problem:
    return _problem(name, fault, value, "error")


def _warning(name: str, fault: str, value: str = "<value>") -> Problem:
    return _problem(name, fault, value, "warning")


def _problem(name: str, fault: str, value: str, severity: Literal["error", "warning"]) -> Problem:
    detail = fault if fault.startswith(name) else f"{name}: {fault}"
    return Problem(setting=name, severity=severity, detail=detail, remedy=_SET.format(f"{name}={value}"))
