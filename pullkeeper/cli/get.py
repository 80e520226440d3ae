"""`pullkeeper get`: the fleet, the hubs and the operations, once or again and again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from pullkeeper.cli.client import App, Json
from pullkeeper.cli.command import connected, output_option, print_document
from pullkeeper.cli.failures import CommandFailed, ExitCode, Unavailable
from pullkeeper.cli.names import ClusterName, find_cluster
from pullkeeper.cli.operations import show_operation
from pullkeeper.cli.terminal import Terminal
from pullkeeper.cli.views import Table, list_clusters, list_hubs, list_operations

STATES: Final = ("pending", "fresh", "stale", "expired", "unknown", "removed")
STATUSES: Final = ("Queued", "Running", "Succeeded", "AwaitingFederation", "Failed")
_INTERVAL: Final = 2.0
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Found:
    """What was read: the table, and the document for -o json and yaml."""

    table: Table
    document: Json


@click.group(short_help="Show clusters, hubs or operations.")
def get() -> None:
    """Show clusters, hubs or operations: once, or with --watch until Ctrl-C.

    The columns LEFT and LAST-SUCCESS are about the secret of a cluster that needs attention first, or about the last
    token of a hub. -o wide adds columns and cuts no message, -o json and -o yaml print what the app responds.
    """


_watch = click.option(
    "-w", "--watch", is_flag=True, help="Keep showing it until Ctrl-C; in a pipe, each row that changes."
)
_formats = output_option("table", "wide", "json", "yaml")


@get.command(short_help="The fleet: one row per cluster.")
@click.argument("names", nargs=-1, metavar="[CLUSTER]...")
@click.option("--state", type=click.Choice(STATES), help="Only clusters with a secret in this state.")
@click.option("--hub", help="Only clusters of this hub.")
@_watch
@_formats
@connected
def clusters(
    app: App,
    terminal: Terminal,
    *,
    names: tuple[str, ...],
    state: str | None,
    hub: str | None,
    watch: bool,
    output: str,
) -> None:
    """Show the fleet: one row per cluster, with the secret that needs attention first.

    CLUSTER is a name, RESOURCE-GROUP/NAME or a resource id. With names, -o json has all targets of each.

    \b
    Examples:
      pullkeeper get clusters
      pullkeeper get clusters --state expired -o wide
      pullkeeper get clusters shop-west --watch
      pullkeeper get clusters -o json | jq -r '.clusters[] | select(.worst.category) | .cluster'
    """
    wanted = [find_cluster(app, name) for name in names]

    def read() -> Found:
        lines = (
            [_view(app, name, state) for name in wanted]
            if wanted
            else [*app.pages("clusters", "clusters", state=state)]
        )
        lines = [line for line in lines if hub in {None, line["hub"]}]
        return Found(list_clusters(lines, app.now, is_wide=output == "wide"), {"clusters": lines})

    show(terminal, read, output, watch=watch)


@get.command(short_help="The hubs, with their last mint.")
@click.option("--state", type=click.Choice(("ok", "warning", "failed", "unknown")), help="Only hubs in this state.")
@_watch
@_formats
@connected
def hubs(app: App, terminal: Terminal, *, state: str | None, watch: bool, output: str) -> None:
    """Show the hubs (publishers), with their last mint.

    A hub is failed if its setting is wrong or its last mint has failed, and unknown if no cluster has needed a token
    lately.

    \b
    Examples:
      pullkeeper get hubs
      pullkeeper get hubs --state failed -o wide
    """

    def read() -> Found:
        found = [hub for hub in app.get("status")["hubs"] if state in {None, hub["state"]}]
        return Found(list_hubs(found, app.now, is_wide=output == "wide"), {"hubs": found})

    show(terminal, read, output, watch=watch)


@get.command(short_help="Onboardings and offboardings, newest first.")
@click.argument("operation", required=False)
@click.option("--cluster", help="Only operations of this cluster.")
@click.option("--status", type=click.Choice(STATUSES), help="Only operations in this status.")
@click.option("--all", "everything", is_flag=True, help=f"All of them, not the newest {_PAGE}.")
@_watch
@_formats
@connected
def operations(
    app: App,
    terminal: Terminal,
    *,
    operation: str | None,
    cluster: str | None,
    status: str | None,
    everything: bool,
    watch: bool,
    output: str,
) -> int | None:
    """Show onboardings and offboardings, newest first; with OPERATION (an id), one of them with its steps.

    With an id and --watch, it follows the operation to its end, with the exit codes of `pullkeeper onboard --wait`.

    \b
    Examples:
      pullkeeper get operations --status Failed
      pullkeeper get operations --cluster shop-west
      pullkeeper get operations 6ffe5c1dba3cd2a7e14f1ed0f2a6c5b1 --watch
    """
    if operation:
        _refuse_watched_document(output, watch=watch)
        return show_operation(app, terminal, operation, output, watch=watch)
    of = str(find_cluster(app, cluster)) if cluster else None

    def read() -> Found:
        pages: Iterator[Json] = app.pages("operations", "operations", cluster=of, status=status)
        found = [*(pages if everything else islice(pages, _PAGE))]
        return Found(list_operations(found, app.now, is_wide=output == "wide"), {"operations": found})

    show(terminal, read, output, watch=watch)
    return None


def _view(app: App, name: ClusterName, state: str | None) -> Json:
    """Return a cluster with all its targets."""
    targets = [*app.pages(name.path, "targets", state=state)]
    return {**app.get(name.path), "targets": targets, "continuation": None}


def show(
    terminal: Terminal,
    read: Callable[[], Found],
    output: str,
    *,
    watch: bool,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Print what is read, once or again and again. pause: waits between two looks."""
    _refuse_watched_document(output, watch=watch)
    if output in {"json", "yaml"}:
        print_document(terminal, read().document, output)
        return
    table, is_wide = read().table, output == "wide"
    if watch and terminal.has_cursor:
        _watch_screen(terminal, read, table, pause, is_wide=is_wide)
    elif watch:
        _watch_lines(terminal, read, table, pause, is_wide=is_wide)
    elif table.rows:
        terminal.print_lines(terminal.table(table.columns, [*table.rows.values()], is_wide=is_wide))
    else:
        terminal.note("nothing found")


