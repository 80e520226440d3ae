"""The rules for names, labels, annotations and keys, with the words in which apimachinery refuses."""

import re
from collections.abc import Iterator
from typing import Any

from local.kubernetes.status import Cause, not_allowed, required, too_long, wrong

Json = dict[str, Any]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_KEY_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_AT_ENDS = "and must start and end with an alphanumeric character"
_LABEL_SAID = f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_AT_ENDS}"
_SUBDOMAIN_SAID = (
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_AT_ENDS}"
)
_PART_SAID = f"must consist of alphanumeric characters, '-', '_' or '.', {_AT_ENDS}"
_CONFIG_KEY_SAID = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"

ANNOTATIONS_LIMIT = 256 * 1024
_IMMUTABLE = "field is immutable"


def _refused(said: str, pattern: str, *examples: str) -> str:
    """As apimachinery's RegexError puts it, its two spaces before "or" included."""
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{said} (e.g. {shown}regex used for validation is '{pattern}')"


def _check(text: str, limit: int, pattern: str, said: str, *examples: str, unit: str = "characters") -> Iterator[str]:
    if len(text) > limit:
        yield f"must be no more than {limit} {unit}"
    if not re.fullmatch(pattern, text):
        yield _refused(said, pattern, *examples)


def subdomain(text: str) -> Iterator[str]:
    return _check(text, 253, _SUBDOMAIN, _SUBDOMAIN_SAID, "example.com")


def label(text: str) -> Iterator[str]:
    if re.fullmatch(_SUBDOMAIN, text) and "." in text:
        yield "must not contain dots"
    else:
        yield from _check(text, 63, _LABEL, _LABEL_SAID, "my-name", "123-abc")


def path(text: str) -> Iterator[str]:
    if text in (".", ".."):
        yield f"may not be '{text}'"
    for character in "/%":
        if character in text:
            yield f"may not contain '{character}'"


RULES = {"subdomain": subdomain, "label": label, "path": path}


def config_key(text: str) -> Iterator[str]:
    yield from _check(text, 253, _CONFIG_KEY, _CONFIG_KEY_SAID, "key.name", "KEY_NAME", "key-name")
    if text in (".", ".."):
        yield f"must not be '{text}'"
    elif text.startswith(".."):
        yield "must not start with '..'"


def label_key(text: str) -> Iterator[str]:
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        said = _refused(_PART_SAID, _KEY_PART, "MyName", "my.name", "123-abc")
        yield f"a valid label key {said} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif slash:
        yield from (f"prefix part {said}" for said in subdomain(prefix))
    if not name:
        yield "name part must be non-empty"
    yield from (
        f"name part {said}"
        for said in _check(name, 63, _KEY_PART, _PART_SAID, "MyName", "my.name", "123-abc", unit="bytes")
    )


def label_value(text: str) -> Iterator[str]:
    said = f"a valid label must be an empty string or consist of {_PART_SAID.removeprefix('must consist of ')}"
    return _check(text, 63, f"({_KEY_PART})?", said, "MyValue", "my_value", "12345", unit="bytes")


def check_metadata(meta: Json, naming: str, *, namespaced: bool) -> Iterator[Cause]:
    rule = RULES[naming]
    name = meta.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from (wrong("metadata.name", f'"{name}"', said) for said in rule(name))
    namespace = meta.get("namespace", "")
    if namespaced and not namespace:
        yield required("metadata.namespace")
    elif namespaced:
        yield from (wrong("metadata.namespace", f'"{namespace}"', said) for said in label(namespace))
    elif namespace:
        yield not_allowed("metadata.namespace", "not allowed on this type")
    yield from check_marks(meta)
    yield from check_finalizers(meta)


def check_finalizers(meta: Json) -> Iterator[Cause]:
    for index, finalizer in enumerate(meta.get("finalizers", ())):
        yield from (wrong("metadata.finalizers", f'"{finalizer}"', said) for said in label_key(finalizer))
        if "/" not in finalizer and finalizer not in ("kubernetes", "orphan", "foregroundDeletion"):
            why = "name is neither a standard finalizer name nor is it fully qualified"
            yield wrong(f"metadata.finalizers[{index}]", f'"{finalizer}"', why)


def check_marks(meta: Json) -> Iterator[Cause]:
    """Labels, annotations and owners: checked on every write."""
    for key, value in meta.get("labels", {}).items():
        yield from (wrong("metadata.labels", f'"{key}"', said) for said in label_key(key))
        yield from (wrong("metadata.labels", f'"{value}"', said) for said in label_value(value))
    annotations = meta.get("annotations", {})
    for key in annotations:
        yield from (wrong("metadata.annotations", f'"{key}"', said) for said in label_key(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > ANNOTATIONS_LIMIT:
        yield too_long("metadata.annotations", f"may not be more than {ANNOTATIONS_LIMIT} bytes")
    for index, owner in enumerate(meta.get("ownerReferences", ())):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                yield required(f"metadata.ownerReferences[{index}].{name}", "must not be empty")


def check_metadata_update(new: Json, old: Json) -> Iterator[Cause]:
    if old.get("deletionTimestamp"):
        extra = sorted(set(new.get("finalizers", ())) - set(old.get("finalizers", ())))
        if extra:
            listed = ", ".join(f'"{name}"' for name in extra)
            yield not_allowed(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}",
            )
    if new.get("uid") != old["uid"]:
        yield wrong("metadata.uid", f'"{new.get("uid")}"', _IMMUTABLE)
    if new.get("deletionTimestamp") != old.get("deletionTimestamp"):
        yield wrong("metadata.deletionTimestamp", f'"{new["deletionTimestamp"]}"', _IMMUTABLE)
    if new.get("deletionGracePeriodSeconds") != old.get("deletionGracePeriodSeconds"):
        yield wrong("metadata.deletionGracePeriodSeconds", str(new["deletionGracePeriodSeconds"]), _IMMUTABLE)
    yield from check_marks(new)
    yield from check_finalizers(new)
