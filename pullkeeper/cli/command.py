"""What the commands share: how they are declared, how they find the app, and how they print documents."""

import functools
import json
from collections.abc import Callable
from typing import Any, Final

import click

from pullkeeper.cli.client import App, read_credentials
from pullkeeper.cli.failures import CommandFailed, ExitCode
from pullkeeper.cli.terminal import Terminal

Command = Callable[..., int | None]
SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


_url = click.option("--url", envvar="PULLKEEPER_URL", show_envvar=True, help="Address of the app.")
_audience = click.option(
    "--audience",
    envvar="PULLKEEPER_AUDIENCE",
    show_envvar=True,
    help="Sign in with az, for this app registration: api://APP.",
)


def connected(command: Command) -> Command:
    """Decorate a command that calls the app: it gets the app and the terminal, and options to find the app."""

    @_url
    @_audience
    @click.pass_context
    @functools.wraps(command)
    def run(context: click.Context, /, url: str | None, audience: str | None, **arguments: Any) -> int | None:
        return command(connect(context.obj, url, audience), context.obj, **arguments)

    return run


def connect(terminal: Terminal, url: str | None, audience: str | None) -> App:
    if not url:
        raise CommandFailed(
            "no address: set PULLKEEPER_URL, or give --url",
            ExitCode.USAGE,
            {"example": "export PULLKEEPER_URL=https://APP.azurewebsites.net"},
        )
    return App(url, read_credentials(audience), terminal.wait)


def print_document(terminal: Terminal, document: Any, output: str) -> None:
    """Print a document of the app as JSON or YAML, in ASCII."""
    if output == "json":
        terminal.write(json.dumps(document, indent=2))
        return
    import yaml  # noqa: PLC0415 - not needed otherwise

    terminal.write(yaml.safe_dump(document, sort_keys=False).rstrip("\n"))


def output_option(*formats: str) -> Callable[[Command], Command]:
    choice = click.Choice(formats)
    return click.option("-o", "--output", type=choice, default=formats[0], show_default=True, help="Output format.")
