"""The tables of the README say what the code says: settings, hubs and routes."""

import json
import re
import subprocess
import sys
from functools import cache

from pullkeeper.model import Hub
from pullkeeper.settings import Settings
from tests.docs.pages import ROOT, rows

README = ROOT / "README.md"
READ_BY_THE_PLATFORM = {"REFRESH_SCHEDULE"}


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


_INDEX = """
import json, pathlib
from local.host.registrations import HttpTrigger, load
found = load(pathlib.Path.cwd(), {"REFRESH_SCHEDULE": "0 */5 * * * *"})
routes = [one.trigger for one in found if isinstance(one.trigger, HttpTrigger)]
print(json.dumps([[method, one.route, one.auth_level] for one in routes for method in one.methods]))
"""


@cache
def _registered() -> dict[str, str]:
    """`METHOD /api/...` of each route, and the key it asks for. In a process of its own: an app object can be asked
    for its functions only once.
    """
    done = subprocess.run([sys.executable, "-c", _INDEX], capture_output=True, check=True, cwd=ROOT, timeout=60)
    prefix = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["http"]["routePrefix"]
    return {f"{method} /{prefix}/{route}": level for method, route, level in json.loads(done.stdout)}


def test_every_setting_has_a_row_and_every_row_is_a_setting() -> None:
    documented = [name for row in rows(README, "setting") for name in _names(row[0])]
    known = {str(field.alias) for field in Settings.model_fields.values()} | READ_BY_THE_PLATFORM
    assert sorted(known) == sorted(documented)


def test_every_field_of_a_hub_has_a_row_with_its_default() -> None:
    fields = {
        str(field.alias): [] if field.is_required() else [str(field.default)] for field in Hub.model_fields.values()
    }
    documented = {row[0].strip("`"): _names(row[1]) for row in rows(README, "field of a hub")}
    assert fields == documented


def test_every_route_has_a_row_with_its_key_and_every_row_is_a_route() -> None:
    documented = {_names(row[0])[0]: row[1] for row in rows(README, "route")}
    keys = {"anonymous": "none", "function": "function", "admin": "admin"}
    assert {route: keys[level] for route, level in _registered().items()} == documented


def test_every_route_that_changes_something_asks_for_a_key() -> None:
    open_to_all = {route for route, level in _registered().items() if level == "anonymous"}
    assert {route for route in open_to_all if not route.startswith("GET ")} == set()
