"""`pullkeeper check`: whether the app can be reached and is well."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import click

from pullkeeper.cli.client import App, Json
from pullkeeper.cli.command import connected
from pullkeeper.cli.failures import ExitCode
from pullkeeper.cli.terminal import Mark, Terminal
from pullkeeper.cli.times import describe_ago
from pullkeeper.cli.views import describe_failure
from pullkeeper.version import VERSION

_HUBS: Final[Mapping[str, Mark]] = {"ok": "ok", "warning": "warning", "failed": "failed", "unknown": "skipped"}
_OK: Final = 200


@click.command(short_help="Whether the app can be reached and is well.")
@connected
def check(app: App, terminal: Terminal) -> int:
    """Check that the app can be reached, that its settings are right, and that the fleet is being refreshed.

    The exit code is 1 if something is wrong. A warning does not change it.

    \b
    Examples:
      pullkeeper check
      pullkeeper check && pullkeeper onboard -f shop-west.yaml --wait
    """
    checks = Checks(terminal)
    terminal.say("action", f"reaching {app.url}")
    health = app.send("GET", "health")
    checks.note("ok" if health.status == _OK else "failed", f"health: {health.document.get('status', health.status)}")
    status = app.get("status")
    checks.note("ok", "the credentials are accepted")
    terminal.say("action", "looking at the app")
    checks.look_at_app(status)
    for problem in status["problems"]:
        mark: Mark = "failed" if problem["severity"] == "error" else "warning"
        checks.note(mark, problem["detail"], {"remedy": problem["remedy"], "runbook": problem["runbook"]})
    if not status["problems"]:
        checks.note("ok", "settings and storage")
    if status["totals"]:
        checks.look_at_refresh(app, status)
    terminal.say("action", "looking at the hubs")
    for hub in status["hubs"]:
        checks.look_at_hub(hub)
    if not status["hubs"]:
        checks.note("warning", "the setting HUBS has no hub")
    return ExitCode.FAILED if checks.has_failed else ExitCode.SUCCEEDED


@dataclass(slots=True)
class Checks:
    """Prints each check, and remembers whether one has failed."""

    terminal: Terminal
    has_failed: bool = False

    def note(self, mark: Mark, text: str, hints: Mapping[str, str | None] | None = None) -> None:
        self.has_failed |= mark == "failed"
        self.terminal.say(mark, text, hints)

    def look_at_app(self, status: Json) -> None:
        if status["version"] == VERSION:
            self.note("ok", f"version {VERSION}")
        else:
            text = f"the app has version {status['version']}, this command line {VERSION}"
            self.note("warning", text, {"remedy": "install the command line of the app's version"})

    def look_at_refresh(self, app: App, status: Json) -> None:
        totals, targets = status["totals"], status["totals"]["targets"]
        ran = describe_ago(status["lastRun"], app.now)
        self.note("ok" if status["lastRun"] else "warning", f"the timer last ran: {ran}")
        look = {"look": "pullkeeper get clusters --state expired"}
        if totals["overdue"]:
            page = f"{status['documentation']}/docs/runbook/refresh_stopped.md"
            self.note("failed", f"{totals['overdue']} shards are overdue: no run refreshes them", {"runbook": page})
        poisoned = {name: depth for name, depth in status["queues"].items() if depth and name.endswith("-poison")}
        for name, depth in poisoned.items():
            page = f"{status['documentation']}/docs/runbook/README.md#look-at-the-poison-queues-and-clear-them"
            self.note("warning", f"{depth} messages are in {name}", {"runbook": page})
        found = ", ".join(f"{count} {state}" for state, count in sorted(targets.items())) or "none"
        mark: Mark = "failed" if targets.get("expired") else "warning" if {*targets} - {"fresh", "removed"} else "ok"
        self.note(mark, f"secrets in {totals['clusters']} clusters: {found}", look if mark == "failed" else None)

    def look_at_hub(self, hub: Json) -> None:
        problem = hub["failure"] or hub["warning"] or {}
        text = hub["fault"] or describe_failure(problem)
        hints = {"remedy": problem.get("remedy"), "runbook": problem.get("runbook")}
        self.note(_HUBS[hub["state"]], f"{hub['name']}: {text or hub['state']}", hints)
