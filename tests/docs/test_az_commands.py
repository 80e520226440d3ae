"""Every `az` command in documentation and remedies exists and accepts its arguments: the Azure CLI itself checks."""

import re
from typing import Final

import pytest

from tests.docs import az_commands, azure_cli
from tests.docs.az_commands import Command

AKS: Final = ("--subscription", azure_cli.SUBSCRIPTION, "--resource-group", "shop", "--name", "shop-west")


WRONG: Final = {
    "has no lizt": ("aks", "lizt"),
    "unrecognized arguments: --nome": ("aks", "show", *AKS, "--nome", "x"),
    "unrecognized arguments: --resource": ("aks", "show", "--resource", "shop", "--name", "x", "-g", "shop"),
    "invalid resource ID": ("functionapp", "restart", "--ids", "pullkeeper"),
    "invalid jmespath_type value": ("aks", "show", *AKS, "--query", "{power:powerState.code"),
    "not recognized": ("aks", "list", "--subscription", "another"),
}
"""What the CLI's message has in it, and the command."""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """For each place of commands, those that the CLI refuses, with its reason: the process that checks is started once,
    because it takes seconds to load the CLI.
    """
    azure_cli.program("az")
    folder = tmp_path_factory.mktemp("az")
    blocks = az_commands.run_blocks(folder)
    incomplete = [block for block, commands in blocks.items() if len(commands) < az_commands.count_commands(block)]
    assert incomplete == []
    places = {
        "pages": [command for found in blocks.values() for command in found],
        "remedies": [*az_commands.find_in_remedies(), *az_commands.find_in_code()],
        "prose": az_commands.find_in_prose(),
        "mistakes": [Command(text, command) for text, command in WRONG.items()],
    }
    assert len(places["pages"]) > 50
    assert len(places["remedies"]) > 12
    assert len(places["prose"]) > 5
    found = iter(azure_cli.check([one.arguments for commands in places.values() for one in commands], folder))
    return {
        place: [f"{one}\n  {fault}" for one in commands if (fault := next(found))] for place, commands in places.items()
    }


def test_az_accepts_the_commands_of_the_pages(faults: dict[str, list[str]]) -> None:
    """And bash finds every variable and file that a page uses."""
    assert faults["pages"] == []


def test_az_accepts_the_commands_of_remedies(faults: dict[str, list[str]]) -> None:
    assert faults["remedies"] == []


def test_a_remedy_for_a_cluster_names_its_subscription() -> None:
    """Otherwise az uses its default subscription, which may have another cluster of that name."""
    commands = [*az_commands.find_in_remedies(), *az_commands.find_in_code()]
    grouped = [command for command in commands if "--resource-group" in command.arguments]
    assert grouped
    assert [str(command) for command in grouped if "--subscription" not in command.arguments] == []


def test_az_has_the_commands_that_prose_mentions(faults: dict[str, list[str]]) -> None:
    """Required arguments may be missing there."""
    assert [fault for fault in faults["prose"] if not re.search(r"are required(: .+)?$", fault)] == []


def test_commands_are_extracted_from_a_sentence() -> None:
    sentence = (
        "Look (az aks list), or az aks show --name a.b - if it is there. az aks start --query '[a,b]'; then wait."
    )
    found = [" ".join(arguments) for arguments in az_commands.extract_commands(sentence)]
    assert found == ["aks list", "aks show --name a.b", "aks start --query [a,b]"]


def test_the_check_finds_each_kind_of_mistake(faults: dict[str, list[str]]) -> None:
    found = dict(fault.split(": az ", 1) for fault in faults["mistakes"])
    assert [text for text in WRONG if text not in found.get(text, "").partition("\n")[2]] == []
