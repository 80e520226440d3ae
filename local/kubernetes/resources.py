"""The verbs on resources: from a request that is allowed to an answer."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from local.kubernetes import bodies, decode, deletes, options, patches, selectors, status, watches, wire
from local.kubernetes.authn import User
from local.kubernetes.calls import Call
from local.kubernetes.deletes import Deletes
from local.kubernetes.kinds import Kind
from local.kubernetes.routing import Attributes
from local.kubernetes.store import ContinueError, ExpiredError, Page, Store
from local.kubernetes.writes import Writes

Json = dict[str, Any]
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter."
)
Verb = Callable[[web.Request, User, Attributes, Kind], Awaitable[web.Response]]


class Resources:
    def __init__(self, store: Store, writes: Writes, deletions: Deletes) -> None:
        self._store = store
        self._writes = writes
        self._deletes = deletions

    async def serve(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.StreamResponse:
        """Raises ApiError."""
        parts = ("", *(("status",) if kind.status else ()), *(("finalize",) if kind.name == "Namespace" else ()))
        if asked.subresource not in parts or (asked.name and kind.namespaced and not asked.namespace):
            raise status.no_such_resource()
        if not kind.namespaced and asked.namespace and kind.name != "Namespace":
            raise status.no_such_resource()
        if asked.verb == "get":
            return self._get(request, asked, kind)
        if asked.verb == "list":
            return self._list(request, asked, kind)
        if asked.verb == "watch":
            return await self._watch(request, asked, kind)
        return await self._write_verb(asked, kind)(request, user, asked, kind)

    def _write_verb(self, asked: Attributes, kind: Kind) -> Verb:
        """Raises ApiError 405."""
        match asked.verb:
            case "create" if not asked.name and (asked.namespace or not kind.namespaced):
                return self._create
            case "update" if asked.name:
                return self._update
            case "patch" if asked.name and asked.subresource != "finalize":
                return self._patch
            case "delete" if not asked.subresource:
                return self._delete
            case "deletecollection" if asked.namespace or not kind.namespaced:
                return self._delete_all
        raise status.method_not_allowed()

    # Reading

    def _get(self, request: web.Request, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.form_of(request.headers.get("Accept", ""))
        found = self._store.get(kind, asked.namespace if kind.namespaced else "", asked.name)
        if found is None:
            raise status.not_found(kind.plural, asked.name, kind.group)
        return wire.answer(wire.shown_as(form, found, kind.go_type))

    def _list(self, request: web.Request, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.form_of(request.headers.get("Accept", ""), a_list=True)
        page = self._page(request, asked, kind)
        meta: Json = {"resourceVersion": page.revision}
        if page.carry_on:
            meta["continue"] = page.carry_on
            if not (request.query.get("labelSelector") or request.query.get("fieldSelector")):
                meta["remainingItemCount"] = page.remaining
        items = [{name: item[name] for name in item if name not in ("kind", "apiVersion")} for item in page.items]
        body = {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta, "items": items}
        return wire.answer(wire.shown_as(form, body, kind.go_type))

    def _page(self, request: web.Request, asked: Attributes, kind: Kind) -> Page:
        _check_revision(request.query.get("resourceVersion", ""), request.query.get("resourceVersionMatch", ""))
        limit = request.query.get("limit", "") or "0"
        if not limit.removeprefix("-").isdigit():
            raise status.bad_request(f'strconv.ParseInt: parsing "{limit}": invalid syntax')
        namespace = (asked.namespace or None) if kind.namespaced else ""
        carry_on = request.query.get("continue", "")
        try:
            return self._store.page(kind, namespace, _selection(request, kind), max(0, int(limit)), carry_on)
        except ContinueError as error:
            raise status.bad_request(str(error)) from None
        except ExpiredError:
            raise status.expired(_TOO_OLD) from None

    async def _watch(self, request: web.Request, asked: Attributes, kind: Kind) -> web.StreamResponse:
        chosen, namespace = _selection(request, kind), asked.namespace if kind.namespaced else ""

        def matches(body: Json) -> bool:
            return chosen(body) and namespace in ("", body["metadata"].get("namespace"))

        return await watches.serve(request, self._store, kind, matches)

    # Writing

    async def _create(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.form_of(request.headers.get("Accept", ""))
        call, body = await self._written(request, user, asked, kind, "CreateOptions")
        made = await self._writes.create(call, body)
        return wire.answer(wire.shown_as(form, made, kind.go_type), 201, warnings=call.warnings)

    async def _update(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.form_of(request.headers.get("Accept", ""))
        call, body = await self._written(request, user, asked, kind, "UpdateOptions")
        if asked.subresource == "finalize":
            return wire.answer(self._deletes.finalize(call, body))
        made, created = await self._writes.update(call, body)
        return wire.answer(wire.shown_as(form, made, kind.go_type), 201 if created else 200, warnings=call.warnings)

    async def _written(
        self, request: web.Request, user: User, asked: Attributes, kind: Kind, named: str
    ) -> tuple[Call, Json]:
        content = wire.media_type(request)
        if content not in ("", *wire.INPUTS):
            raise status.unsupported_media_type(wire.OUTPUTS)
        text = await wire.read(request)
        chosen = options.parse(request.query, request.headers.get("User-Agent", ""), of=named)
        call = Call(user, asked, kind, chosen)
        body = bodies.written(text, content, kind)
        _check_version(kind, body.value)
        call.judge(list(body.doubled))
        return call, body.value

    async def _patch(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        content = wire.media_type(request)
        if content not in wire.PATCHES:
            raise status.no_such_patch()
        form = wire.form_of(request.headers.get("Accept", ""))
        text = await wire.read(request)
        applies = content == wire.APPLY
        agent = request.headers.get("User-Agent", "")
        call = Call(user, asked, kind, options.parse(request.query, agent, of="PatchOptions", applies=applies))
        created = False
        if applies:
            body = bodies.applied(text, strict=call.options.strict)
            made, created = await self._writes.apply(call, body.value)
            call.judge(list(body.doubled))
        else:
            made = await self._writes.patch(call, patches.patcher(call, content, text))
        return wire.answer(wire.shown_as(form, made, kind.go_type), 201 if created else 200, warnings=call.warnings)

    async def _delete(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        form = wire.form_of(request.headers.get("Accept", ""))
        call = Call(user, asked, kind, options.parse(request.query, "", of="DeleteOptions"))
        conditions = deletes.conditions(await wire.read(request), request.query.get("propagationPolicy", ""))
        body = await self._deletes.delete(call, conditions)
        return wire.answer(wire.shown_as(form, body, kind.go_type), warnings=call.warnings)

    async def _delete_all(self, request: web.Request, user: User, asked: Attributes, kind: Kind) -> web.Response:
        if kind.name == "Namespace":
            raise status.method_not_allowed()
        call = Call(user, asked, kind, options.parse(request.query, "", of="DeleteOptions"))
        page = self._page(request, asked, kind)
        await self._deletes.delete_all(call, page.items)
        items = [{name: item[name] for name in item if name not in ("kind", "apiVersion")} for item in page.items]
        meta = {"resourceVersion": page.revision}
        return wire.answer(
            {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta, "items": items}
        )


def _selection(request: web.Request, kind: Kind) -> selectors.Matcher:
    """Raises ApiError 400."""
    by_label = selectors.labels(request.query.get("labelSelector", ""))
    by_field = selectors.fields(request.query.get("fieldSelector", ""), kind)
    return lambda body: by_label(body) and by_field(body)


def _check_revision(revision: str, match: str) -> None:
    """Raises ApiError 400 or 422. A list is always of now here, which every revision that callers can have allows."""
    if match and not revision:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        cause = status.not_allowed("resourceVersionMatch", why)
        raise status.invalid("ListOptions", "", [cause], "meta.k8s.io")
    if revision and not revision.isdecimal():
        shown = f"{status.quoted(revision)}: strconv.ParseUint: parsing {status.quoted(revision)}: invalid syntax"
        raise status.bad_request(f"invalid resource version: resourceVersion: Invalid value: {shown}")


def _check_version(kind: Kind, body: Json) -> None:
    """Raises ApiError 400 when a POST or PUT says that its body is something else."""
    said = decode.other_kind(kind, body)
    if said:
        short = str(body.get("apiVersion", "v1")).rpartition("/")[2]
        name = body.get("kind", kind.name)
        raise status.bad_request(f'{name} in version "{short}" cannot be handled as a {kind.name}: {said}')
