"""What an API server's refusals mean: the only place that looks at its words.

Status bodies: seen on kube-apiserver 1.36 and 1.37; `tests/contract` holds the stand-in to them too.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pullkeeper import errors
from pullkeeper.errors import ClusterError


class NotFound(errors.InternalError):
    """The object itself is not there, in a namespace that is."""


class Overtaken(errors.ClusterThrottled):
    """A JSON patch whose `test` did not hold: somebody else was quicker. What it rests on has to be read anew."""


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
    (409, "", errors.ClusterThrottled),
    (422, "immutable", errors.SecretImmutable),
    (422, "cannot change roleRef", errors.SecretImmutable),
    (422, "the server rejected our request due to an error in our request", Overtaken),
    (429, "", errors.ClusterThrottled),
    (500, "failed to create typed patch object", errors.InternalError),
    (500, "illegal base64", errors.InternalError),
)


class OwnershipConflict(errors.SecretConflict):
    """An apply without force met fields of somebody else. `managers` names them, as the server did."""

    def __init__(self, detail: str, context: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail, context, **more)
        self.managers = tuple(filter(None, self.context.get("managers", "").split(",")))


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> ClusterError | errors.InternalError:
    """What a Status body means. The only place that looks at an API server's words."""
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
    return kind(message, retry_after=errors.wait_asked(headers))


def _managers(causes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """From `conflict with "kubectl-edit" using v1 at ...` and the like, each once."""
    messages = (str(cause.get("message", "")) for cause in causes)
    yield from dict.fromkeys(errors.redact(message.split('"')[1]) for message in messages if '"' in message)
