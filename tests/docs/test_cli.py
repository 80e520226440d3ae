"""docs/cli.md has the help of every command, as the program prints it, and its exit codes."""

import re
from collections.abc import Iterator

import click
import pytest

from pullkeeper.cli.failures import ExitCode
from pullkeeper.cli.main import commands
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


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_documented_as_it_is_printed(name: str) -> None:
    context = click.Context(COMMANDS[name], info_name=f"pullkeeper {name}", terminal_width=WIDTH)
    shown = {block.text.splitlines()[0]: block.text for block in blocks("text") if block.page == PAGE}
    help_text = COMMANDS[name].get_help(context) + "\n"
    assert shown.get(help_text.splitlines()[0]) == help_text


def test_every_example_in_a_help_is_a_command_that_exists() -> None:
    for name, command in COMMANDS.items():
        examples = re.findall(r"pullkeeper ([a-z-]+(?: (?:clusters|hubs|operations))?)", command.help or "")
        assert name in examples, f"{name} has no example of its own"
        assert {*examples} <= {*COMMANDS}, name


def test_the_exit_codes_are_documented() -> None:
    assert [int(row[0].strip("`")) for row in rows(PAGE, "exit code")] == [*ExitCode]


def test_its_variables_are_those_of_the_scripts() -> None:
    variables = set(re.findall(r"PULLKEEPER_[A-Z]+", read(PAGE)))
    scripts = set(re.findall(r"PULLKEEPER_[A-Z]+", read(ROOT / "docs" / "examples" / "onboard.sh")))
    scripts |= set(re.findall(r"PULLKEEPER_[A-Z]+", read(ROOT / "docs" / "examples" / "api.sh")))
    assert scripts | {"PULLKEEPER_AUDIENCE"} == variables
