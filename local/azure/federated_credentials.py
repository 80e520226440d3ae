"""The federated credentials of managed identities (API version 2024-11-30). Entra knows a new one at once, not minutes
later as in Azure: the app never signs in as such an identity itself.

Rules and messages: learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations. It lists messages
without codes, so the code BadRequest is ours. The words about the 21st credential, wildcards and length are ours, too.
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
from local.azure.managed_identities import IDENTITIES, VERSION, ManagedIdentities, ManagedIdentity, throttle
from local.azure.routing import ArmRequest, RateLimit, Route, arm_error, not_played
from local.serving import Refusal

FEDERATED: Final = f"{IDENTITIES}/federatedIdentityCredentials"
_MAX_CREDENTIALS: Final = 20
_PAGE_SIZE: Final = 10
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-_]{2,119}")
_MAX_LENGTH: Final = 600


@dataclass(frozen=True, slots=True)
class NamedCredential:
    name: str
    trust: FederatedCredential

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

    rate: writes of one identity. writing: how long a write takes in real time; until then other writes of the same
    identity are refused. conflicts: so many of the next writes are refused as if another client were writing.
    """

    def __init__(self, identities: ManagedIdentities, clock: Callable[[], datetime]) -> None:
        self.rate = RateLimit(5, timedelta(seconds=4))
        self.writing = timedelta(milliseconds=20)
        self.conflicts = 0
        self._identities = identities
        self._clock = clock
        self._by_client_id: dict[str, dict[str, NamedCredential]] = {}
        self._busy: set[str] = set()

    def add(self, identity: ManagedIdentity, name: str, trust: FederatedCredential) -> NamedCredential:
        credential = NamedCredential(name, trust)
        self._of(identity)[name.lower()] = credential
        return credential

    def remove(self, identity: ManagedIdentity, name: str) -> NamedCredential | None:
        """Return the credential that was there."""
        return self._of(identity).pop(name.lower(), None)

    def find_all(self, identity: ManagedIdentity) -> list[NamedCredential]:
        """Sorted by name."""
        return [credential for _, credential in sorted(self._of(identity).items())]

    def find_trusted(self, client_id: str) -> list[FederatedCredential]:
        """The credentials of the identity with this client id; none if the identity does not exist."""
        present = (self._identities.find(resource_id) for resource_id in self._identities.resource_ids())
        identity = next((one for one in present if one and one.service_principal.client_id == client_id), None)
        return [one.trust for one in self.find_all(identity)] if identity else []

    def resource_ids(self) -> Iterable[str]:
        return []

    def routes(self) -> Iterable[Route]:
        return [
            Route("PUT", FEDERATED, 2, VERSION, f"{FEDERATED}/write", self._put),
            Route("DELETE", FEDERATED, 2, VERSION, f"{FEDERATED}/delete", self._delete),
            Route("GET", FEDERATED, 1, VERSION, f"{FEDERATED}/read", self._list),
        ]

    async def _list(self, request: ArmRequest) -> web.Response:
        """One page, with a link to the next one."""
        identity = self._find_parent(request)
        if "$top" in request.query:
            raise not_played("$top")
        start = int(request.query.get("$skiptoken", "0"))
        end = start + _PAGE_SIZE
        credentials = self.find_all(identity)
        body: dict[str, Any] = {"value": [one.document(identity) for one in credentials[start:end]]}
        if end < len(credentials):
            body["nextLink"] = f"{request.host}{request.url_path}?api-version={VERSION}&$skiptoken={end}"
        return web.json_response(body)

    async def _put(self, request: ArmRequest) -> web.Response:
        identity = self._find_parent(request)
        name = request.path.names[1]
        if not _NAME.fullmatch(name):
            raise _bad_request(f"Federated Identity Credential name '{name}' is invalid.")
        trust = _parse(request.body)
        self._admit_write(identity)
        existing = self._of(identity).get(name.lower())
        others = [credential for credential in self.find_all(identity) if credential is not existing]
        if any((other.trust.issuer, other.trust.subject) == (trust.issuer, trust.subject) for other in others):
            raise _bad_request("Issuer and subject combination already exists for this Managed Identity.")
        if len(others) >= _MAX_CREDENTIALS:
            raise _bad_request(
                f"Too many Federated Identity Credentials for the managed identity '{identity.resource_id}'. A managed "
                f"identity can have at most {_MAX_CREDENTIALS}."
            )
        written = self.add(identity, existing.name if existing else name, trust)
        request.record_write()
        await self._stay_busy(identity)
        return web.json_response(written.document(identity), status=200 if existing else 201)

    async def _delete(self, request: ArmRequest) -> web.Response:
        identity = self._find_parent(request)
        self._admit_write(identity)
        if self.remove(identity, request.path.names[1]) is None:
            return web.Response(status=204)
        request.record_write()
        await self._stay_busy(identity)
        return web.Response()

    def _of(self, identity: ManagedIdentity) -> dict[str, NamedCredential]:
        return self._by_client_id.setdefault(identity.service_principal.client_id, {})

    def _find_parent(self, request: ArmRequest) -> ManagedIdentity:
        identity = self._identities.find(request.path.resource_id)
        if identity is None:
            raise arm_error(
                404,
                "ParentResourceNotFound",
                "Can not perform requested operation on nested resource. Parent resource "
                f"'{request.path.names[0]}' not found.",
            )
        return identity

    def _admit_write(self, identity: ManagedIdentity) -> None:
        """Refuse a write during another one, and beyond the limit."""
        forced = self.conflicts > 0
        self.conflicts -= forced
        if forced or identity.service_principal.client_id in self._busy:
            raise arm_error(
                409,
                "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
                "Too many Federated Identity Credentials are written concurrently for the managed identity "
                f"'{identity.resource_id.lower()}'. Concurrent Federated Identity Credentials writes under the same "
                "managed identity are not supported.",
            )
        throttle(self.rate, identity.resource_id, self._clock())

    async def _stay_busy(self, identity: ManagedIdentity) -> None:
        """The write is done by now: a caller that hangs up does not undo it."""
        self._busy.add(identity.service_principal.client_id)
        try:
            await asyncio.sleep(self.writing.total_seconds())
        finally:
            self._busy.discard(identity.service_principal.client_id)


def _parse(body: Mapping[str, Any]) -> FederatedCredential:
    properties = body.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    issuer, subject, audiences = (properties.get(name) for name in ("issuer", "subject", "audiences"))
    if not (isinstance(issuer, str) and isinstance(subject, str) and isinstance(audiences, list)) or not (
        issuer and subject
    ):
        raise _bad_request("Federated Identity Credential from HTTP body has empty properties")
    if len(audiences) != 1 or not isinstance(audiences[0], str) or not audiences[0]:
        raise _bad_request("Federated identity credentials must have exactly one audience.")
    for name, value in {"issuer": issuer, "subject": subject, "audience": audiences[0]}.items():
        if "*" in value:
            raise _bad_request(f"The {name} of a Federated Identity Credential has no wildcards: '{value}'.")
        if len(value) > _MAX_LENGTH:
            raise _bad_request(f"The {name} of a Federated Identity Credential has at most {_MAX_LENGTH} characters.")
    if urlsplit(issuer).scheme != "https" or not urlsplit(issuer).netloc:
        raise _bad_request(f"The issuer of a Federated Identity Credential is a URL: '{issuer}'.")
    return FederatedCredential(issuer, subject, audiences[0])


def _bad_request(message: str) -> Refusal:
    return arm_error(400, "BadRequest", message)
