"""The federated credentials of managed identities: whose tokens count as an identity's (API version 2024-11-30).

Rules and refusals: learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations. It gives messages
without codes, so the code BadRequest is ours; so are the words for the twenty-first credential, for wildcards and for
length.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from local.azure.assertions import FederatedCredential
from local.azure.call import Asked, Call, Limit, not_found, refusal
from local.azure.managed_identities import IDENTITIES, VERSION, ManagedIdentities, ManagedIdentity, page, throttle

FEDERATED: Final = f"{IDENTITIES}/federatedIdentityCredentials"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-_]{2,119}")
_LONGEST: Final = 600


@dataclass(frozen=True, slots=True)
class Credential:
    """known_from: when Entra will have heard of it."""

    name: str
    trust: FederatedCredential
    known_from: datetime

    def document(self, identity: ManagedIdentity) -> dict[str, Any]:
        return {
            "id": f"{identity.resource_id}/federatedIdentityCredentials/{self.name}",
            "name": self.name,
            "type": FEDERATED,
            "properties": {
                "issuer": self.trust.issuer,
                "subject": self.trust.subject,
                "audiences": [self.trust.audience],
            },
        }


class FederatedCredentials:
    """Credentials by identity and name.

    most: of one identity. page_size: of a list. rate: writes of one identity. writing: how long a write takes, on
    everybody's watch, while others of the same identity are refused. conflicts: so many of the next writes are refused
    as if somebody else were writing. propagation: until Entra knows of a write; minutes, for the real one.
    """

    def __init__(self, identities: ManagedIdentities, clock: Callable[[], datetime]) -> None:
        self.most = 20
        self.page_size = 10
        self.rate = Limit(5, timedelta(seconds=4))
        self.writing = timedelta(milliseconds=20)
        self.conflicts = 0
        self.propagation = timedelta()
        self._identities = identities
        self._clock = clock
        self._held: dict[str, dict[str, Credential]] = {}
        self._busy: set[str] = set()

    def add(self, identity: ManagedIdentity, name: str, trust: FederatedCredential) -> Credential:
        """Without asking anybody; Entra knows of it after `propagation`."""
        credential = Credential(name, trust, self._clock() + self.propagation)
        self._held.setdefault(identity.service_principal.client_id, {})[name.lower()] = credential
        return credential

    def find_all(self, identity: ManagedIdentity) -> list[Credential]:
        """In the order of their names."""
        return [
            credential for _, credential in sorted(self._held.get(identity.service_principal.client_id, {}).items())
        ]

    def trusted(self, client_id: str) -> list[FederatedCredential]:
        """What Entra knows by now. Nothing where the identity is gone."""
        present = (self._identities.find(resource_id) for resource_id in self._identities.resource_ids())
        identity = next((one for one in present if one and one.service_principal.client_id == client_id), None)
        now = self._clock()
        return [one.trust for one in self.find_all(identity) if one.known_from <= now] if identity else []

    def resource_ids(self) -> Iterable[str]:
        return []

    def calls(self) -> Iterable[Call]:
        return [
            Call("GET", FEDERATED, 2, VERSION, f"{FEDERATED}/read", self._get),
            Call("PUT", FEDERATED, 2, VERSION, f"{FEDERATED}/write", self._put),
            Call("DELETE", FEDERATED, 2, VERSION, f"{FEDERATED}/delete", self._delete),
            Call("GET", FEDERATED, 1, VERSION, f"{FEDERATED}/read", self._list),
        ]

    async def _get(self, asked: Asked) -> web.Response:
        identity = self._parent(asked)
        credential = self._find(identity, asked.place.names[1])
        if credential is None:
            raise not_found(asked.place)
        return web.json_response(credential.document(identity))

    async def _list(self, asked: Asked) -> web.Response:
        identity = self._parent(asked)
        return page(asked, [credential.document(identity) for credential in self.find_all(identity)], self.page_size)

    async def _put(self, asked: Asked) -> web.Response:
        identity = self._parent(asked)
        name = asked.place.names[1]
        if not _NAME.fullmatch(name):
            raise _bad(f"Federated Identity Credential name '{name}' is invalid.")
        trust = _trust(asked.body)
        self._admit(identity)
        existing = self._find(identity, name)
        others = [credential for credential in self.find_all(identity) if credential is not existing]
        if any((other.trust.issuer, other.trust.subject) == (trust.issuer, trust.subject) for other in others):
            raise _bad("Issuer and subject combination already exists for this Managed Identity.")
        if len(others) >= self.most:
            raise _bad(
                f"Too many Federated Identity Credentials for the managed identity '{identity.resource_id}'. A managed "
                f"identity can have at most {self.most}."
            )
        written = self.add(identity, existing.name if existing else name, trust)
        asked.changed()
        await self._occupy(identity)
        return web.json_response(written.document(identity), status=200 if existing else 201)

    async def _delete(self, asked: Asked) -> web.Response:
        identity = self._parent(asked)
        self._admit(identity)
        if self._held.get(identity.service_principal.client_id, {}).pop(asked.place.names[1].lower(), None) is None:
            return web.Response(status=204)
        asked.changed()
        await self._occupy(identity)
        return web.Response()

    def _parent(self, asked: Asked) -> ManagedIdentity:
        identity = self._identities.find(asked.place.resource_id)
        if identity is None:
            raise refusal(
                404,
                "ParentResourceNotFound",
                "Can not perform requested operation on nested resource. Parent resource "
                f"'{asked.place.names[0]}' not found.",
            )
        return identity

    def _find(self, identity: ManagedIdentity, name: str) -> Credential | None:
        return self._held.get(identity.service_principal.client_id, {}).get(name.lower())

    def _admit(self, identity: ManagedIdentity) -> None:
        """A write, unless somebody else is writing or there have been too many."""
        unlucky = self.conflicts > 0
        self.conflicts -= unlucky
        if unlucky or identity.service_principal.client_id in self._busy:
            raise refusal(
                409,
                "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
                "Too many Federated Identity Credentials are written concurrently for the managed identity "
                f"'{identity.resource_id.lower()}'. Concurrent Federated Identity Credentials writes under the same "
                "managed identity are not supported.",
            )
        throttle(self.rate, identity.resource_id, self._clock())

    async def _occupy(self, identity: ManagedIdentity) -> None:
        """The write has been made by now, also for a caller who hangs up."""
        self._busy.add(identity.service_principal.client_id)
        try:
            await asyncio.sleep(self.writing.total_seconds())
        finally:
            self._busy.discard(identity.service_principal.client_id)


def _trust(body: Mapping[str, Any]) -> FederatedCredential:
    properties = body.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    issuer, subject, audiences = (properties.get(name) for name in ("issuer", "subject", "audiences"))
    if not (isinstance(issuer, str) and isinstance(subject, str) and isinstance(audiences, list)) or not (
        issuer and subject
    ):
        raise _bad("Federated Identity Credential from HTTP body has empty properties")
    if len(audiences) != 1 or not isinstance(audiences[0], str) or not audiences[0]:
        raise _bad("Federated identity credentials must have exactly one audience.")
    values = {"issuer": issuer, "subject": subject, "audience": audiences[0]}
    for name, value in values.items():
        if "*" in value:
            raise _bad(f"The {name} of a Federated Identity Credential has no wildcards: '{value}'.")
        if len(value) > _LONGEST:
            raise _bad(f"The {name} of a Federated Identity Credential has at most {_LONGEST} characters.")
    if urlsplit(issuer).scheme != "https" or not urlsplit(issuer).netloc:
        raise _bad(f"The issuer of a Federated Identity Credential is a URL: '{issuer}'.")
    return FederatedCredential(issuer, subject, audiences[0])


def _bad(message: str) -> web.HTTPException:
    return refusal(400, "BadRequest", message)
