"""Watches: a list that goes on. One JSON object a line, as long as the caller stays or asked for."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from local.kubernetes import status, wire
from local.kubernetes.kinds import Kind
from local.kubernetes.store import Event, ExpiredError, Store

Json = dict[str, Any]
Matcher = Callable[[Json], bool]

_LONGEST = 3600


async def serve(request: web.Request, store: Store, kind: Kind, matches: Matcher) -> web.StreamResponse:
    """`matches` knows the namespace and the selectors of the request. Raises ApiError 400 before the stream begins."""
    form = wire.form_of(request.headers.get("Accept", "").replace(";stream=watch", ""))
    since, seconds = _number(request, "resourceVersion"), _number(request, "timeoutSeconds") or _LONGEST
    response = web.StreamResponse()
    response.content_type = "application/json"
    await response.prepare(request)

    async def send(what: str, body: Json) -> None:
        shown = body if what == "ERROR" else wire.shown_as(form, body, kind.go_type)
        await response.write(json.dumps({"type": what, "object": shown}).encode() + b"\n")

    try:
        async with asyncio.timeout(seconds):
            if not since:
                since = int(store.revision)
                for body in [one for one in store.view(kind) if matches(one)]:
                    await send("ADDED", body)
            while True:
                for event in await store.events(kind, since):
                    since = event.revision
                    for what, body in _seen(event, matches):
                        await send(what, body)
    except TimeoutError:
        pass
    except ExpiredError:
        await send("ERROR", status.expired(f"too old resource version: {since} ({store.revision})").body)
    await response.write_eof()
    return response


def _seen(event: Event, matches: Matcher) -> Iterator[tuple[str, Json]]:
    """What a watcher of a selection sees of a write: an object that leaves the selection is deleted to it."""
    before = event.old is not None and matches(event.old)
    after = event.new is not None and matches(event.new)
    if event.new is not None and after:
        yield ("MODIFIED" if before else "ADDED"), event.new
    elif event.old is not None and before:
        meta = event.old["metadata"] | {"resourceVersion": str(event.revision)}
        yield "DELETED", event.old | {"metadata": meta}


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "") or "0"
    if not text.isdecimal():
        raise status.bad_request(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)
