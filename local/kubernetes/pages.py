"""Lists in pages: selectors of labels and of the name, `limit`, and continue tokens that are good for five minutes.

https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from local.kubernetes.calls import Call, Json
from local.kubernetes.names import KEY, VALUE
from local.kubernetes.refusals import not_played

_GOOD_FOR: Final = timedelta(minutes=5)
"""As long as etcd keeps old revisions, by default."""
_REQUIREMENT: Final = re.compile(
    r"(?P<not>!?)(?P<key>[^!=, ()]+)(?:(?P<is>!?=)(?P<value>[^!=, ()]*)| (?P<in>in|notin) \((?P<values>[^()]+)\))?"
)


class Pages:
    """All pages of a list show its objects as they were when the first one was read."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._rests: dict[tuple[str, tuple[str, str]], tuple[datetime, str, list[Json]]] = {}

    def cut(self, call: Call, objects: Iterable[Json], revision: str) -> tuple[list[Json], Json]:
        """Return a page, and the metadata of the list. Raises Refusal: 410 for a token that is too old, 501."""
        selectors, limit = _selectors(call), call.query.get("limit", "0")
        if not limit.isdecimal():
            raise not_played(f"the limit {limit!r}")
        if token := call.query.get("continue"):
            began, revision, found = self._continue(call, token)
        else:
            matches, named = _parse(selectors[0]), _parse_name(selectors[1])
            began, found = self._clock(), [one for one in objects if named(one) and matches(one)]
        page, rest = (found[: int(limit)], found[int(limit) :]) if int(limit) else (found, [])
        meta: Json = {"resourceVersion": revision}
        if rest:
            meta["continue"] = _encode(revision, page[-1])
            self._rests[meta["continue"], selectors] = began, revision, rest
            if not any(selectors):
                meta["remainingItemCount"] = len(rest)
        return page, meta

    def _continue(self, call: Call, token: str) -> tuple[datetime, str, list[Json]]:
        known = self._rests.get((token, _selectors(call)))
        if known is None:
            raise not_played("a continue token of another list")
        if self._clock() - known[0] > _GOOD_FOR:
            raise call.refuse("list-expired", token=_encode("-1", known[2][0]))
        return known


def _selectors(call: Call) -> tuple[str, str]:
    return call.query.get("labelSelector", ""), call.query.get("fieldSelector", "")


def _parse_name(selector: str) -> Callable[[Json], bool]:
    """Raises Refusal 501 for a selector of any other field than the name."""
    field, _, name = selector.partition("=")
    if selector and (field != "metadata.name" or not re.fullmatch(r"[a-z0-9.-]{1,253}", name)):
        raise not_played(f"the field selector {selector!r}")
    return lambda found: not selector or found["metadata"]["name"] == name


def _encode(revision: str, last: Json) -> str:
    start = {"v": "meta.k8s.io/v1", "rv": int(revision), "start": f"/{last['metadata']['name']}\0"}
    return base64.urlsafe_b64encode(json.dumps(start, separators=(",", ":")).encode()).decode().rstrip("=")


def _parse(selector: str) -> Callable[[Json], bool]:
    """Raises Refusal 501 for anything but the plain forms, separated by single commas."""
    requirements = []
    rest = selector
    while rest:
        found = _REQUIREMENT.match(rest)
        if not found or not _is_played(found) or rest[found.end() : found.end() + 1] not in {"", ","}:
            raise not_played(f"the label selector {selector!r}")
        requirements.append(found)
        rest = rest[found.end() + 1 :]
    return lambda found: all(_matches(one, found["metadata"].get("labels") or {}) for one in requirements)


def _is_played(found: re.Match[str]) -> bool:
    values = [found["value"] or "", *(found["values"] or "").split(",")]
    plain = re.fullmatch(KEY, found["key"]) and all(re.fullmatch(VALUE, value) for value in values)
    return bool(plain) and not (found["not"] and (found["is"] or found["in"]))


def _matches(requirement: re.Match[str], labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement["key"])
    match requirement["is"], requirement["in"]:
        case None, None:
            return (value is None) == bool(requirement["not"])
        case "=", _:
            return value == requirement["value"]
        case "!=", _:
            return value != requirement["value"]
        case _, "in":
            return value in requirement["values"].split(",")
        case _:
            return value not in requirement["values"].split(",")
