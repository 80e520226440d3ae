"""Use case: report how the app itself is, settings first, and whatever can still be read."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, Protocol

from pydantic import AwareDatetime

from pullkeeper import telemetry
from pullkeeper.document import Document
from pullkeeper.documentation import Documentation
from pullkeeper.errors import InvalidSetting, PullkeeperError, UnknownFormat
from pullkeeper.fleet.creation import StorageObjects
from pullkeeper.fleet.queues import Queue
from pullkeeper.fleet.shard_table import Shards
from pullkeeper.hubs import Hubs
from pullkeeper.mints import MintProblem, MintRecord
from pullkeeper.setting_problems import Problem
from pullkeeper.settings import Settings
from pullkeeper.version import VERSION


class ConfiguredHub(Document):
    """A hub of the setting HUBS. fault: what is wrong with it."""

    name: str
    registries: tuple[str, ...] = ()
    fault: str | None = None


HubState = Literal["ok", "warning", "failed", "unknown"]


class HubStatus(MintRecord, ConfiguredHub):
    """A hub of the setting HUBS, and how its mints went, in whichever process: nothing if storage cannot be read.

    state: failed where the setting is wrong, or the last mint has failed. unknown where no valid token is known of: no
    cluster has needed one, or storage cannot be read.
    """

    state: HubState = "unknown"


class Totals(Document):
    """Clusters in the fleet, and their targets by state, as of the last run of each shard. overdue: shards."""

    clusters: int
    targets: Mapping[str, int]
    overdue: int


class AppStatus(Document):
    """queues: messages in each, hidden ones included. totals and queues are missing if storage cannot be read: then
    `problems` says why. last_run: of the scheduler. documentation: the address of the folder that contains `docs`.
    """

    version: str
    documentation: str
    problems: tuple[Problem, ...]
    hubs: tuple[HubStatus, ...]
    totals: Totals | None = None
    last_run: AwareDatetime | None = None
    queues: Mapping[str, int] | None = None


class Sources(Protocol):
    """What of the app's services is read here."""

    @property
    def shards(self) -> Shards: ...
    @property
    def queues(self) -> Mapping[str, Queue]: ...
    @property
    def storage_objects(self) -> StorageObjects: ...
    @property
    def clock(self) -> Callable[[], datetime]: ...


def report_problems(settings: Settings) -> None:
    """Emit an event for each problem of the settings."""
    for problem in settings.problems:
        level = logging.ERROR if problem.severity == "error" else logging.WARNING
        telemetry.emit("settings.invalid", problem.model_dump(), level)


async def read_status(settings: Settings, connect: Callable[[], Sources]) -> AppStatus:
    """Return the status of the app. Does not fail if a setting is wrong or storage cannot be read: that is a problem in
    it. connect: returns the services of this process.
    """
    documentation = settings.documentation
    status = AppStatus(
        version=VERSION,
        documentation=documentation.base,
        problems=settings.problems,
        hubs=_hubs(settings.hubs, {}),
    )
    try:
        sources = connect()
    except InvalidSetting:
        return status  # it is among the problems
    problems = [*settings.problems, *sources.storage_objects.problems]
    try:
        seen = await sources.shards.totals()
        depths = await asyncio.gather(*(queue.depth() for queue in sources.queues.values()))
    except PullkeeperError as e:
        problems.append(_problem("error", e, documentation))
        return status.model_copy(update={"problems": tuple(problems)})
    queues = dict(zip(sources.queues, depths, strict=True))
    now = sources.clock()
    totals = Totals(clusters=seen.clusters, targets=seen.states, overdue=seen.overdue(now))
    problems += [
        _problem("warning", UnknownFormat(f"the row of hub {name} in the table shards"), documentation)
        for name, hub in settings.hubs.valid.items()
        if seen.hubs.get(hub.identity, MintRecord()) is None
    ]
    found = {
        "problems": tuple(problems),
        "hubs": tuple(_explain(hub, documentation, now) for hub in _hubs(settings.hubs, seen.hubs)),
        "totals": totals,
        "last_run": seen.last_run,
        "queues": queues,
    }
    return status.model_copy(update=found)


def _problem(severity: Literal["error", "warning"], failure: PullkeeperError, documentation: Documentation) -> Problem:
    return Problem(
        severity=severity,
        detail=f"{failure.category}: {failure.detail}",
        remedy=failure.final_remedy,
        runbook=documentation.page(failure.category),
    )


def _hubs(hubs: Hubs, records: Mapping[str, MintRecord | None]) -> tuple[HubStatus, ...]:
    """records: by the hub's identity."""
    right = [
        HubStatus(name=name, registries=hub.registries, **dict(records.get(hub.identity) or MintRecord()))
        for name, hub in hubs.valid.items()
    ]
    wrong = [HubStatus(name=name, fault=fault, state="failed") for name, fault in hubs.faults.items() if name]
    return (*right, *wrong)


def _explain(hub: HubStatus, documentation: Documentation, now: datetime) -> HubStatus:
    """Return a hub with its state, and the pages of its warning and its failure."""

    def link(problem: MintProblem | None) -> MintProblem | None:
        return problem and problem.model_copy(update={"runbook": documentation.page(problem.category)})

    state: HubState = "warning" if hub.warning else "ok"
    if hub.fault or hub.failure:
        state = "failed"
    elif hub.expires_at is None or hub.expires_at <= now:
        state = "unknown"
    return hub.model_copy(update={"state": state, "warning": link(hub.warning), "failure": link(hub.failure)})
