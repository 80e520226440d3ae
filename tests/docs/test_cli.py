"""docs/cli.md has the help of every command, as the program prints it, and its exit codes."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from pullkeeper.cli.failures import ExitCode
from pullkeeper.cli.get import STATES, STATUSES
from pullkeeper.cli.main import commands
from pullkeeper.diagnosis.tools import LIMIT
from pullkeeper.fleet.status import State
from pullkeeper.onboarding.documents import OperationStatus
from tests.docs.pages import ROOT, blocks, read, rows

PAGE = ROOT / "docs" / "cli.md"
WIDTH = 100


def find_commands(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from find_commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


COMMANDS = dict(find_commands(commands))


def print_help(name: str) -> str:
    arguments = [*name.split(), "--help"]
    return CliRunner().invoke(commands, arguments, prog_name="pullkeeper", terminal_width=WIDTH).output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_documented_as_it_is_printed(name: str) -> None:
    documented = {block.text.splitlines()[0]: block.text for block in blocks("text") if block.page == PAGE}
    printed = print_help(name)
    assert documented.get(printed.splitlines()[0]) == printed


def test_every_example_in_a_help_is_a_command_that_exists() -> None:
    for name, command in COMMANDS.items():
        examples = re.findall(r"pullkeeper ([a-z-]+(?: (?:clusters|hubs|operations))?)", command.help or "")
        assert name in examples, f"{name} has no example of its own"
        assert {*examples} <= {*COMMANDS}, name


def test_a_filter_takes_every_state_and_status() -> None:
    assert (get_args(State), get_args(OperationStatus)) == (STATES, STATUSES)


def test_a_diagnosis_takes_no_longer_than_its_help_says() -> None:
    [seconds] = re.findall(r"takes (\d+) seconds at most", COMMANDS["doctor"].help or "")
    assert timedelta(seconds=int(seconds)) > LIMIT


def test_the_exit_codes_are_documented() -> None:
    assert [int(row[0].strip("`")) for row in rows(PAGE, "exit code")] == [*ExitCode]


def test_its_variables_are_those_of_the_scripts() -> None:
    variables = set(re.findall(r"PULLKEEPER_[A-Z]+", read(PAGE)))
    scripts = set(re.findall(r"PULLKEEPER_[A-Z]+", read(ROOT / "docs" / "examples" / "onboard.sh")))
    scripts |= set(re.findall(r"PULLKEEPER_[A-Z]+", read(ROOT / "docs" / "examples" / "api.sh")))
    assert scripts | {"PULLKEEPER_AUDIENCE"} == variables
