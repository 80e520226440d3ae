"""What a client asks Azure Resource Manager before it asks for a resource: who has it, and in which version.

`az login` lists subscriptions. `az resource show` without a version looks one up at the provider, in the subscription,
which a role on a resource alone does not allow: github.com/hashicorp/terraform-provider-azurerm/issues/7089.
"""

from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from local.azure.call import PROVIDERS, Asked, Call, refusal

SUBSCRIPTIONS_VERSION: Final = "2022-12-01"
_VERSION: Final = "2024-11-01"


class Directory:
    """served: the calls of all other providers."""

    def __init__(self, served: Iterable[Call]) -> None:
        self._served = list(served)

    def calls(self) -> Iterable[Call]:
        return [Call("GET", PROVIDERS, 2, _VERSION, f"{PROVIDERS}/read", self._provider, in_group=False)]

    def resource_ids(self) -> Iterable[str]:
        return []

    async def _provider(self, asked: Asked) -> web.Response:
        """In Azure every type has many versions, and a type of its own for each action. Here it is what is served."""
        namespace = asked.place.names[1]
        kinds = [call.kind.partition("/") for call in self._served]
        versions = {
            kind: call.version
            for call, (within, _, kind) in zip(self._served, kinds, strict=True)
            if within.lower() == namespace.lower()
        }
        if not versions:
            raise refusal(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
        types = [{"resourceType": kind, "apiVersions": [version]} for kind, version in versions.items()]
        where = f"/subscriptions/{asked.place.subscription}/providers/{namespace}"
        answer = {"id": where, "namespace": namespace, "registrationState": "Registered", "resourceTypes": types}
        return web.json_response(answer)


def subscriptions(tenant: str, ids: Iterable[str]) -> dict[str, Any]:
    """The list of them, as Azure writes it."""
    value = [
        {
            "id": f"/subscriptions/{one}",
            "subscriptionId": one,
            "tenantId": tenant,
            "displayName": "local",
            "state": "Enabled",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
        }
        for one in ids
    ]
    return {"value": value, "count": {"type": "Total", "value": len(value)}}
