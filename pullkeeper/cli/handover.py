"""`pullkeeper handover`: what the publisher must trust, and the commands that set it up."""

from typing import Final

import click

from pullkeeper.cli.client import App, Json
from pullkeeper.cli.command import connected, output_option, print_document
from pullkeeper.cli.terminal import Terminal, clean

_FIELDS: Final = ("tenantId", "clientId", "objectId", "issuer", "subject", "audience")


@click.command(short_help="What the publisher must trust, with the commands to run.")
@click.option("--hub", help="For this hub.")
@output_option("text", "json", "yaml")
@connected
def handover(app: App, terminal: Terminal, *, hub: str | None, output: str) -> None:
    """Show what the publisher must trust, once for the whole fleet, and the commands that they run.

    \b
    Examples:
      pullkeeper handover
      pullkeeper handover --hub deepintshield > for-the-publisher.txt
      pullkeeper handover -o json | jq -r '.commands[]'
    """
    found = app.get("handover", hub=hub)
    if output == "text":
        print_handover(terminal, found)
    else:
        print_document(terminal, found, output)


def print_handover(terminal: Terminal, handover: Json) -> None:
    for name in _FIELDS:
        terminal.write(f"{name + ':':<12}{clean(handover[name])}")
    for identity in handover["identities"]:
        terminal.write(f"{'identity:':<12}{clean(identity)}")
    terminal.write("")
    for command in handover["commands"]:
        terminal.write(clean(command))
