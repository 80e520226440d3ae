"""`pullkeeper`: the command line, an HTTP client of the app. Every failure is one sentence with what to do."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from pullkeeper.cli.bundle import support_bundle
from pullkeeper.cli.check import check
from pullkeeper.cli.command import SETTINGS
from pullkeeper.cli.completion import completion
from pullkeeper.cli.doctor import doctor
from pullkeeper.cli.failures import CommandFailed, ExitCode
from pullkeeper.cli.get import get
from pullkeeper.cli.handover import handover
from pullkeeper.cli.operations import offboard, onboard
from pullkeeper.cli.refresh import refresh
from pullkeeper.cli.terminal import Terminal
from pullkeeper.version import VERSION


@click.group(context_settings=SETTINGS)
@click.version_option(VERSION, message="%(prog)s %(version)s")
def commands() -> None:
    """Keep Google Artifact Registry pull secrets fresh on a fleet of AKS clusters: see the fleet, onboard and offboard
    clusters, and find out what is broken.

    \b
    It finds the app by these variables:
      PULLKEEPER_URL       the app's address: https://APP.azurewebsites.net
      PULLKEEPER_KEY       a function key
      PULLKEEPER_TOKEN     an Entra token, if the app makes its callers sign in
      PULLKEEPER_AUDIENCE  instead of a token: api://APP, to get one from az login

    \b
    Examples:
      pullkeeper check
      pullkeeper get clusters --watch
      pullkeeper doctor shop-west
    """


for _command in (check, get, doctor, refresh, onboard, offboard, handover, support_bundle, completion):
    commands.add_command(_command)


def main() -> None:
    """Run a command and end the process with its exit code. No traceback is ever printed."""
    terminal = Terminal.open(os.environ, sys.stdout, sys.stderr)
    sys.exit(run(terminal, sys.argv[1:]))


def run(terminal: Terminal, arguments: Sequence[str]) -> int:
    try:
        code = commands.main(arguments, prog_name="pullkeeper", standalone_mode=False, obj=terminal)
        return int(code or ExitCode.SUCCEEDED)
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except CommandFailed as e:
        terminal.fail(e)
        return e.code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except OSError as e:
        terminal.fail(CommandFailed(f"{e.filename or 'the system'}: {e.strerror or type(e).__name__}"))
    except Exception as e:  # noqa: BLE001 - whatever it is, a traceback helps no operator
        hints = {"check": "is the app of the same version as this command line? pullkeeper check"}
        terminal.fail(CommandFailed(f"the app's response has another form than expected ({_where(e)})", hints=hints))
    return ExitCode.FAILED


def _where(error: Exception) -> str:
    """Return the type and the place of an exception, for a report: its text and its traceback help no one else."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
