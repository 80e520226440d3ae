"""Operations: `pullkeeper onboard`, `pullkeeper offboard`, and how an operation is followed to its end."""

import json
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from pullkeeper.cli.client import App, Json
from pullkeeper.cli.command import connected, print_document
from pullkeeper.cli.failures import CommandFailed, ExitCode, Unavailable
from pullkeeper.cli.handover import print_handover
from pullkeeper.cli.names import find_cluster
from pullkeeper.cli.terminal import Mark, Terminal

_ENDED: Final = ("Succeeded", "AwaitingFederation", "Failed")
_STEPS: Final[dict[str, Mark]] = {
    "done": "ok",
    "planned": "action",
    "skipped": "skipped",
    "failed": "failed",
    "running": "action",
    "pending": "skipped",
}
_POLL: Final = 2
_MANIFESTS: Final = Path("pullkeeper-manifests.yaml")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)

_wait = click.option("--wait", is_flag=True, help="Follow the operation to its end, and report how it went.")
_timeout = click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=1800,
    show_default=True,
    envvar="PULLKEEPER_PATIENCE",
    show_envvar=True,
    help="Seconds to wait for the end.",
)


@click.command(short_help="Onboard a cluster, or change how it is onboarded.")
@click.option("-f", "--file", required=True, type=click.File("rb"), help="The body: JSON or YAML; - is standard input.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and report what would be done. Implies --wait.")
@_wait
@_timeout
@click.option(
    "--manifests",
    type=_FILE,
    default=_MANIFESTS,
    show_default=True,
    envvar="PULLKEEPER_MANIFESTS",
    show_envvar=True,
    help="Where to save manifests that the app could not apply.",
)
@connected
def onboard(
    app: App, terminal: Terminal, *, file: Any, dry_run: bool, wait: bool, timeout: int, manifests: Path
) -> int | None:
    """Onboard a cluster, or change how it is onboarded. Safe to repeat.

    The file has the body of POST /api/clusters: docs/onboarding.md lists its fields. Try it with --dry-run first.

    \b
    Exit codes: 0 Succeeded (or accepted, without --wait), 1 Failed or refused, 2 wrong usage,
    3 AwaitingFederation: the publisher has to act first, 4 no result within --timeout.

    \b
    Examples:
      pullkeeper onboard -f shop-west.yaml --dry-run
      pullkeeper onboard -f shop-west.yaml --wait
      jq -n --arg id "$CLUSTER" '{cluster: $id, hub: "deepintshield"}' | pullkeeper onboard -f - --wait
    """
    body = _read_body(file)
    if dry_run:
        body = {**body, "dryRun": True}
    response = app.call("POST", "clusters", body=json.dumps(body, default=str).encode(), patience=timeout)
    return _begin(
        app, terminal, response.document, wait=wait or body.get("dryRun") is True, timeout=timeout, manifests=manifests
    )


@click.command(short_help="Offboard a cluster: remove everything that onboarding made.")
@click.argument("cluster")
@click.option("--keep-workload", is_flag=True, help="Keep the application that onboarding deployed.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and report what would be removed. Implies --wait.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask.")
@_wait
@_timeout
@connected
def offboard(
    app: App,
    terminal: Terminal,
    *,
    cluster: str,
    keep_workload: bool,
    dry_run: bool,
    yes: bool,
    wait: bool,
    timeout: int,
) -> int | None:
    """Offboard a cluster: remove everything that onboarding made, and report what is left.

    The pull secret is removed too: pods that are scheduled later cannot pull. The exit codes are those of `pullkeeper
    onboard`. CLUSTER is a name, RESOURCE-GROUP/NAME or a resource id.

    \b
    Examples:
      pullkeeper offboard shop-west --dry-run
      pullkeeper offboard shop/shop-west --wait
      pullkeeper offboard shop-west --yes --wait --keep-workload
    """
    name = find_cluster(app, cluster)
    if not (dry_run or yes):
        if not terminal.is_interactive:
            raise CommandFailed("there is no terminal to ask: add --yes", ExitCode.USAGE)
        click.confirm(f"Remove Pullkeeper and its secrets from {name.short}?", abort=True)
    query = {"keepWorkload": "true" if keep_workload else None, "dryRun": "true" if dry_run else None}
    response = app.call("DELETE", name.path, query=query, patience=timeout)
    return _begin(app, terminal, response.document, wait=wait or dry_run, timeout=timeout)