def _refuse_watched_document(output: str, *, watch: bool) -> None:
    if watch and output in {"json", "yaml"}:
        raise CommandFailed("--watch shows tables: leave out -o, or give -o wide", ExitCode.USAGE)


def _watch_screen(
    terminal: Terminal, read: Callable[[], Found], table: Table, pause: Callable[[float], None], *, is_wide: bool
) -> None:
    """Keep a table up to date in its place. What does not fit on the screen is left out below."""
    with Live(console=terminal.out, auto_refresh=False, vertical_overflow="ellipsis") as live:
        failure: list[Text] = []
        while True:
            lines = terminal.table(table.columns, [*table.rows.values()], is_wide=is_wide)
            live.update(Group(*lines, *failure), refresh=True)
            pause(_INTERVAL)
            try:
                table, failure = read().table, []
            except Unavailable as e:
                failure = [terminal.line("failed", f"{e.message}: trying again")]


def _watch_lines(
    terminal: Terminal, read: Callable[[], Found], table: Table, pause: Callable[[float], None], *, is_wide: bool
) -> None:
    """Print the table, then each row whose document has changed."""
    terminal.print_lines(terminal.table(table.columns, [*table.rows.values()], is_wide=is_wide))
    while True:
        pause(_INTERVAL)
        before = table
        try:
            table = read().table
        except Unavailable as e:
            terminal.fail(e)
            continue
        changed = [row for key, row in table.rows.items() if table.documents[key] != before.documents.get(key)]
        terminal.print_lines(terminal.table(table.columns, changed, is_wide=is_wide)[1:])
