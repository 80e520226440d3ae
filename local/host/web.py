"""HTTP triggers and the admin routes, with keys as the platform checks them."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from azure.functions.http import HttpRequest

from local.host.http_server import Request, Response, unescape
from local.host.invocation import InvocationError, Invoker
from local.host.keys import LEVELS, Keys
from local.host.registrations import HttpTrigger, Registration
from local.host.routes import Route
from local.host.settings import UnsupportedError

_log = logging.getLogger("local.host")
_JSON = {"content-type": "application/json; charset=utf-8"}
_CHALLENGE = {"www-authenticate": "Bearer"}
_PUBLIC = {"/admin/host/ping": {"cache-control": "no-store,no-cache", "pragma": "no-cache"}, "/admin/warmup": {}}
_ADMIN_LEVEL = LEVELS.index("admin")
# What the real host has, played or not.
_ADMIN = re.compile(
    r"/admin/(functions(/[^/]+(/(keys|status))?)?|vfs(/.*)?"
    r"|host/(status|keys|config|log|drain/status|(system|function)keys(/.+)?))|/runtime/webhooks/.+"
)
Routed = Sequence[tuple[Registration, HttpTrigger]]
ByHand = Mapping[str, Callable[[str | None], None]]


class Web:
    """Answers requests."""

    def __init__(self, functions: Routed, prefix: str, keys: Keys, invoker: Invoker, others: ByHand) -> None:
        """others: by name in lower case, calls a function that has no route with an input, in the background."""
        # Of two routes that match, the function whose name comes first answers.
        ordered = sorted(functions, key=lambda entry: entry[0].name.lower())
        root = f"/{prefix}/" if prefix else "/"
        self._routes = [(Route.parse(root + trigger.route), trigger, function) for function, trigger in ordered]
        self._others = others
        self._keys = keys
        self._invoker = invoker
        self._used_keys: dict[str, str] = {}

    async def handle(self, request: Request) -> Response:
        try:
            if request.path == "/":
                return Response(headers={"content-type": "text/html"}, body=b"Your function app runs.")
            if request.path.lower().startswith(("/admin/", "/runtime/")):
                return await self._admin(request)
            return await self._function(request)
        except UnsupportedError as unsupported:
            _log.critical("This host does not play %s %s: %s", request.method, request.path, unsupported)
            return Response(HTTPStatus.NOT_IMPLEMENTED, body=f"This host does not play {unsupported}.".encode())

    async def _function(self, request: Request) -> Response:
        for route, trigger, function in self._routes:
            values = route.match(request.path)
            # A method that the function does not take is 404 too, never 405 (azure-functions-host issue 10098).
            if values is None or (trigger.methods and request.method.upper() not in trigger.methods):
                continue
            if route.unsupported:
                raise UnsupportedError(f"the route constraint {route.unsupported}")
            if self._keys.level(self._key(request), function.name) < LEVELS.index(trigger.auth_level):
                return Response(HTTPStatus.UNAUTHORIZED)
            seen: dict[str, Any] = {"headers": request.headers, "params": query_parameters(request.query)}
            argument = HttpRequest(
                request.method, request.url, route_params=values, body=request.body, body_type="bytes", **seen
            )
            try:
                return _response(await self._invoker.invoke(function, argument, "HTTP"))
            except InvocationError:
                return Response(HTTPStatus.INTERNAL_SERVER_ERROR)
        return Response(HTTPStatus.NOT_FOUND)

    def _key(self, request: Request) -> str:
        given = request.headers.get("x-functions-key")
        if not given:
            by_name = {name.lower(): value for name, value in query_parameters(request.query).items()}
            given = by_name.get("code", "")
        # The real host remembers good keys, and looks them up without regard to case.
        key = self._used_keys.get(given.lower(), given)
        if self._keys.level(key):
            self._used_keys[key.lower()] = key
        return key

    async def _admin(self, request: Request) -> Response:
        path = request.path.lower().removesuffix("/")
        level = self._keys.level(self._key(request))
        if path in _PUBLIC:
            return Response(headers=_PUBLIC[path])
        if not _ADMIN.fullmatch(path):
            return Response(HTTPStatus.NOT_FOUND)
        if path.startswith("/admin/vfs"):
            return Response(HTTPStatus.FORBIDDEN if level == _ADMIN_LEVEL else HTTPStatus.UNAUTHORIZED)
        if level < _ADMIN_LEVEL:
            return Response(HTTPStatus.FORBIDDEN) if level else Response(HTTPStatus.UNAUTHORIZED, _CHALLENGE)
        if path == "/admin/host/status":
            return Response(headers=_JSON, body=b'{"state": "Running"}')
        if found := re.fullmatch("/admin/functions/([^/]+)", path):
            return self._invoke(found[1], request)
        raise UnsupportedError("this admin route")

    def _invoke(self, name: str, request: Request) -> Response:
        """Start a timer or queue function: `{"input": "..."}`."""
        routed = name in {function.name.lower() for _, _, function in self._routes}
        if name not in self._others and not routed:
            return Response(HTTPStatus.NOT_FOUND)
        if routed or request.method != "POST":
            raise UnsupportedError("the admin routes of HTTP functions" if routed else "this admin route")
        if "application/json" not in request.headers.get("content-type", "").lower():
            return Response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            document = {key.lower(): value for key, value in json.loads(request.body).items()}
        except (ValueError, AttributeError):
            return Response(HTTPStatus.BAD_REQUEST)
        given = document.get("input")
        if isinstance(given, dict | list):
            return Response(HTTPStatus.BAD_REQUEST)
        self._others[name](None if given is None else str(given))
        return Response(HTTPStatus.ACCEPTED)


def query_parameters(query: str) -> dict[str, str]:
    """`req.params`: empty values are dropped, repeated ones joined, and names that differ in case are one.

    Of such names the second one is kept.
    """
    names: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for part in filter(None, query.split("&")):
        name, _, value = (unescape(text.replace("+", " "), keep="") for text in part.partition("="))
        entries = values.setdefault(name.lower(), [])
        if len(entries) < 2:  # noqa: PLR2004 - see the docstring
            names[name.lower()] = name
        entries.append(value)
    joined = {names[key]: ",".join(filter(None, entries)) for key, entries in values.items()}
    return {name: value for name, value in joined.items() if value}


def _response(datum: Any) -> Response:
    """The response for what Microsoft's converter made of a function's return value. Raises UnsupportedError."""
    if datum.type == "string":
        with suppress(ValueError):
            if (
                isinstance(document := json.loads(datum.value), dict)
                and {"body", "status", "headers"} & document.keys()
            ):
                raise UnsupportedError("a returned text that is a response as JSON: return an HttpResponse")
        return Response(headers={"content-type": "text/plain; charset=utf-8"}, body=datum.value.encode())
    answer = datum.value
    if answer["cookies"]:
        raise UnsupportedError("the header Set-Cookie, which the real host writes in its own way")
    status = HTTPStatus.OK.value
    with suppress(ValueError):  # the real host sends 200 for a status that is not a number
        status = int(answer["status_code"].value)
    headers = {name: str(header.value) for name, header in answer["headers"].items()}
    return Response(status, headers, answer["body"].value)