def show_operation(app: App, terminal: Terminal, operation: str, output: str, *, watch: bool) -> int | None:
    """Print an operation with its steps; with watch, follow it to its end."""
    operation = quote(operation, safe="")
    if watch:
        return follow(app, terminal, operation, timeout=None)
    found = app.get(f"operations/{operation}")
    if output in {"json", "yaml"}:
        print_document(terminal, found, output)
        return None
    terminal.say("action", f"{found['kind']} {found['cluster']}: {found['status']}")
    for step in found["steps"]:
        terminal.say(_STEPS[step["status"]], _describe_step(step), _hints(step))
    return None


def follow(app: App, terminal: Terminal, operation: str, timeout: float | None, manifests: Path | None = None) -> int:
    """Print each step when it ends, then the result. Returns the exit code; raises CommandFailed if it failed."""
    deadline = time.monotonic() + timeout if timeout else None
    printed: set[tuple[str, str]] = set()
    look = {"look again": f"pullkeeper get operations {operation} --watch"}
    try:
        with terminal.wait("waiting for the operation") as spinner:
            while True:
                found = _poll(app, operation)
                for step in found["steps"] if found else ():
                    described = (step["status"], _describe_step(step))
                    if step["status"] in {"done", "planned", "skipped", "failed"} and described not in printed:
                        terminal.say(_STEPS[step["status"]], described[1])
                        printed.add(described)
                    if step["status"] == "running":
                        spinner.update(_describe_step(step))
                if found and found["status"] in _ENDED:
                    break
                if deadline and time.monotonic() + _POLL >= deadline:
                    raise CommandFailed(f"no result within {timeout:.0f} s: it continues", ExitCode.NO_RESULT, look)
                time.sleep(_POLL)
    except KeyboardInterrupt:
        raise CommandFailed("interrupted: the operation continues", ExitCode.INTERRUPTED, look) from None
    return _report(terminal, found, manifests)


def _begin(
    app: App, terminal: Terminal, operation: Json, *, wait: bool, timeout: float, manifests: Path | None = None
) -> int | None:
    identifier = operation["id"]
    terminal.say("action", f"operation {identifier}")
    if wait:
        return follow(app, terminal, identifier, timeout, manifests)
    terminal.say("ok", "accepted", {"follow it": f"pullkeeper get operations {identifier} --watch"})
    return None


def _poll(app: App, operation: str) -> Json | None:
    """Return the operation; None while the app is not available: the next look may find it."""
    try:
        return app.get(f"operations/{operation}")
    except Unavailable:
        return None


def _report(terminal: Terminal, operation: Json, manifests: Path | None) -> int:
    result, status = operation["result"] or {}, operation["status"]
    changed = ": nothing was changed" if operation["dryRun"] else ""
    mark: Mark = "ok" if status == "Succeeded" else "failed" if status == "Failed" else "warning"
    terminal.say(mark, f"{status} after {result.get('seconds', '?')} s{changed}")
    for left in result.get("left", ()):
        terminal.say("warning", f"left: {left}")
    if result.get("manifests"):
        path = manifests or _MANIFESTS
        path.write_text(result["manifests"], encoding="utf-8")
        apply = f"kubectl apply --server-side --field-manager=pullkeeper -f {path}"
        terminal.say("warning", f"the app could not apply these: {path}", {"run": apply})
    if status == "Failed":
        step = next((step for step in operation["steps"] if step["category"]), None)
        if step is None:
            raise CommandFailed("the operation has failed, and no step says why")
        raise CommandFailed(f"failed at {_describe_step(step)}", hints=_hints(step))
    if status == "Succeeded":
        return ExitCode.SUCCEEDED
    terminal.say("action", "for the publisher; then onboard again with a hub:")
    print_handover(terminal, result["handover"])
    return ExitCode.AWAITS_PUBLISHER


def _describe_step(step: Json) -> str:
    category = f" ({step['category']})" if step["category"] else ""
    return f"{step['name']}: {step['detail'] or step['status']}{category}"


def _hints(step: Json) -> dict[str, str | None]:
    return {"remedy": step["remedy"], "runbook": step["runbook"]}


def _read_body(file: Any) -> Json:
    """Return the body, read as YAML: JSON is YAML too."""
    import yaml  # noqa: PLC0415 - not needed otherwise

    try:
        body = yaml.safe_load(file.read())
    except yaml.YAMLError as e:
        raise CommandFailed(
            f"{file.name} is neither JSON nor YAML: {getattr(e, 'problem', e)}", ExitCode.USAGE
        ) from None
    if not isinstance(body, dict):
        raise CommandFailed(f"{file.name} has no object with the fields of an onboarding", ExitCode.USAGE)
    return body
