"""docs/reference.md documents every setting, every field of a hub and every route, as the code has them."""

import json
import re
import subprocess
import sys
from functools import cache

from pullkeeper.publisher.hub import Hub
from pullkeeper.settings import Settings
from tests.docs.pages import ROOT, rows

REFERENCE = ROOT / "docs" / "reference.md"
KEYS = {"anonymous": "none", "function": "function"}

_LIST_ROUTES = """
import json, pathlib
from local.host.registrations import HttpTrigger, load
found = load(pathlib.Path.cwd(), {"REFRESH_SCHEDULE": "0 */5 * * * *"})
routes = [one.trigger for one in found if isinstance(one.trigger, HttpTrigger)]
print(json.dumps([[method, one.route, one.auth_level] for one in routes for method in one.methods]))
"""


@cache
def registered_routes() -> dict[str, str]:
    """Return `METHOD /api/...` of each route with the key it needs. A process of its own registers the app, because an
    app object returns its functions only once.
    """
    done = subprocess.run([sys.executable, "-c", _LIST_ROUTES], capture_output=True, check=True, cwd=ROOT, timeout=60)
    prefix = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["http"]["routePrefix"]
    return {f"{method} /{prefix}/{route}": KEYS[level] for method, route, level in json.loads(done.stdout)}


def code_spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_has_a_row_and_every_row_is_a_setting() -> None:
    documented = [name for row in rows(REFERENCE, "setting") for name in code_spans(row[0])]
    known = {str(field.alias) for field in Settings.model_fields.values()}
    assert sorted(known) == sorted(documented)


def test_every_field_of_a_hub_has_a_row_with_its_default() -> None:
    fields = {
        str(field.alias): [] if field.is_required() or field.default is None else [str(field.default)]
        for field in Hub.model_fields.values()
    }
    documented = {row[0].strip("`"): code_spans(row[1]) for row in rows(REFERENCE, "field of a hub")}
    assert fields == documented


def test_every_route_has_a_row_with_its_key_and_every_row_is_a_route() -> None:
    documented = {code_spans(row[0])[0]: row[1] for row in rows(REFERENCE, "route")}
    assert registered_routes() == documented


def test_only_get_routes_are_open_without_a_key() -> None:
    open_routes = [route for route, key in registered_routes().items() if key == "none"]
    assert [route for route in open_routes if not route.startswith("GET ")] == []
