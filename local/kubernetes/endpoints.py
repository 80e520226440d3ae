"""The one entrance: every request is authenticated, authorized and handed on, in the real server's order."""

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local.clock import Clock
from local.kubernetes import authn, decode, discovery, options, reviews, routing, selectors, status, wire
from local.kubernetes.admission import Call
from local.kubernetes.authn import Issuer, User
from local.kubernetes.authz import Rbac
from local.kubernetes.kinds import Kind
from local.kubernetes.routing import Attributes
from local.kubernetes.store import ContinueError, Store
from local.kubernetes.writes import Writes

Json = dict[str, Any]

_TOO_MANY = "Too many requests, please try again later.\n"


@dataclass(slots=True)
class Knobs:
    """What a test can make of the server while it runs."""

    throttled: int = 0
    """So many of the next requests are answered 429, as priority and fairness does."""


class Endpoints:
    def __init__(self, store: Store, issuer: Issuer, clock: Clock, knobs: Knobs) -> None:
        self._store = store
        self._issuer = issuer
        self._knobs = knobs
        self._rbac = Rbac(store)
        self._writes = Writes(store, clock, self._rbac)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._handle(request)
        except status.ApiError as error:
            return wire.refusal(error)

    async def _handle(self, request: web.Request) -> web.Response:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        user = authn.authenticate(self._issuer, certificate, request.headers.get("Authorization", ""))
        if self._knobs.throttled > 0:
            self._knobs.throttled -= 1
            return web.Response(status=429, text=_TOO_MANY, headers={"Retry-After": "1"})
        asked = routing.parse(request.method, request.path, request.query)
        self._rbac.check(user, asked)
        if not asked.resource:
            return _discovered(request)
        return await self._serve(request, user, asked)

    async def _serve(self, request: web.Request, user: User, asked: Attributes) -> web.Response:
        kind = asked.kind
        if asked.resource in ("selfsubjectreviews", "selfsubjectaccessreviews") and asked.verb == "create":
            return await self._review(request, user, asked)
        if kind is None or (kind.namespaced and not asked.namespace and asked.verb not in ("list", "deletecollection")):
            return web.Response(status=404, text="404 page not found\n")
        match asked.verb:
            case "get" if not asked.subresource:
                return self._get(request, asked, kind)
            case "list":
                return self._list(request, asked, kind)
            case "create" | "update" | "patch" | "delete":
                return await self._write(request, user, asked, kind)
        raise status.method_not_allowed()

    # Reading

    def _get(self, request: web.Request, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.wanted(request.headers.get("Accept", ""))
        found = self._store.get(kind, asked.namespace if kind.namespaced else "", asked.name)
        if found is None:
            raise status.not_found(kind.plural, asked.name, kind.group)
        return wire.answer(wire.shown_as(form, found))

    def _list(self, request: web.Request, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.wanted(request.headers.get("Accept", ""))
        by_label = selectors.labels(request.query.get("labelSelector", ""))
        by_field = selectors.fields(request.query.get("fieldSelector", ""))
        limit = request.query.get("limit", "0")
        if not limit.isdigit():
            raise status.bad_request(f'strconv.ParseInt: parsing "{limit}": invalid syntax')
        namespace = (asked.namespace or None) if kind.namespaced else None
        try:
            page = self._store.page(
                kind,
                namespace,
                lambda body: by_label(body) and by_field(body),
                int(limit),
                request.query.get("continue", ""),
            )
        except ContinueError:
            raise status.bad_request("continue key is not valid: illegal base64 data at input byte 0") from None
        meta: Json = {"resourceVersion": page.revision}
        if page.carry_on:
            meta |= {"continue": page.carry_on, "remainingItemCount": page.remaining}
        items = [{name: item[name] for name in item if name not in ("kind", "apiVersion")} for item in page.items]
        body = {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta, "items": items}
        return wire.answer(wire.shown_as(form, body))

    # Writing

    async def _write(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        if asked.verb == "patch":
            return await self._patch(request, user, asked, kind)
        if asked.verb == "delete":
            return await self._delete(request, user, asked, kind)
        form = wire.wanted(request.headers.get("Accept", ""))
        named = "CreateOptions" if asked.verb == "create" else "UpdateOptions"
        call = Call(user, asked, kind, options.parse(request.query, request.headers.get("User-Agent", ""), of=named))
        body = wire.written(await request.read(), wire.media_type(request))
        _check_version(kind, body)
        if (asked.resource, asked.subresource) == ("namespaces", "finalize"):
            return wire.answer(self._writes.finalize(call, body))
        if asked.subresource:
            raise status.out_of_scope(f"{kind.plural}/{asked.subresource}")
        if asked.verb == "create":
            made = await self._writes.create(call, body)
            return wire.answer(wire.shown_as(form, made), 201, warnings=call.warnings)
        made, created = await self._writes.update(call, body)
        return wire.answer(wire.shown_as(form, made), 201 if created else 200, warnings=call.warnings)

    async def _patch(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        content = wire.media_type(request)
        if content not in wire.PATCHES:
            raise status.unsupported_media_type(wire.PATCHES)
        form = wire.wanted(request.headers.get("Accept", ""))
        applies = content == wire.APPLY
        agent = request.headers.get("User-Agent", "")
        chosen = options.parse(request.query, agent, of="PatchOptions", applies=applies)
        call = Call(user, asked, kind, chosen)
        text = await request.read()
        if not applies or asked.subresource:
            raise status.out_of_scope(content)
        made, created = await self._writes.apply(call, decode.yaml_object(text))
        return wire.answer(wire.shown_as(form, made), 201 if created else 200, warnings=call.warnings)

    async def _delete(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.wanted(request.headers.get("Accept", ""))
        call = Call(user, asked, kind, options.parse(request.query, "", of="DeleteOptions"))
        text = await request.read()
        conditions = (json.loads(text).get("preconditions") or {}) if text else {}
        body = self._writes.delete(call, conditions.get("uid", ""), conditions.get("resourceVersion", ""))
        return wire.answer(wire.shown_as(form, body))

    async def _review(self, request: web.Request, user: User, asked: Attributes) -> web.Response:
        body = wire.written(await request.read(), wire.media_type(request))
        if asked.resource == "selfsubjectreviews":
            return wire.answer(reviews.self_subject(user), 201)
        return wire.answer(reviews.self_access(user, self._rbac, body), 201)


def _check_version(kind: Kind, body: Json) -> None:
    """Raises ApiError 400 when a POST or PUT says that its body is something else."""
    found = (body.setdefault("apiVersion", kind.api_version), body.setdefault("kind", kind.name))
    if found[0] != kind.api_version:
        said = f"the API version in the data ({found[0]}) does not match the expected API version ({kind.api_version})"
        raise status.bad_request(said)
    if found[1] != kind.name:
        raise status.bad_request(
            f'{found[1]} in version "v1" cannot be handled as a {kind.name}: converting ({found[1]}) to ({kind.name}): '
            "unknown conversion"
        )


def _discovered(request: web.Request) -> web.Response:
    if request.path in ("/healthz", "/livez", "/readyz"):
        return web.Response(text="ok")
    found = discovery.lookup(request.path, request.host)
    if found is None:
        return web.Response(status=404, text="404 page not found\n")
    return wire.answer(found)
