"""`pullkeeper support-bundle`: what a maintainer needs to help, in one file, without credentials."""

import json
import platform
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from pullkeeper.cli import times
from pullkeeper.cli.client import App, Json
from pullkeeper.cli.command import connected
from pullkeeper.cli.failures import CommandFailed
from pullkeeper.cli.names import ClusterName
from pullkeeper.cli.terminal import Terminal
from pullkeeper.errors import redact
from pullkeeper.version import VERSION

_MOST_CLUSTERS, _MOST_OPERATIONS, _MOST_STEPS, _MOST_DIAGNOSES = 1000, 500, 20, 5
_LONGEST: Final = 100_000
_LIBRARIES: Final = ("click", "rich", "requests", "urllib3")


@click.command("support-bundle", short_help="Collect what a maintainer needs to help, without credentials.")
@click.option("-f", "--file", type=click.Path(dir_okay=False, path_type=Path), help="The zip file to write.")
@connected
def support_bundle(app: App, terminal: Terminal, *, file: Path | None) -> None:
    """Collect what a maintainer needs to help: the app's status, the fleet, operations, diagnoses and versions.

    Everything that looks like a credential is removed. The names of your clusters, hubs and identities are in it: look
    at it before you send it. It changes nothing, and needs no app role but Pullkeeper.Read.

    \b
    Examples:
      pullkeeper support-bundle
      pullkeeper support-bundle -f bundle.zip && unzip -l bundle.zip
    """
    path = file or Path(f"pullkeeper-support-{times.now():%Y%m%d-%H%M%S}.zip")
    with terminal.wait("collecting") as spinner:
        documents = collect(app, spinner.update)
    secrets = [value.removeprefix("Bearer ") for value in app.headers.values()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, document in documents.items():
            archive.writestr(f"{name}.json", json.dumps(remove_secrets(document, secrets), indent=2))
    terminal.say("ok", f"{path}: {', '.join(documents)}", {"check": "look at it before you send it"})


def collect(app: App, note: Callable[[str], None]) -> dict[str, Any]:
    """Return the documents by name. What cannot be read is in `failures`: a bundle is wanted when things are broken."""
    failures: dict[str, str] = {}

    def read(name: str, ask: Callable[[], Any]) -> Any:
        note(name)
        try:
            return ask()
        except CommandFailed as e:
            failures[name] = e.message
            return None

    status = read("status", lambda: app.get("status"))
    clusters = read("clusters", lambda: [*islice(app.pages("clusters", "clusters"), _MOST_CLUSTERS)]) or []
    operations = read("operations", lambda: [*islice(app.pages("operations", "operations"), _MOST_OPERATIONS)]) or []
    unsuccessful = [one["id"] for one in operations if one["status"] != "Succeeded"][:_MOST_STEPS]
    # By names as they are: in an encoded one a credential is hard to recognise.
    paths = {f"hub {hub['name']}": f"hubs/{quote(hub['name'], safe='')}" for hub in (status or {}).get("hubs", ())}
    paths |= {line["cluster"]: ClusterName.parse(line["cluster"]).path for line in _unwell(clusters)}
    return {
        "versions": _versions(),
        "health": read("health", lambda: app.send("GET", "health").document),
        "status": status,
        "clusters": clusters,
        "operations": operations,
        "steps": {one: read(one, partial(app.get, f"operations/{one}")) for one in unsuccessful},
        "diagnoses": {name: read(name, partial(app.get, f"{path}/diagnosis")) for name, path in paths.items()},
        "failures": failures,
    }


def _unwell(clusters: Iterable[Json]) -> list[Json]:
    """Return the first clusters with a secret that is not fresh."""
    return [line for line in clusters if {*line["states"]} - {"fresh", "removed"}][:_MOST_DIAGNOSES]


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"pullkeeper": VERSION, "python": platform.python_version(), "platform": platform.platform(), **libraries}


def remove_secrets(document: Any, secrets: Iterable[str]) -> Any:
    """Return a document without what looks like a credential, in names as in values. secrets: known ones."""
    if isinstance(document, dict):
        return {remove_secrets(key, secrets): remove_secrets(value, secrets) for key, value in document.items()}
    if isinstance(document, list):
        return [remove_secrets(value, secrets) for value in document]
    if not isinstance(document, str):
        return document
    for secret in secrets:
        document = document.replace(secret, "[redacted]")
    return redact(document, _LONGEST)
