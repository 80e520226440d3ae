"""`pullkeeper doctor`: which hop is broken, why, and which command fixes it."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import click

from pullkeeper.cli.client import App, Json
from pullkeeper.cli.command import connected, output_option, print_document
from pullkeeper.cli.failures import CommandFailed, ExitCode
from pullkeeper.cli.names import find_cluster
from pullkeeper.cli.terminal import Mark, Terminal

_HOPS: Final[Mapping[str, Mark]] = {"ok": "ok", "warning": "warning", "failed": "failed", "skipped": "skipped"}


@click.command(short_help="Which hop is broken, why, and which command fixes it.")
@click.argument("cluster", required=False)
@click.option("--hub", help="Look at the hops of this hub, from the app's identity to the probe image.")
@click.option("--evidence", is_flag=True, help="Show what was seen at the hops that are well, too.")
@output_option("text", "json", "yaml")
@connected
def doctor(app: App, terminal: Terminal, *, cluster: str | None, hub: str | None, evidence: bool, output: str) -> int:
    """Look at every hop from the app's identity to the pods of a cluster, and change nothing.

    It takes 15 seconds at most. A hop that cannot be looked at because an earlier one is broken is skipped. The exit
    code is 1 if a hop has failed. CLUSTER is a name, RESOURCE-GROUP/NAME or a resource id.

    \b
    Examples:
      pullkeeper doctor shop-west
      pullkeeper doctor --hub deepintshield
      pullkeeper doctor shop-west -o json | jq '.hops[] | select(.state == "failed")'
    """
    if (cluster is None) == (hub is None):
        raise CommandFailed("name a cluster, or give --hub", ExitCode.USAGE)
    path = find_cluster(app, cluster).path if cluster else f"hubs/{quote(hub or '', safe='')}"
    with terminal.wait("looking at each hop"):
        diagnosis = app.get(f"{path}/diagnosis")
    if output == "text":
        print_diagnosis(terminal, diagnosis, is_verbose=evidence)
    else:
        print_document(terminal, diagnosis, output)
    return ExitCode.FAILED if diagnosis["state"] == "failed" else ExitCode.SUCCEEDED


def print_diagnosis(terminal: Terminal, diagnosis: Json, *, is_verbose: bool) -> None:
    terminal.say("action", f"{diagnosis['cluster'] or diagnosis['hub']}, in {diagnosis['seconds']:.1f} s")
    for hop in diagnosis["hops"]:
        subject = f" {hop['subject']}" if hop["subject"] else ""
        reason = (
            f" (because of {hop['because']})" if hop["because"] else f" ({hop['category']})" if hop["category"] else ""
        )
        is_shown = is_verbose or hop["state"] in {"warning", "failed"}
        evidence = hop["evidence"] if is_shown else {}
        hints = {**evidence, "remedy": hop["remedy"], "runbook": hop["runbook"]}
        terminal.say(_HOPS[hop["state"]], f"{hop['name']}{subject}: {hop['detail']}{reason}", hints)
