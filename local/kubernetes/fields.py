"""Field sets: which parts of an object a writer owns, and their wire form `fieldsV1`.

A path is a tuple of elements in the wire's own spelling: `f:name` for a field, `k:{"name":"a"}` for an element of a
list with keys, `v:"a"` for an element of a set, `i:0` for an index. A field set is a frozenset of paths; owning a path
does not mean owning what is below it.
"""

import json
from collections.abc import Iterable
from typing import Any

Path = tuple[str, ...]
FieldSet = frozenset[Path]

NOTHING: FieldSet = frozenset()


def by_keys(keys: dict[str, Any]) -> str:
    return f"k:{_compact(keys)}"


def by_value(value: Any) -> str:
    return f"v:{_compact(value)}"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def encode(paths: FieldSet) -> dict[str, Any]:
    """`fieldsV1`: nested objects; "." marks a node with children that is owned itself."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for depth, element in enumerate(path):
            if depth and not node and path[:depth] in paths:
                node["."] = {}
            node = node.setdefault(element, {})
    return root


def decode(tree: dict[str, Any]) -> FieldSet:
    """Raises ValueError for what is no `fieldsV1`."""
    return frozenset(_walk(tree, ()))


def _walk(tree: object, path: Path) -> Iterable[Path]:
    if not isinstance(tree, dict):
        raise ValueError(f"fieldsV1 holds {type(tree).__name__} at {path}")  # noqa: TRY004 - a value, not a type, is wrong
    if path and not tree:
        yield path
    for element, below in tree.items():
        if element == ".":
            yield path
        elif element[:2] in ("f:", "k:", "v:", "i:"):
            yield from _walk(below, (*path, element))
        else:
            raise ValueError(f"fieldsV1 holds the unknown element {element!r}")


def render(path: Path) -> str:
    """As conflicts name it: `.data..dockerconfigjson`, `.spec.containers[name="app"].image`."""
    rendered = ""
    for element in path:
        mark, _, text = element.partition(":")
        if mark == "f":
            rendered += f".{text}"
        elif mark == "k":
            keys = json.loads(text)
            rendered += "[" + ",".join(f"{name}={json.dumps(keys[name])}" for name in sorted(keys)) + "]"
        else:
            rendered += f"[={text}]" if mark == "v" else f"[{text}]"
    return rendered


def in_order(paths: FieldSet) -> list[Path]:
    """At each level what is owned itself comes first, then what is below."""
    return sorted(paths, key=lambda path: [(at < len(path) - 1, element) for at, element in enumerate(path)])
