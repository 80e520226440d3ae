"""`pullkeeper completion`: what a shell needs to complete commands and options."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from pullkeeper.cli.terminal import Terminal

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command(short_help="Print a script that completes commands in your shell.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and their values.

    \b
    Examples:
      source <(pullkeeper completion bash)
      pullkeeper completion zsh > "${fpath[1]}/_pullkeeper"
      pullkeeper completion fish > ~/.config/fish/completions/pullkeeper.fish
    """
    found = get_completion_class(shell)
    terminal: Terminal = context.obj
    if found:
        terminal.write(found(context.find_root().command, {}, "pullkeeper", "_PULLKEEPER_COMPLETE").source())
