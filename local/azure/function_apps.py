"""Function apps as Azure Resource Manager shows them (Microsoft.Web, API version 2023-12-01): an address, and the keys.

Real ones list a hundred properties more; who looks for another one here misses it, and is not told a wrong one.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from local.azure.call import Asked, Call, not_found

SITES: Final = "Microsoft.Web/sites"
VERSION: Final = "2023-12-01"
_KEYS: Final = f"{SITES}/host/listKeys"


@dataclass(frozen=True, slots=True)
class FunctionApp:
    """host_name: the default one, which is reached by https. key: the function key named default."""

    resource_id: str
    host_name: str
    key: str
    master_key: str = field(default_factory=secrets.token_urlsafe)

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
        self._held: dict[str, FunctionApp] = {}

    def add(self, app: FunctionApp) -> FunctionApp:
        self._held[app.resource_id.lower()] = app
        return app

    def resource_ids(self) -> Iterable[str]:
        return list(self._held)

    def calls(self) -> Iterable[Call]:
        return [
            Call("GET", SITES, 1, VERSION, f"{SITES}/read", self._get),
            Call("POST", _KEYS, 2, VERSION, f"{_KEYS}/action", self._list_keys),
        ]

    async def _get(self, asked: Asked) -> web.Response:
        return web.json_response(self._found(asked).document())

    async def _list_keys(self, asked: Asked) -> web.Response:
        app = self._found(asked)
        if asked.place.names[1] != "default":
            raise not_found(asked.place)
        return web.json_response({"masterKey": app.master_key, "functionKeys": {"default": app.key}, "systemKeys": {}})

    def _found(self, asked: Asked) -> FunctionApp:
        place = asked.place
        path = f"/subscriptions/{place.subscription}/resourceGroups/{place.group}/providers/{SITES}/{place.names[0]}"
        app = self._held.get(path.lower())
        if app is None:
            raise not_found(place)
        return app
