"""Every `az` command that we tell people to type exists and takes its arguments: the Azure CLI itself is the judge."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.docs import az_commands, azure_cli
from tests.docs.az_commands import APP_ID, Typed

AKS: Final = ("--subscription", azure_cli.SUBSCRIPTION, "--resource-group", "shop", "--name", "shop-west")


def judged(commands: Sequence[Typed], folder: Path) -> list[str]:
    """What the CLI has against them."""
    told = azure_cli.complaints([command.arguments for command in commands], folder)
    return [f"{command}\n  {complaint}" for command, complaint in zip(commands, told, strict=True) if complaint]


def test_az_takes_what_the_pages_have_people_type(tmp_path: Path) -> None:
    """And bash finds every variable and file set that a page uses."""
    azure_cli.program("az")
    blocks = az_commands.typed(tmp_path)
    unheard = [block for block, commands in blocks.items() if len(commands) < az_commands.asked_for(block)]
    assert unheard == []
    commands = [command for found in blocks.values() for command in found]
    assert len(commands) > 50
    assert judged(commands, tmp_path) == []


def test_az_takes_what_remedies_have_people_type(tmp_path: Path) -> None:
    commands = [*az_commands.remedies(), *az_commands.in_the_code()]
    assert len(commands) > 12
    assert judged(commands, tmp_path) == []


def test_a_remedy_for_a_cluster_names_its_subscription() -> None:
    """Az takes its own default otherwise, and the cluster that is not found may be the right one."""
    named = [
        one for one in (*az_commands.remedies(), *az_commands.in_the_code()) if "--resource-group" in one.arguments
    ]
    assert named
    assert [str(one) for one in named if "--subscription" not in one.arguments] == []


def test_az_knows_what_is_named_in_prose(tmp_path: Path) -> None:
    """Where a command is only named, what it needs may be missing."""
    commands = az_commands.in_prose()
    assert len(commands) > 5
    wrong = [told for told in judged(commands, tmp_path) if not re.search(r"arguments are required: .+$", told)]
    assert wrong == []


def test_commands_are_cut_out_of_a_sentence() -> None:
    sentence = (
        "Look (az aks list), or az aks show --name a.b - if it is there. az aks start --query '[a,b]'; then wait."
    )
    found = [" ".join(arguments) for arguments in az_commands.cut_out(sentence)]
    assert found == ["aks list", "aks show --name a.b", "aks start --query [a,b]"]


def test_the_judge_lets_nothing_wrong_pass(tmp_path: Path) -> None:
    wrong = {
        "has no lizt": ("aks", "lizt"),
        "has no cluster": ("cluster", "list"),
        "unrecognized arguments: --nome": ("aks", "show", *AKS, "--nome", "x"),
        "unrecognized arguments: --resource": ("aks", "show", "--resource", "shop", "--name", "x", "-g", "shop"),
        "are required: --resource-group/-g": ("aks", "show", "--name", "x"),
        "unrecognized arguments: --ids": ("aks", "show", *AKS, "--ids", APP_ID),
        "invalid resource ID": ("functionapp", "restart", "--ids", "pullkeeper"),
        "invalid jmespath_type value": ("aks", "show", *AKS, "--query", "{power:powerState.code"),
        "has no yes": ("aks", "show", *AKS, "--output", "yes"),
        "are required": ("storage", "account", "show"),
        "not recognized": ("aks", "list", "--subscription", "another"),
    }
    told = azure_cli.complaints(list(wrong.values()), tmp_path)
    assert [(words, heard) for words, heard in zip(wrong, told, strict=True) if words not in (heard or "")] == []
