"""What the error responses of an API server mean: the only place that looks at their status and text.

The texts are those of kube-apiserver 1.36 and 1.37.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pullkeeper import errors
from pullkeeper.errors import ClusterError


class NotFound(errors.InternalError):
    """The object is missing, in a namespace that exists."""


class PatchTestFailed(errors.ObjectChanged):
    """The `test` of a JSON patch failed: another client changed the object since it was read. Read it again."""


class ListExpired(errors.InternalError):
    """The next page of a list is no longer available."""


_ANY: Final = 0
# HTTP status, a part of the Status's message, and what that means. The first that fits counts.
_REFUSALS: Final[tuple[tuple[int, str, type[ClusterError | errors.InternalError]], ...]] = (
    (500, "failed calling webhook", errors.AdmissionUnavailable),
    (_ANY, "admission webhook", errors.AdmissionDenied),
    (_ANY, "ValidatingAdmissionPolicy", errors.AdmissionDenied),
    (401, "", errors.ClusterUnauthorized),
    (403, "because it is being terminated", errors.NamespaceTerminating),
    (403, "exceeded quota", errors.QuotaExceeded),
    (403, " cannot ", errors.ClusterRbacDenied),
    (403, "", errors.AdmissionDenied),
    (404, 'namespaces "', errors.NamespaceMissing),
    (404, '" not found', NotFound),
    (404, "", errors.ClusterMoved),
    (409, "", errors.ObjectChanged),
    (410, "", ListExpired),
    (422, "immutable", errors.SecretImmutable),
    (422, "cannot change roleRef", errors.SecretImmutable),
    (422, "the server rejected our request due to an error in our request", PatchTestFailed),
    (429, "", errors.ClusterThrottled),
    (500, "failed to create typed patch object", errors.InternalError),
    (500, "illegal base64", errors.InternalError),
)


class OwnershipConflict(errors.SecretConflict):
    """An apply without force met fields of other managers: `managers`, as the server names them."""

    def __init__(self, detail: str, context: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail, context, **more)
        self.managers = tuple(filter(None, self.context.get("managers", "").split(",")))


def map_refusal(status: int, body: bytes, headers: Mapping[str, str]) -> ClusterError | errors.InternalError:
    """Translate an error response: a Status, or anything that a proxy may send instead."""
    text = body.decode(errors="replace")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    message = str(answer.get("message") or text or f"HTTP {status}")
    details = answer.get("details")
    listed = details.get("causes") if isinstance(details, dict) else None
    causes = [cause for cause in listed if isinstance(cause, dict)] if isinstance(listed, list) else []
    if any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
        return OwnershipConflict(message, {"managers": ",".join(_managers(causes))})
    fits = (kind for code, part, kind in _REFUSALS if code in {status, _ANY} and part in message)
    kind = next(fits, errors.ClusterUnwell if status >= 500 else errors.InternalError)  # noqa: PLR2004
    return kind(message, retry_after=errors.parse_retry_after(headers))


def _managers(causes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each name in `conflict with "kubectl-edit" using v1 at ...` once."""
    messages = (str(cause.get("message", "")) for cause in causes)
    yield from dict.fromkeys(errors.redact(message.split('"')[1]) for message in messages if '"' in message)
