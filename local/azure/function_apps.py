"""Function apps in Azure Resource Manager (Microsoft.Web, API version 2023-12-01): address, keys, functions.

A real one has a hundred properties more. A client that needs one of them finds it missing, never wrong.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from local.azure.routing import ArmRequest, Route, not_found

SITES: Final = "Microsoft.Web/sites"
VERSION: Final = "2023-12-01"
_FUNCTIONS: Final = f"{SITES}/functions"
_KEYS: Final = f"{SITES}/host/listKeys"


@dataclass(frozen=True, slots=True)
class FunctionApp:
    """host_name: the default one, served with https. key: the function key named default. functions: the names of those
    that the host has registered.
    """

    resource_id: str
    host_name: str
    key: str
    functions: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "id": self.resource_id,
            "name": self.resource_id.rpartition("/")[2],
            "type": SITES,
            "kind": "functionapp,linux",
            "location": "West Europe",
            "properties": {"state": "Running", "defaultHostName": self.host_name, "httpsOnly": True},
        }


class FunctionApps:
    """Apps by resource id."""

    def __init__(self) -> None:
        self._by_id: dict[str, FunctionApp] = {}

    def add(self, app: FunctionApp) -> None:
        self._by_id[app.resource_id.lower()] = app

    def resource_ids(self) -> Iterable[str]:
        return list(self._by_id)

    def routes(self) -> Iterable[Route]:
        return [
            Route("GET", SITES, 1, VERSION, f"{SITES}/read", self._get),
            Route("GET", _FUNCTIONS, 1, VERSION, f"{_FUNCTIONS}/read", self._list_functions),
            Route("POST", _KEYS, 2, VERSION, f"{_KEYS}/action", self._list_keys),
        ]

    async def _get(self, request: ArmRequest) -> web.Response:
        return web.json_response(self._find(request).document())

    async def _list_functions(self, request: ArmRequest) -> web.Response:
        app = self._find(request)
        name = app.resource_id.rpartition("/")[2]
        found = [
            {
                "id": f"{app.resource_id}/functions/{one}",
                "name": f"{name}/{one}",
                "type": _FUNCTIONS,
                "location": "West Europe",
                "properties": {"name": one, "language": "python", "isDisabled": False},
            }
            for one in app.functions
        ]
        return web.json_response({"value": found, "nextLink": None})

    async def _list_keys(self, request: ArmRequest) -> web.Response:
        app = self._find(request)
        if request.path.names[1] != "default":
            raise not_found(request.path)
        keys = {"masterKey": secrets.token_urlsafe(), "functionKeys": {"default": app.key}, "systemKeys": {}}
        return web.json_response(keys)

    def _find(self, request: ArmRequest) -> FunctionApp:
        app = self._by_id.get(request.path.resource_id.lower())
        if app is None:
            raise not_found(request.path)
        return app
