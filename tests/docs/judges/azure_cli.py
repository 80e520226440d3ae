"""Check command lines with the Azure CLI itself: reads a JSON list of argument lists, and writes a list of faults, null
for none.

Runs in the CLI's own environment. A command passes everything that the CLI does before it calls Azure: its table of
commands, its parser, its validators. One process checks all, because each would take half a second to start.
"""

import gc
import json
import logging
import sys
from functools import cache
from typing import Any

# Not installed where types are checked, and without types where it is.
from azure.cli.core import get_default_cli  # type: ignore[import-untyped]
from azure.cli.core.commands import AzCliCommandInvoker  # type: ignore[import-untyped]
from azure.cli.core.parser import AzCliCommandParser  # type: ignore[import-untyped]


class _Refused(Exception):
    """The parser refuses the command."""


class _Accepted(Exception):
    """Azure would be called next."""


class _Parser(AzCliCommandParser):  # type: ignore[misc] # see the imports
    """Refuses in one line, and without a look-up for recommendations on the network. It refuses abbreviated flags: they
    may become ambiguous in the next version.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})

    def error(self, message: str) -> None:
        raise _Refused(message)

    def validation_error(self, message: str) -> None:
        """Validators of `az storage` look for the account in Azure; the parser has accepted all arguments by then."""
        raise _Accepted if "Max retries exceeded" in message else _Refused(message)

    def _check_value(self, action: Any, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise _Refused(f"{self.prog} has no {value}")


class _Invoker(AzCliCommandInvoker):  # type: ignore[misc] # see the imports
    def resolve_confirmation(self, *_: Any) -> None:
        """As if the user had confirmed."""

    def _run_jobs_serially(self, *_: Any) -> None:
        raise _Accepted

    _run_jobs_concurrently = _run_jobs_serially


class _Warnings(logging.Handler):
    """Collects the CLI's warnings: deprecated commands, previews, unknown subscriptions."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@cache
def find_fault(argv: tuple[str, ...]) -> str | None:
    cli = get_default_cli()
    cli.invocation = _Invoker(
        cli_ctx=cli,
        parser_cls=_Parser,
        commands_loader_cls=cli.commands_loader_cls,
        help_cls=cli.help_cls,
    )
    warnings, logger = _Warnings(), logging.getLogger("cli")
    logger.addHandler(warnings)
    try:
        cli.invocation.execute(list(argv))
    except _Accepted:
        return "; ".join(warnings.messages) or None
    except Exception as e:  # noqa: BLE001 - a validator may raise anything
        return str(e) or type(e).__name__
    finally:
        logger.removeHandler(warnings)
    return "the CLI did not get as far as a call to Azure"


if __name__ == "__main__":
    logging.lastResort = None
    gc.set_threshold(200_000, 20, 100)  # each command loads tables of thousands of objects, and keeps them
    json.dump([find_fault(tuple(argv)) for argv in json.load(sys.stdin)], sys.stdout)
