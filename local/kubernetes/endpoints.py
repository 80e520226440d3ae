"""The one entrance: every request is authenticated, authorized and handed on, in the real server's order."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from local.kubernetes import authn, bodies, discovery, options, reviews, routing, status, wire
from local.kubernetes.admission import Admission
from local.kubernetes.authn import Issuer, User
from local.kubernetes.authz import Rbac
from local.kubernetes.calls import Call
from local.kubernetes.deletes import Deletes
from local.kubernetes.resources import Resources
from local.kubernetes.routing import Attributes
from local.kubernetes.store import Store
from local.kubernetes.writes import Writes

_TOO_MANY = "Too many requests, please try again later.\n"


@dataclass(slots=True)
class Knobs:
    """What a test can make of the server while it runs."""

    throttled: int = 0
    """So many of the next requests are answered 429, as priority and fairness does."""


class Endpoints:
    def __init__(self, store: Store, issuer: Issuer, clock: Callable[[], datetime], knobs: Knobs) -> None:
        self._issuer = issuer
        self._knobs = knobs
        self._clock = clock
        self._rbac = Rbac(store)
        admission = Admission(store)
        writes = Writes(store, clock, self._rbac, admission)
        self._resources = Resources(store, writes, Deletes(store, clock, admission))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._handle(request)
        except status.ApiError as error:
            return wire.refusal(error)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        user = authn.authenticate(self._issuer, certificate, request.headers.get("Authorization", ""))
        if self._knobs.throttled > 0:
            self._knobs.throttled -= 1
            return web.Response(status=429, text=_TOO_MANY, headers={"Retry-After": "1"})
        asked = routing.parse(request.method, request.path, request.query)
        self._rbac.check(user, asked)
        if not asked.resource:
            return _discovered(request)
        if asked.group in reviews.GROUPS:
            return await self._review(request, user, asked)
        if discovery.knows(asked.group, asked.version):
            kind = asked.kind
            if kind is None:
                raise status.no_such_resource()
            return await self._resources.serve(request, user, asked, kind)
        return _no_page()

    async def _review(self, request: web.Request, user: User, asked: Attributes) -> web.Response:
        """Raises ApiError."""
        review = reviews.find(asked)
        if review is None:
            raise status.no_such_resource()
        if asked.verb != "create":
            raise status.method_not_allowed()
        body = bodies.written(await wire.read(request), wire.media_type(request), review)
        chosen = options.parse(request.query, request.headers.get("User-Agent", ""), of="CreateOptions")
        call = Call(user, asked, review, chosen)
        return wire.answer(reviews.answer(call, self._rbac, body.value, self._clock()), 201)


def _no_page() -> web.Response:
    return web.Response(status=404, text="404 page not found\n")


def _discovered(request: web.Request) -> web.Response:
    """Raises ApiError 404 or 405."""
    if request.path in ("/healthz", "/livez", "/readyz"):
        return web.Response(text="ok")
    found = discovery.lookup(request.path, request.host)
    if found is not None and request.method != "GET":
        raise status.method_not_allowed()
    if found is not None:
        return wire.answer(found)
    if request.path.startswith("/api/"):
        raise status.no_such_resource()
    return _no_page()
