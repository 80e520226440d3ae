"""What a cluster keeps: objects by kind, namespace and name, one revision counter for all, and what happened lately."""

import asyncio
import base64
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from local.kubernetes.kinds import Kind

Json = dict[str, Any]
Key = tuple[str, str]

_EVENTS_KEPT = 1000
_MOMENTS_KEPT = 32


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Json]
    revision: str
    carry_on: str = ""
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A write: `old` and `new` are the object before and after it, None where there was or is none."""

    revision: int
    kind: Kind
    old: Json | None
    new: Json | None


class ContinueError(Exception):
    """A `continue` token that no list handed out; the message is the real server's."""


class ExpiredError(Exception):
    """A moment that is no longer kept."""


def copied(value: Any) -> Any:
    """A copy of JSON through and through, several times quicker than copy.deepcopy."""
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


class Store:
    """Objects go in and come out as copies. What is stored is replaced, never changed: a moment is cheap to keep."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, Json]] = {}
        self._revision = 0
        self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._moments: dict[tuple[int, Kind], list[tuple[Key, Json]]] = {}
        self._news = asyncio.Event()

    @property
    def revision(self) -> str:
        return str(self._revision)

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        found: Json | None = copied(self._objects.get(kind, {}).get((namespace, name)))
        return found

    def view(self, kind: Kind, namespace: str | None = None) -> Iterator[Json]:
        """The objects themselves, for deciders that only look; of one namespace, or all for None."""
        for (where, _), body in self._objects.get(kind, {}).items():
            if namespace in (None, where):
                yield body

    def put(self, kind: Kind, body: Json) -> Json:
        """Stores under the name in the body, at the next revision. What equals the stored object changes nothing."""
        meta = body["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        old = self._objects.setdefault(kind, {}).get(key)
        if old is not None:
            meta["resourceVersion"] = old["metadata"]["resourceVersion"]
            if old == body:
                return body
        meta.setdefault("uid", str(uuid.uuid4()))
        meta["resourceVersion"] = str(self._revision + 1)
        self._objects[kind][key] = stored = copied(body)
        self._tell(kind, old, stored)
        return body

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self._tell(kind, self._objects[kind].pop((namespace, name)), None)

    def _tell(self, kind: Kind, old: Json | None, new: Json | None) -> None:
        self._revision += 1
        self._events.append(Event(self._revision, kind, old, new))
        self._news.set()
        self._news = asyncio.Event()

    async def events(self, kind: Kind, since: int) -> list[Event]:
        """Waits for writes to a kind after a revision. Raises ExpiredError when they are not all kept any more."""
        while True:
            if self._events and since < self._events[0].revision - 1:
                raise ExpiredError
            found = [event for event in self._events if event.kind == kind and event.revision > since]
            if found:
                return found
            await self._news.wait()

    def page(
        self, kind: Kind, namespace: str | None, matches: Callable[[Json], bool], limit: int, carry_on: str
    ) -> Page:
        """Objects in the order of namespace and name, from where the token points, all as of the first page.

        Raises ContinueError and ExpiredError.
        """
        revision, after = _read_token(carry_on) if carry_on else (self._revision, None)
        moment = self._moment(kind, revision)
        found = [
            (key, body)
            for key, body in moment
            if namespace in (None, key[0]) and (after is None or key > after) and matches(body)
        ]
        shown = found[:limit] if limit else found
        left = len(found) - len(shown)
        if not left:
            return Page(copied([body for _, body in shown]), str(revision))
        self._moments[revision, kind] = moment
        while len(self._moments) > _MOMENTS_KEPT:
            del self._moments[next(iter(self._moments))]
        return Page(copied([body for _, body in shown]), str(revision), _token(revision, shown[-1][0]), left)

    def _moment(self, kind: Kind, revision: int) -> list[tuple[Key, Json]]:
        kept = self._moments.get((revision, kind))
        if kept is not None:
            return kept
        if revision != self._revision:
            raise ExpiredError
        return sorted(self._objects.get(kind, {}).items(), key=lambda item: item[0])


def _token(revision: int, last: Key) -> str:
    said = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": "/".join(last)})
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, Key]:
    try:
        said = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = said["start"].partition("/")
        return int(said["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError, AttributeError):
        why = "illegal base64 data at input byte 0"
        raise ContinueError(f"invalid continue token: continue key is not valid: {why}") from None
