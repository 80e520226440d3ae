"""Who may call which route: every route with every role, against a table that is written by hand."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import azure.functions as func
import pytest
from azure.functions.decorators.http import HttpTrigger

from pullkeeper.services import current_settings
from tests.faults.triggers import REGISTERED

_READ, _ONBOARD = "Pullkeeper.Read", "Pullkeeper.Onboard"
_CLUSTER: Final = "clusters/{subscription}/{resourceGroup}/{name}"
# The role that opens the route. Without one it is anonymous: it needs no key either.
_TABLE: Final = {
    ("GET", "health"): None,
    ("GET", "dashboard"): None,
    ("GET", "status"): _READ,
    ("GET", "openapi.json"): _READ,
    ("GET", "handover"): _READ,
    ("GET", "clusters"): _READ,
    ("POST", "clusters"): _ONBOARD,
    ("GET", _CLUSTER): _READ,
    ("DELETE", _CLUSTER): _ONBOARD,
    ("GET", f"{_CLUSTER}/diagnosis"): _READ,
    ("POST", f"{_CLUSTER}/refresh"): _ONBOARD,
    ("POST", "refresh"): _ONBOARD,
    ("GET", "hubs/{hub}/diagnosis"): _READ,
    ("GET", "operations"): _READ,
    ("GET", "operations/{id}"): _READ,
}
_CALLERS: Final = {
    "no one": (),
    "another role": ("Pullkeeper.Other",),
    "a reader": (_READ,),
    "an onboarder": (_ONBOARD,),
    "both": (_READ, _ONBOARD),
}
_PLACE: Final = {"subscription": "00000000-0000-0000-0000-000000000000", "resourceGroup": "g", "name": "n", "hub": "h"}


def _routes() -> dict[tuple[str, str], tuple[Any, Any]]:
    """The trigger and the function of every route."""
    routes = [(function.get_trigger(), function.get_user_function()) for function in REGISTERED]
    return {
        (method.value, trigger.route or ""): (trigger, function)
        for trigger, function in routes
        if isinstance(trigger, HttpTrigger)
        for method in trigger.methods or ()
    }


@pytest.fixture(autouse=True)
def _signed_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The platform checks callers. The app has no settings, so a caller with the role is told of that, or served."""
    for name in ("AzureWebJobsStorage", "AzureWebJobsStorage__accountName", "REFRESH_SCHEDULE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WEBSITE_AUTH_ENABLED", "True")
    current_settings.cache_clear()
    yield
    current_settings.cache_clear()


def test_the_table_has_every_route() -> None:
    assert _routes().keys() == _TABLE.keys()


@pytest.mark.parametrize("route", _TABLE, ids=" ".join)
def test_every_route_but_the_anonymous_ones_needs_a_key(route: tuple[str, str]) -> None:
    trigger, _ = _routes()[route]
    assert trigger.auth_level is (func.AuthLevel.FUNCTION if _TABLE[route] else func.AuthLevel.ANONYMOUS)


@pytest.mark.parametrize("caller", _CALLERS)
@pytest.mark.parametrize("route", _TABLE, ids=" ".join)
async def test_a_route_opens_with_its_role_and_no_other(route: tuple[str, str], caller: str) -> None:
    """Whoever may not call it learns nothing of what it takes."""
    (method, path), roles = route, _CALLERS[caller]
    needed = _TABLE[route]
    opens = needed is None or needed in roles
    principal = {"auth_typ": "aad", "role_typ": "roles", "claims": [{"typ": "roles", "val": role} for role in roles]}
    request = func.HttpRequest(
        method,
        f"https://app.example/api/{path}{'' if opens else '?unknown=1'}",
        headers={"X-MS-CLIENT-PRINCIPAL": base64.b64encode(json.dumps(principal).encode()).decode()},
        route_params={**_PLACE, "id": "0" * 32},
        body=b"",
    )
    _, respond = _routes()[route]
    response = await respond(request)
    if opens:
        assert response.status_code in {200, 503}
    else:
        assert response.status_code == 403
        assert str(needed) in json.loads(response.get_body())["detail"]
