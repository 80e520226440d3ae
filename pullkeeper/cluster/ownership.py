"""Field ownership: the managers that an object's `managedFields` name, and the patch that ends ours.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#managing-fields
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pullkeeper import errors

MANAGER: Final = "pullkeeper"
OBSERVER: Final = "pullkeeper-diagnosis"
"""The field manager of dry runs that only look."""
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABELS: Final = {MANAGED_BY: MANAGER}
"""The labels of the objects that we create."""


def managers(metadata: Mapping[str, Any], *field: str) -> frozenset[str]:
    """The field managers of an object, or of one field (`"spec", "replicas"`); the observer does not count."""
    entries = metadata.get("managedFields") or ()
    names = frozenset(
        errors.redact(str(entry.get("manager", "")))
        for entry in entries
        if isinstance(entry, dict) and _has_field(entry.get("fieldsV1"), field)
    )
    return names - {OBSERVER}


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


def _has_field(fields: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        fields = fields.get(f"f:{part}") if isinstance(fields, dict) else None
    return not path or fields is not None
