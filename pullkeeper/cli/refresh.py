"""`pullkeeper refresh`: refresh clusters now."""

import click

from pullkeeper.cli.client import App
from pullkeeper.cli.command import connected
from pullkeeper.cli.failures import CommandFailed, ExitCode
from pullkeeper.cli.names import find_cluster
from pullkeeper.cli.terminal import Terminal


@click.command(short_help="Refresh clusters now.")
@click.argument("names", nargs=-1, metavar="[CLUSTER]...")
@click.option("--all", "everything", is_flag=True, help="The whole fleet: after an outage.")
@connected
def refresh(app: App, terminal: Terminal, *, names: tuple[str, ...], everything: bool) -> None:
    """Refresh clusters now, without waiting for the timer. The app does it within a minute.

    CLUSTER is a name, RESOURCE-GROUP/NAME or a resource id.

    \b
    Examples:
      pullkeeper refresh shop-west && pullkeeper get clusters shop-west --watch
      pullkeeper refresh --all
    """
    if bool(names) == everything:
        raise CommandFailed("name clusters, or give --all", ExitCode.USAGE)
    if everything:
        queued = app.call("POST", "refresh").document["queued"]
        terminal.say(
            "ok", f"the whole fleet: {queued} messages are queued", {"watch": "pullkeeper get clusters --watch"}
        )
    for text in names:
        name = find_cluster(app, text)
        app.call("POST", f"{name.path}/refresh")
        terminal.say("ok", f"{name.short} is queued", {"watch": f"pullkeeper get clusters {text} --watch"})
