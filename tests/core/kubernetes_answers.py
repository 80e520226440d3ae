"""What an API server answers instead of taking a secret, and what each answer means.

The server's own are recordings (local/kubernetes/recordings). What is written out here comes from what stands between
it and the app, or from Azure.
"""

from typing import Final

from local.kubernetes import recordings
from pullkeeper import errors
from pullkeeper.cluster import refusals
from pullkeeper.errors import PullkeeperError
from tests.core.answers import Answer

_MEANINGS: Final[dict[str, type[PullkeeperError]]] = {
    "already-exists": errors.ClusterThrottled,
    "apply-conflict": refusals.OwnershipConflict,
    "apply-uid-of-nothing": errors.ClusterThrottled,
    "content-missing": errors.InternalError,
    "content-no-object": errors.InternalError,
    "content-too-large": errors.InternalError,
    "delete-uid": errors.ClusterThrottled,
    "forbidden": errors.ClusterRbacDenied,
    "forbidden-in-cluster": errors.ClusterRbacDenied,
    "forbidden-unnamed": errors.ClusterRbacDenied,
    "forbidden-unnamed-in-cluster": errors.ClusterRbacDenied,
    "immutable-data": errors.SecretImmutable,
    "immutable-role-ref": errors.SecretImmutable,
    "immutable-selector": errors.SecretImmutable,
    "immutable-type": errors.SecretImmutable,
    "immutable-uid": errors.SecretImmutable,
    "json-patch-unfit": refusals.PatchTestFailed,
    "managed-fields": errors.InternalError,
    "modified": errors.ClusterThrottled,
    "name-mismatch": errors.InternalError,
    "namespace-missing": errors.NamespaceMissing,
    "namespace-terminating": errors.NamespaceTerminating,
    "no-base64": errors.InternalError,
    "no-manager": errors.InternalError,
    "no-such-patch": errors.InternalError,
    "no-such-resource": errors.ClusterMoved,
    "not-found": refusals.NotFound,
    "policy-about-immutable": errors.AdmissionDenied,
    "policy-denies": errors.AdmissionDenied,
    "policy-forbids": errors.AdmissionDenied,
    "quota": errors.QuotaExceeded,
    "request-too-large": errors.InternalError,
    "rights-beyond-own": errors.AdmissionDenied,
    "throttled": errors.ClusterThrottled,
    "timed-out": errors.ClusterUnwell,
    "unauthorized": errors.ClusterUnauthorized,
    "unknown-field": errors.InternalError,
    "webhook-denies": errors.AdmissionDenied,
    "webhook-denies-with-401": errors.AdmissionDenied,
    "webhook-denies-without-explanation": errors.AdmissionDenied,
    "webhook-down": errors.AdmissionUnavailable,
}
RECORDED: Final = [
    Answer(case, recordings.load(case).status, recordings.filled(case).text, kind) for case, kind in _MEANINGS.items()
]
_AZURE_RBAC: Final = (
    'secrets \\"ar-pull-secret\\" is forbidden: User \\"5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b\\" cannot patch resource '
    '\\"secrets\\" in API group \\"\\" in the namespace \\"deepintshield\\": User does not have access to the resource '
    "in Azure. Update role assignment to allow access."
)
ANSWERS: Final = [
    *RECORDED,
    Answer("no role, with Azure RBAC", 403, f'{{"message": "{_AZURE_RBAC}"}}', errors.ClusterRbacDenied),
    Answer("1.36 keeps a role reference", 422, '{"message": "cannot change roleRef"}', errors.SecretImmutable),
    Answer("a proxy without a server", 503, '{"message": "no healthy upstream"}', errors.ClusterUnwell),
    Answer("a gateway's page", 502, "<html>Bad Gateway</html>", errors.ClusterUnwell),
    Answer("a web server", 404, "<html>Not Found</html>", errors.ClusterMoved),
    Answer("a redirect", 302, "", errors.InternalError),
    Answer("nothing", 500, "", errors.ClusterUnwell),
    Answer("an array", 500, "[1]", errors.ClusterUnwell),
    Answer("causes are null", 409, '{"message": "x", "details": {"causes": null}}', errors.ClusterThrottled),
    Answer("details are null", 409, '{"message": "x", "details": null}', errors.ClusterThrottled),
]

NONSENSE: Final = [
    Answer("deep", 500, "[" * 100_000, errors.ClusterUnwell),
    Answer("details is a list", 409, '{"details": ["x"]}', errors.ClusterThrottled),
    Answer("causes is a word", 409, '{"details": {"causes": "x"}}', errors.ClusterThrottled),
    Answer("causes hold words", 409, '{"details": {"causes": ["x"]}}', errors.ClusterThrottled),
    Answer(
        "a cause's message is null",
        409,
        '{"details": {"causes": [{"reason": "FieldManagerConflict", "message": null}]}}',
        refusals.OwnershipConflict,
    ),
    Answer("message is a list", 500, '{"message": ["x"]}', errors.ClusterUnwell),
]
"""What no API server answers; but what stands between it and the app may."""
