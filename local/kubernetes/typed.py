"""Walks over typed values: what an object sets, how two differ, and what one looks like merged into the other.

The rules are those of structured-merge-diff, the library behind server-side apply
(https://github.com/kubernetes-sigs/structured-merge-diff): lists with keys are maps, sets are maps to nothing, atomic
maps and lists are leaves, and so is whatever is empty on both sides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.kubernetes.fields import FieldSet, Path, by_keys, by_value
from local.kubernetes.schema import ANYTHING, KEY_DEFAULTS, Type


class _Absent:
    """Neither a value nor null."""


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class Difference:
    added: FieldSet
    modified: FieldSet
    removed: FieldSet


def element_of(kind: Type, item: Any) -> str:
    """How a list of this type tells an item apart."""
    if not kind.keys:
        return by_value(item)
    keys = {}
    for key in kind.keys:
        value = item.get(key) if isinstance(item, dict) else None
        default = KEY_DEFAULTS.get(key, _zero_of(kind, key))
        if value is not None or default is not None:
            keys[key] = default if value is None else value
    return by_keys(keys)


def _zero_of(kind: Type, key: str) -> Any:
    """A required field has its zero value as default: it is no pointer in Go."""
    if kind.element is None or key not in kind.element.required:
        return None
    return 0 if kind.element.fields[key].scalar == "integer" else ""


def children(kind: Type, value: Any) -> Iterator[tuple[str, Type, Any]]:
    """The parts of a map, struct or associative list: (path element, type, value)."""
    if kind.shape == "list" and isinstance(value, list):
        for item in value:
            yield element_of(kind, item), kind.element or ANYTHING, item
    elif isinstance(value, dict):
        for name, below in value.items():
            yield f"f:{name}", kind.child(name) or ANYTHING, below


def is_leaf(kind: Type) -> bool:
    return kind.shape == "scalar" or kind.atomic


def set_by(kind: Type, value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths that an applied configuration takes: leaves, list items, keys of maps, and what is empty."""
    if is_leaf(kind):
        yield path
        return
    for element, below, item in children(kind, value):
        here = (*path, element)
        yield from set_by(below, item, here)
        if kind.shape != "struct" or item is None or item == {}:
            yield here


def field_set(kind: Type, value: Any) -> FieldSet:
    return frozenset(set_by(kind, value))


def with_parents(kind: Type, paths: FieldSet) -> FieldSet:
    """Adds the fields of structs on the way to each path: who sets `a.b` answers for the field `a` as well."""
    found = set(paths)
    for path in paths:
        here: Type | None = kind
        for depth, element in enumerate(path[:-1], start=1):
            if here is None:
                break
            if here.shape == "struct":
                found.add(path[:depth])
            here = here.child(element[2:]) if element.startswith("f:") else here.element
    return frozenset(found)


def compare(kind: Type, old: Any, new: Any) -> Difference:
    found: dict[str, set[Path]] = {"added": set(), "modified": set(), "removed": set()}
    _compare(kind, old, new, (), found)
    return Difference(*(frozenset(found[name]) for name in ("added", "modified", "removed")))


def _compare(kind: Type, old: Any, new: Any, path: Path, found: dict[str, set[Path]]) -> None:
    empty = not _parts(old) and not _parts(new)
    if is_leaf(kind) or empty:
        if old is ABSENT:
            found["added"].add(path)
        elif new is ABSENT:
            found["removed"].add(path)
        elif old != new:
            found["modified"].add(path)
        return
    before = {element: (below, item) for element, below, item in children(kind, old)}
    after = {element: (below, item) for element, below, item in children(kind, new)}
    for element in before | after:
        below = (after.get(element) or before[element])[0]
        was, now = before.get(element, (below, ABSENT))[1], after.get(element, (below, ABSENT))[1]
        _compare(below, was, now, (*path, element), found)
    if path and old is ABSENT:
        found["added"].add(path)
    elif path and new is ABSENT:
        found["removed"].add(path)


def _parts(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def merge(kind: Type, live: Any, config: Any) -> Any:
    """The live value with the configuration laid over it. Nothing at all (null, {} or []) takes nothing away."""
    if config is ABSENT or (not is_leaf(kind) and _parts(live) and config in (None, {}, [])):
        return live
    if is_leaf(kind) or not _parts(live):
        return config
    if kind.shape == "list":
        return _merge_list(kind, live, config)
    merged = dict(live)
    for name, value in config.items():
        merged[name] = merge(kind.child(name) or ANYTHING, live.get(name, ABSENT), value)
    return merged


def _merge_list(kind: Type, live: list[Any], config: list[Any]) -> list[Any]:
    """Items keep the order of the configuration; live ones that it does not name stay where they were among them."""
    existing = {element_of(kind, item): item for item in live}
    wanted = {element_of(kind, item): item for item in config}
    pending = list(wanted)
    order: dict[str, None] = {}
    for key in existing:
        order_until = pending.index(key) + 1 if key in pending else 0
        order |= dict.fromkeys(pending[:order_until])
        del pending[:order_until]
        order.setdefault(key)
    order |= dict.fromkeys(pending)
    element = kind.element or ANYTHING
    return [merge(element, existing.get(key, ABSENT), wanted.get(key, ABSENT)) for key in order]


def remove(kind: Type, value: Any, gone: FieldSet, path: Path = ()) -> Any:
    """The value without the paths in `gone` and all below them, and without what becomes empty by that (ABSENT)."""
    if is_leaf(kind) or not _parts(value) or not gone:
        return value
    kept = []
    for element, below, item in children(kind, value):
        here = (*path, element)
        if here in gone:
            continue
        rest = remove(below, item, gone, here)
        if rest is not ABSENT:
            kept.append((element, rest))
    if not kept:
        return ABSENT
    if kind.shape == "list":
        return [item for _, item in kept]
    return {element[2:]: item for element, item in kept}
