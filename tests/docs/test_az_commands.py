"""Every `az` command in documentation and remedies exists and accepts its arguments: the Azure CLI itself checks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.docs import az_commands, azure_cli
from tests.docs.az_commands import Command

AKS: Final = ("--subscription", azure_cli.SUBSCRIPTION, "--resource-group", "shop", "--name", "shop-west")


def find_faults(commands: Sequence[Command], folder: Path) -> list[str]:
    """Return each command that the CLI refuses, with its reason."""
    faults = azure_cli.check([command.arguments for command in commands], folder)
    return [f"{command}\n  {fault}" for command, fault in zip(commands, faults, strict=True) if fault]


def test_az_accepts_the_commands_of_the_pages(tmp_path: Path) -> None:
    """And bash finds every variable and file that a page uses."""
    azure_cli.program("az")
    blocks = az_commands.run_blocks(tmp_path)
    incomplete = [block for block, commands in blocks.items() if len(commands) < az_commands.count_commands(block)]
    assert incomplete == []
    commands = [command for found in blocks.values() for command in found]
    assert len(commands) > 50
    assert find_faults(commands, tmp_path) == []


def test_az_accepts_the_commands_of_remedies(tmp_path: Path) -> None:
    commands = [*az_commands.find_in_remedies(), *az_commands.find_in_code()]
    assert len(commands) > 12
    assert find_faults(commands, tmp_path) == []


def test_a_remedy_for_a_cluster_names_its_subscription() -> None:
    """Otherwise az uses its default subscription, which may have another cluster of that name."""
    commands = [*az_commands.find_in_remedies(), *az_commands.find_in_code()]
    grouped = [command for command in commands if "--resource-group" in command.arguments]
    assert grouped
    assert [str(command) for command in grouped if "--subscription" not in command.arguments] == []


def test_az_has_the_commands_that_prose_mentions(tmp_path: Path) -> None:
    """Required arguments may be missing there."""
    commands = az_commands.find_in_prose()
    assert len(commands) > 5
    faults = find_faults(commands, tmp_path)
    assert [fault for fault in faults if not re.search(r"are required(: .+)?$", fault)] == []


def test_commands_are_extracted_from_a_sentence() -> None:
    sentence = (
        "Look (az aks list), or az aks show --name a.b - if it is there. az aks start --query '[a,b]'; then wait."
    )
    found = [" ".join(arguments) for arguments in az_commands.extract_commands(sentence)]
    assert found == ["aks list", "aks show --name a.b", "aks start --query [a,b]"]


def test_the_check_finds_each_kind_of_mistake(tmp_path: Path) -> None:
    wrong = {
        "has no lizt": ("aks", "lizt"),
        "has no cluster": ("cluster", "list"),
        "unrecognized arguments: --nome": ("aks", "show", *AKS, "--nome", "x"),
        "unrecognized arguments: --resource": ("aks", "show", "--resource", "shop", "--name", "x", "-g", "shop"),
        "invalid resource ID": ("functionapp", "restart", "--ids", "pullkeeper"),
        "invalid jmespath_type value": ("aks", "show", *AKS, "--query", "{power:powerState.code"),
        "not recognized": ("aks", "list", "--subscription", "another"),
    }
    faults = azure_cli.check(list(wrong.values()), tmp_path)
    assert [(text, fault) for text, fault in zip(wrong, faults, strict=True) if text not in (fault or "")] == []
