"""What a cluster keeps: objects by kind, namespace and name, and one revision counter for all of them."""

import base64
import copy
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.kubernetes.kinds import Kind

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Json]
    revision: str
    carry_on: str = ""
    remaining: int = 0


class ContinueError(Exception):
    """A `continue` token that no list handed out."""


class Store:
    """Objects go in and come out as copies: nobody changes what is stored by accident."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[tuple[str, str], Json]] = {}
        self._revision = 0

    @property
    def revision(self) -> str:
        return str(self._revision)

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        found = self._objects.get(kind, {}).get((namespace, name))
        return copy.deepcopy(found)

    def view(self, kind: Kind, namespace: str | None = None) -> Iterator[Json]:
        """The objects themselves, for deciders that only look; of one namespace, or all for None."""
        for (where, _), body in self._objects.get(kind, {}).items():
            if namespace is None or where == namespace:
                yield body

    def put(self, kind: Kind, body: Json) -> Json:
        """Stores under the name in the body, at the next revision. What equals the stored object changes nothing."""
        meta = body["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        existing = self._objects.setdefault(kind, {}).get(key)
        if existing is not None:
            meta["resourceVersion"] = existing["metadata"]["resourceVersion"]
            if existing == body:
                return body
        self._revision += 1
        meta.setdefault("uid", str(uuid.uuid4()))
        meta["resourceVersion"] = self.revision
        self._objects[kind][key] = copy.deepcopy(body)
        return body

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self._revision += 1
        del self._objects[kind][namespace, name]

    def page(self, kind: Kind, namespace: str | None, matches: Any, limit: int, carry_on: str) -> Page:
        """Objects in the order of namespace and name, from where the token points. Raises ContinueError."""
        revision, after = _read_token(carry_on) if carry_on else (self.revision, ("", ""))
        keys = sorted(
            key
            for key, body in self._objects.get(kind, {}).items()
            if namespace in (None, key[0]) and key > after and matches(body)
        )
        shown = keys[:limit] if limit else keys
        items = [copy.deepcopy(self._objects[kind][key]) for key in shown]
        left = len(keys) - len(shown)
        return Page(items, revision, _token(revision, shown[-1]) if left else "", left)


def _token(revision: str, last: tuple[str, str]) -> str:
    said = json.dumps({"v": "meta.k8s.io/v1", "rv": int(revision), "start": "/".join(last)})
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[str, tuple[str, str]]:
    try:
        said = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = said["start"].partition("/")
        return str(int(said["rv"])), (namespace, name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContinueError(token) from error
