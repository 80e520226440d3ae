"""Field ownership: the managers that an object's `managedFields` name, and the patch that ends ours.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#managing-fields
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pullkeeper import errors

MANAGER: Final = "pullkeeper"
OBSERVER: Final = "pullkeeper-diagnosis"
"""The field manager of dry runs that only look: without fields it appears in no object, and in no response."""
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABELS: Final = {MANAGED_BY: MANAGER}
"""The labels of the objects that we create."""


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """An object's metadata, as the response to an apply has it. created: the apply created the object."""

    created: bool
    metadata: Mapping[str, Any]

    @property
    def uid(self) -> str:
        # Stored and logged, and a broken server may put anything there.
        return errors.redact(str(self.metadata["uid"]))

    @property
    def managers(self) -> frozenset[str]:
        """The field managers of the object."""
        return managers(self.metadata)


def managers(metadata: Mapping[str, Any], *field: str) -> frozenset[str]:
    """The field managers of an object, or of one field (`"spec", "replicas"`)."""
    entries = metadata.get("managedFields") or ()
    return frozenset(
        errors.redact(str(entry.get("manager", "")))
        for entry in entries
        if isinstance(entry, dict) and _has_field(entry.get("fieldsV1"), field)
    )


def release_patch(metadata: Mapping[str, Any], labels: Iterable[str] = ()) -> dict[str, Any]:
    """Return a merge patch of an object's metadata that ends our ownership of all its fields and keeps every value but
    our annotations and these labels. It fails if the object has changed since `metadata` was read.
    """
    entries = [entry for entry in metadata.get("managedFields") or () if entry.get("manager") != MANAGER]
    annotations = [name for name in metadata.get("annotations") or () if name.startswith("pullkeeper.dev/")]
    return {
        "resourceVersion": metadata["resourceVersion"],
        "managedFields": entries,
        "labels": dict.fromkeys(labels),
        "annotations": dict.fromkeys(annotations),
    }


def is_applied(found: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether applying the manifest again would change nothing: the object has all its values, and we own no other
    fields there, which an apply would remove.
    """
    entries = [entry for entry in found["metadata"].get("managedFields") or () if entry.get("manager") == MANAGER]
    applied = [entry.get("fieldsV1") for entry in entries if entry.get("operation") == "Apply"]
    return len(applied) == 1 and _includes(found, manifest) and _has_only(manifest, applied[0])


def _includes(found: Any, wanted: Any) -> bool:
    """Whether all wanted values are there; the server adds defaults."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            name in found and _includes(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        same_length = isinstance(found, list) and len(found) == len(wanted)
        return same_length and all(map(_includes, found, wanted))
    return bool(found == wanted)


def _has_only(manifest: Any, fields: Any) -> bool:
    """Whether all fields of a `fieldsV1` are in the manifest."""
    if not isinstance(fields, dict):
        return False
    for path, below in fields.items():
        kind, _, name = path.partition(":")
        if kind == "f":
            if not (isinstance(manifest, Mapping) and name in manifest and _has_only(manifest[name], below)):
                return False
        elif kind == "k":
            keys = json.loads(name)
            items = [one for one in manifest if all(one.get(key, value) == value for key, value in keys.items())]
            if not any(_has_only(one, below) for one in items):
                return False
        elif kind == "v":  # a set's value
            if json.loads(name) not in manifest:
                return False
        elif kind != ".":
            return False
    return True


def _has_field(fields: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        fields = fields.get(f"f:{part}") if isinstance(fields, dict) else None
    return not path or fields is not None
