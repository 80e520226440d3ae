"""User-assigned managed identities (Microsoft.ManagedIdentity, API version 2024-11-30).

The limit on writes: learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations, a quarter of a
call a second for each identity. Its refusal and that of a name are in our words, not Azure's.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from aiohttp import web

from local.azure.call import Asked, Call, Limit, Place, located, not_found, refusal, seconds
from local.azure.entra import Entra, Identity

IDENTITIES: Final = "Microsoft.ManagedIdentity/userAssignedIdentities"
VERSION: Final = "2024-11-30"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-_]{2,127}")


@dataclass(slots=True)
class ManagedIdentity:
    """resource_id: the way Azure writes it. service_principal: what Entra knows."""

    resource_id: str
    location: str
    service_principal: Identity
    tags: dict[str, str] = field(default_factory=dict)

    def document(self, tenant: str) -> dict[str, Any]:
        return {
            "id": self.resource_id,
            "name": self.service_principal.name,
            "type": IDENTITIES,
            "location": self.location,
            "tags": dict(self.tags),
            "properties": {
                "tenantId": tenant,
                "principalId": self.service_principal.principal_id,
                "clientId": self.service_principal.client_id,
            },
        }


class ManagedIdentities:
    """Identities by resource id; Entra knows each of them for as long as it is there.

    rate: writes of one identity. page_size: of a list.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime]) -> None:
        self.rate = Limit(5, timedelta(seconds=4))
        self.page_size = 100
        self._entra = entra
        self._clock = clock
        self._held: dict[str, ManagedIdentity] = {}

    def add(
        self, resource_id: str, location: str = "westeurope", tags: Mapping[str, str] | None = None
    ) -> ManagedIdentity:
        """Without asking anybody."""
        place = Place.parse(resource_id)
        if place is None or place.kind.lower() != IDENTITIES.lower() or len(place.names) != 1:
            raise ValueError(f"no id of a managed identity: {resource_id}")
        name = place.names[0]
        written = f"{place.collection}/userAssignedIdentities/{name}"
        identity = ManagedIdentity(written, location, self._entra.add_identity(name, written), dict(tags or {}))
        self._held[written.lower()] = identity
        return identity

    def remove(self, resource_id: str) -> ManagedIdentity | None:
        """What was there."""
        gone = self._held.pop(resource_id.lower().rstrip("/"), None)
        if gone:
            self._entra.identities.pop(gone.service_principal.client_id, None)
        return gone

    def find(self, resource_id: str) -> ManagedIdentity | None:
        return self._held.get(resource_id.lower())

    def resource_ids(self) -> Iterable[str]:
        return list(self._held)

    def calls(self) -> Iterable[Call]:
        return [
            Call("GET", IDENTITIES, 1, VERSION, f"{IDENTITIES}/read", self._get),
            Call("PUT", IDENTITIES, 1, VERSION, f"{IDENTITIES}/write", self._put),
            Call("DELETE", IDENTITIES, 1, VERSION, f"{IDENTITIES}/delete", self._delete),
            Call("GET", IDENTITIES, 0, VERSION, f"{IDENTITIES}/read", self._list),
        ]

    async def _get(self, asked: Asked) -> web.Response:
        identity = self.find(asked.place.resource_id)
        if identity is None:
            raise not_found(asked.place)
        return web.json_response(identity.document(self._entra.tenant))

    async def _put(self, asked: Asked) -> web.Response:
        place = asked.place
        if not _NAME.fullmatch(place.names[0]):
            raise refusal(400, "BadRequest", f"The identity name '{place.names[0]}' is invalid.")
        throttle(self.rate, place.resource_id, self._clock())
        identity = self.find(place.resource_id)
        location = located(asked.body, place, identity.location if identity else None)
        tags = dict(asked.body.get("tags") or {})
        status = 200 if identity else 201
        if identity:
            identity.tags = tags
        else:
            identity = self.add(place.resource_id, location, tags)
        asked.changed()
        return web.json_response(identity.document(self._entra.tenant), status=status)

    async def _delete(self, asked: Asked) -> web.Response:
        throttle(self.rate, asked.place.resource_id, self._clock())
        if self.remove(asked.place.resource_id) is None:
            return web.Response(status=204)
        asked.changed()
        return web.Response()

    async def _list(self, asked: Asked) -> web.Response:
        within = f"{asked.place.collection}/".lower()
        found = [
            identity.document(self._entra.tenant)
            for key, identity in sorted(self._held.items())
            if key.startswith(within)
        ]
        return page(asked, found, self.page_size)


def throttle(rate: Limit, key: str, now: datetime) -> None:
    wait = rate.take(key.lower(), now)
    if wait:
        again = seconds(wait)
        tell = f"Too many requests for the resource '{key}'. Please retry after {again} seconds."
        raise refusal(429, "TooManyRequests", tell, {"Retry-After": again})


def page(asked: Asked, found: list[dict[str, Any]], size: int) -> web.Response:
    """A part of a list, and where the next one is."""
    top, start = asked.query.get("$top", str(size)), asked.query.get("$skiptoken", "0")
    if not (top.isdecimal() and int(top) and start.isdecimal()):
        raise refusal(400, "BadRequest", "The parameters $top and $skiptoken have to be what Azure gave out.")
    end = int(start) + min(int(top), size)
    answer: dict[str, Any] = {"value": found[int(start) : end]}
    if end < len(found):
        answer["nextLink"] = (
            f"{asked.host}{asked.path}?api-version={VERSION}"
            + (f"&$top={top}" if "$top" in asked.query else "")
            + f"&$skiptoken={end}"
        )
    return web.json_response(answer)
