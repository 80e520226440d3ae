"""HTTP triggers and the admin route, with keys as the platform checks them."""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from azure.functions.http import HttpRequest

from local.host import routes
from local.host.invocation import InvocationError, Invoker
from local.host.registrations import HttpTrigger, Registration

_BODY_LIMIT = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Keys:
    """The host's two keys: `master` opens all, `default` the functions of level `function`."""

    master: str
    default: str

    @classmethod
    def generate(cls) -> Self:
        return cls(master=secrets.token_urlsafe(40), default=secrets.token_urlsafe(40))

    @classmethod
    def at(cls, file: Path) -> Self:
        """The keys kept in `file` (the JSON of the real host's secret files), made at the first time."""
        if not file.exists():
            keys = cls.generate()
            file.touch(mode=0o600)
            file.write_text(
                json.dumps(
                    {
                        "masterKey": {"name": "master", "value": keys.master, "encrypted": False},
                        "functionKeys": [{"name": "default", "value": keys.default, "encrypted": False}],
                    },
                    indent=2,
                )
            )
        document = json.loads(file.read_text())
        return cls(master=document["masterKey"]["value"], default=document["functionKeys"][0]["value"])

    def open(self, level: str, key: str) -> bool:
        allowed = {"anonymous": None, "function": (self.default, self.master), "admin": (self.master,)}[level]
        if allowed is None:
            return True
        return any(secrets.compare_digest(key.encode(), good.encode()) for good in allowed)


class Web:
    """The host's HTTP side. `run_by_hand` starts a timer or queue function in the background: whether there is one."""

    def __init__(
        self,
        functions: Sequence[tuple[Registration, HttpTrigger]],
        *,
        prefix: str,
        keys: Keys,
        invoker: Invoker,
        run_by_hand: Callable[[str, str], bool],
    ) -> None:
        parsed = ((routes.parse(f"{prefix}/{trigger.route}"), trigger, function) for function, trigger in functions)
        self._routes = sorted(parsed, key=lambda entry: entry[0].precedence)
        self._keys = keys
        self._invoker = invoker
        self._run_by_hand = run_by_hand
        self.application = web.Application(client_max_size=_BODY_LIMIT)
        self.application.router.add_post("/admin/functions/{name}", self._admin)
        # Any character: a dot would leave out %0A.
        self.application.router.add_route("*", r"/{path:[\s\S]*}", self._serve)

    async def _serve(self, request: web.Request) -> web.Response:
        if (request.content_length or 0) > _BODY_LIMIT:
            raise web.HTTPRequestEntityTooLarge(_BODY_LIMIT, request.content_length or 0)
        path = routes.segments(request.raw_path.partition("?")[0])
        for route, trigger, function in self._routes:
            values = route.match(path)
            # A method that the function does not take is 404 too, never 405 (azure-functions-host issue 10098).
            if values is not None and (not trigger.methods or request.method in trigger.methods):
                if not self._keys.open(trigger.auth_level, _key(request)):
                    return web.Response(status=HTTPStatus.UNAUTHORIZED)
                return await self._answer(function, await _argument(request, values))
        return web.Response(status=HTTPStatus.NOT_FOUND)

    async def _answer(self, function: Registration, argument: HttpRequest) -> web.Response:
        try:
            return _response(await self._invoker.invoke(function, argument, "HTTP"))
        except InvocationError:
            return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _admin(self, request: web.Request) -> web.Response:
        if not self._keys.open("admin", _key(request)):
            return web.Response(status=HTTPStatus.UNAUTHORIZED)
        try:
            document: Any = await request.json()
            given = document.get("input", "")
        except (ValueError, AttributeError):
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        body = given if isinstance(given, str) else json.dumps(given)
        known = self._run_by_hand(request.match_info["name"], body)
        return web.Response(status=HTTPStatus.ACCEPTED if known else HTTPStatus.NOT_FOUND)


def _key(request: web.Request) -> str:
    return request.headers.get("x-functions-key") or request.query.get("code", "")


async def _argument(request: web.Request, values: dict[str, str]) -> HttpRequest:
    return HttpRequest(
        method=request.method,
        url=str(request.url),
        headers={name: ",".join(request.headers.getall(name)) for name in request.headers},
        params={name: ",".join(request.query.getall(name)) for name in request.query},
        route_params=values,
        body_type="bytes",
        body=await request.read(),  # 413 past the limit
    )


def _response(datum: Any) -> web.Response:
    """The answer for what Microsoft's converter made of a function's return value."""
    if datum is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    if datum.type == "string":
        return web.Response(text=datum.value)
    answer = datum.value
    response = web.Response(status=int(answer["status_code"].value), body=answer["body"].value)
    response.headers.update({name: header.value for name, header in answer["headers"].items()})
    for cookie in answer["cookies"] or ():
        for morsel in cookie.values():
            response.headers.add("Set-Cookie", morsel.OutputString())
    return response
