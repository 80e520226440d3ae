"""User-assigned managed identities (Microsoft.ManagedIdentity, API version 2024-11-30).

Limits: one write per identity in four seconds is that of federated credentials,
learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations. New identities: azure-docs,
includes/managed-identity-limits.md. github.com/microsoft/onefuzz/issues/249 quotes the words of the 429; its code, and
the words for subscriptions, tenants and a wrong name, are ours.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from aiohttp import web

from local.azure.entra import Entra, Identity
from local.azure.routing import (
    ArmRequest,
    RateLimit,
    ResourcePath,
    Route,
    WindowLimit,
    arm_error,
    not_found,
    parse_location,
)

IDENTITIES: Final = "Microsoft.ManagedIdentity/userAssignedIdentities"
VERSION: Final = "2024-11-30"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-_]{2,127}")


@dataclass(slots=True)
class ManagedIdentity:
    """resource_id: in Azure's spelling. service_principal: the identity in Entra."""

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
    """Identities by resource id, each with a service principal in Entra.

    rate: the limit on writes of one identity. creations, tenant_creations: the limits on new ones in a region, for a
    subscription and for the tenant.
    """

    def __init__(self, entra: Entra, clock: Callable[[], datetime]) -> None:
        self.rate = RateLimit(5, timedelta(seconds=4))
        self.creations = WindowLimit(80, timedelta(seconds=20) / 80)
        self.tenant_creations = WindowLimit(400, timedelta(seconds=20) / 400)
        self._entra = entra
        self._clock = clock
        self._by_id: dict[str, ManagedIdentity] = {}

    def add(
        self, resource_id: str, location: str = "westeurope", tags: Mapping[str, str] | None = None
    ) -> ManagedIdentity:
        path = ResourcePath.parse(resource_id)
        if path is None or path.kind.lower() != IDENTITIES.lower() or len(path.names) != 1:
            raise ValueError(f"not the id of a managed identity: {resource_id}")
        name = path.names[0]
        principal = self._entra.add_identity(name, path.resource_id)
        identity = ManagedIdentity(path.resource_id, location, principal, dict(tags or {}))
        self._by_id[path.resource_id.lower()] = identity
        return identity

    def remove(self, resource_id: str) -> ManagedIdentity | None:
        """Return the identity that was there."""
        removed = self._by_id.pop(resource_id.lower(), None)
        if removed:
            self._entra.identities.pop(removed.service_principal.client_id, None)
        return removed

    def find(self, resource_id: str) -> ManagedIdentity | None:
        return self._by_id.get(resource_id.lower())

    def resource_ids(self) -> Iterable[str]:
        return list(self._by_id)

    def routes(self) -> Iterable[Route]:
        return [
            Route("GET", IDENTITIES, 1, VERSION, f"{IDENTITIES}/read", self._get),
            Route("PUT", IDENTITIES, 1, VERSION, f"{IDENTITIES}/write", self._put),
            Route("DELETE", IDENTITIES, 1, VERSION, f"{IDENTITIES}/delete", self._delete),
        ]

    async def _get(self, request: ArmRequest) -> web.Response:
        identity = self.find(request.path.resource_id)
        if identity is None:
            raise not_found(request.path)
        return web.json_response(identity.document(self._entra.tenant))

    async def _put(self, request: ArmRequest) -> web.Response:
        path = request.path
        if not _NAME.fullmatch(path.names[0]):
            raise arm_error(400, "BadRequest", f"The identity name '{path.names[0]}' is invalid.")
        existing = self.find(path.resource_id)
        location = parse_location(request, existing.location if existing else None)
        throttle(self.rate, path.resource_id, self._clock())
        if existing is None:
            throttle(self.creations, f"/subscriptions/{path.subscription}/{location}", self._clock())
            throttle(self.tenant_creations, f"/tenants/{self._entra.tenant}/{location}", self._clock())
        tags = dict(request.body.get("tags") or {})
        identity = existing or self.add(path.resource_id, location)
        identity.tags = tags
        request.record_write()
        return web.json_response(identity.document(self._entra.tenant), status=200 if existing else 201)

    async def _delete(self, request: ArmRequest) -> web.Response:
        throttle(self.rate, request.path.resource_id, self._clock())
        if self.remove(request.path.resource_id) is None:
            return web.Response(status=204)
        request.record_write()
        return web.Response()


def throttle(rate: RateLimit, resource: str, now: datetime) -> None:
    retry_after = rate.take(resource, now)
    if retry_after:
        message = (
            f"Request is temporarily throttled because resource {resource} has issued too many requests. "
            f"Retry after {retry_after} seconds."
        )
        raise arm_error(429, "TooManyRequests", message, {"Retry-After": retry_after})
