"""Who has written an object, as the API server keeps it in `managedFields`, and how to give back what we hold.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#managing-fields
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pullkeeper import errors

MANAGER: Final = "pullkeeper"
OBSERVER: Final = "pullkeeper-diagnosis"
"""Under this name we look, and never write."""
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABELS: Final = {MANAGED_BY: MANAGER}
"""Of what we make."""


def managers(metadata: Mapping[str, Any], *field: str) -> frozenset[str]:
    """Who has written the object; with the names on the way to a field (`"spec", "replicas"`) who holds that one."""
    entries = metadata.get("managedFields") or ()
    writers = frozenset(
        errors.redact(str(entry.get("manager", "")))
        for entry in entries
        if isinstance(entry, dict) and _holds(entry.get("fieldsV1"), field)
    )
    return writers - {OBSERVER}


def given_back(metadata: Mapping[str, Any], labels: Iterable[str] = ()) -> dict[str, Any]:
    """A merge patch of an object's metadata, as it was seen, after which we hold none of its fields, and every value is
    as it was but our annotations and these labels.
    """
    entries = [entry for entry in metadata.get("managedFields") or () if entry.get("manager") != MANAGER]
    annotations = [name for name in metadata.get("annotations") or () if name.startswith("pullkeeper.dev/")]
    return {
        "resourceVersion": metadata["resourceVersion"],
        "managedFields": entries,
        "labels": dict.fromkeys(labels),
        "annotations": dict.fromkeys(annotations),
    }


def _holds(fields: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        fields = fields.get(f"f:{part}") if isinstance(fields, dict) else None
    return not path or fields is not None
