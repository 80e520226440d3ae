"""Error responses of an API server, verbatim, and the category of each. Recorded on kube-apiserver 1.37, which leaves
out the reason of some.
"""

import json
from typing import Any

from pullkeeper import errors
from pullkeeper.cluster import refusals
from pullkeeper.errors import PullkeeperError
from tests.core.answers import Answer


def _status(
    case: str,
    code: int,
    reason: str | None,
    message: str,
    kind: type[PullkeeperError],
    *,
    causes: list[dict[str, str]] | None = None,
) -> Answer:
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": {"name": "ar-pull-secret", "kind": "secrets", "causes": causes or []},
        "code": code,
    }
    known = {name: value for name, value in body.items() if value is not None}
    return Answer(case, code, json.dumps(known), kind)


_INVALID = 'Secret "ar-pull-secret" is invalid: '
_CONTENT = "data[.dockerconfigjson]"
_USER = "5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b"
_CONFLICT = 'conflict with "kubectl-edit" using v1 at 2026-01-01T00:00:00Z'

ANSWERS = [
    _status(
        "another type",
        422,
        "Invalid",
        _INVALID + 'type: Invalid value: "Opaque": field is immutable',
        errors.SecretImmutable,
        causes=[{"reason": "FieldValueInvalid", "message": "field is immutable", "field": "type"}],
    ),
    _status(
        "marked immutable",
        422,
        "Invalid",
        _INVALID + "data: Forbidden: field is immutable when `immutable` is set",
        errors.SecretImmutable,
        causes=[
            {
                "reason": "FieldValueForbidden",
                "message": "Forbidden: field is immutable when `immutable` is set",
                "field": "data",
            }
        ],
    ),
    _status(
        "no content",
        422,
        "Invalid",
        _INVALID + f"{_CONTENT}: Required value",
        errors.InternalError,
        causes=[{"reason": "FieldValueRequired", "message": "Required value", "field": _CONTENT}],
    ),
    _status(
        "content that is no JSON object",
        422,
        "Invalid",
        _INVALID + f'{_CONTENT}: Invalid value: "<secret contents redacted>": json: cannot unmarshal array',
        errors.InternalError,
        causes=[{"reason": "FieldValueInvalid", "message": "Invalid value", "field": _CONTENT}],
    ),
    _status(
        "more than 1 MiB",
        422,
        "Invalid",
        _INVALID + "data: Too long: may not be more than 1048576 bytes",
        errors.InternalError,
        causes=[{"reason": "FieldValueTooLong", "message": "Too long", "field": "data"}],
    ),
    _status(
        "fields of another manager",
        409,
        "Conflict",
        f"Apply failed with 1 conflict: {_CONFLICT}: .data..dockerconfigjson",
        refusals.OwnershipConflict,
        causes=[{"reason": "FieldManagerConflict", "message": _CONFLICT, "field": ".data..dockerconfigjson"}],
    ),
    _status(
        "another writer was quicker",
        409,
        "Conflict",
        'Operation cannot be fulfilled on secrets "ar-pull-secret": the object has been modified; please apply your '
        "changes to the latest version and try again",
        errors.ClusterThrottled,
    ),
    _status(
        "another uid",
        422,
        "Invalid",
        _INVALID + 'metadata.uid: Invalid value: "x": field is immutable',
        errors.SecretImmutable,
        causes=[{"reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid"}],
    ),
    _status("managed fields", 400, "BadRequest", "metadata.managedFields must be nil", errors.InternalError),
    _status(
        "a wrong field",
        500,
        None,
        "failed to create typed patch object (deepintshield/ar-pull-secret; /v1, Kind=Secret): .nonsense: field not "
        "declared in schema",
        errors.InternalError,
    ),
    _status(
        "bad base64",
        500,
        None,
        "failed to convert new object (deepintshield/ar-pull-secret; /v1, Kind=Secret) to proper version: unable to "
        "convert unstructured object to /v1, Kind=Secret: error decoding from json: illegal base64 data at input "
        "byte 3",
        errors.InternalError,
    ),
    _status(
        "name of body and address differ",
        400,
        "BadRequest",
        "the name of the object (x) does not match the name on the URL (ar-pull-secret)",
        errors.InternalError,
    ),
    _status("no manager", 422, "Invalid", "fieldManager: Required value: is required for apply", errors.InternalError),
    _status(
        "another content type",
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        errors.InternalError,
    ),
    _status("namespace missing", 404, "NotFound", 'namespaces "deepintshield" not found', errors.NamespaceMissing),
    _status("object missing", 404, "NotFound", 'serviceaccounts "deepintshield-sa" not found', refusals.NotFound),
    _status(
        "unknown address", 404, "NotFound", "the server could not find the requested resource", errors.ClusterMoved
    ),
    _status(
        "namespace terminating",
        403,
        "Forbidden",
        'secrets "ar-pull-secret" is forbidden: unable to create new content in namespace deepintshield because it is '
        "being terminated",
        errors.NamespaceTerminating,
        causes=[
            {
                "reason": "NamespaceTerminating",
                "message": "namespace deepintshield is being terminated",
                "field": "metadata.namespace",
            }
        ],
    ),
    _status(
        "no role, or no namespace",
        403,
        "Forbidden",
        f'secrets "ar-pull-secret" is forbidden: User "{_USER}" cannot patch resource "secrets" in API group "" in the '
        'namespace "deepintshield"',
        errors.ClusterRbacDenied,
    ),
    _status(
        "no right to create",
        403,
        "Forbidden",
        f'secrets "ar-pull-secret" is forbidden: User "{_USER}" cannot create resource "secrets" in API group "" in '
        'the namespace "deepintshield"',
        errors.ClusterRbacDenied,
    ),
    _status(
        "no role, on a cluster with Azure RBAC",
        403,
        "Forbidden",
        f'secrets "ar-pull-secret" is forbidden: User "{_USER}" cannot patch resource "secrets" in API group "" in the '
        'namespace "deepintshield": User does not have access to the resource in Azure. Update role assignment to '
        "allow access.",
        errors.ClusterRbacDenied,
    ),
    _status(
        "no token at all",
        403,
        "Forbidden",
        'secrets "ar-pull-secret" is forbidden: User "system:anonymous" cannot patch resource "secrets" in API group '
        '"" in the namespace "deepintshield"',
        errors.ClusterRbacDenied,
    ),
    _status(
        "quota",
        403,
        "Forbidden",
        'secrets "ar-pull-secret" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=5, limited: '
        "secrets=5",
        errors.QuotaExceeded,
    ),
    _status(
        "admission policy",
        422,
        "Invalid",
        "secrets \"ar-pull-secret\" is forbidden: ValidatingAdmissionPolicy 'no-secrets' with binding 'everywhere' "
        "denied request: not here",
        errors.AdmissionDenied,
        causes=[
            {"message": "ValidatingAdmissionPolicy 'no-secrets' with binding 'everywhere' denied request: not here"}
        ],
    ),
    _status(
        "admission policy with the reason Forbidden",
        403,
        "Forbidden",
        "secrets \"ar-pull-secret\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
        "teams cannot have secrets here",
        errors.AdmissionDenied,
    ),
    _status(
        "admission policy with the reason Unauthorized",
        401,
        "Unauthorized",
        "secrets \"ar-pull-secret\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        errors.AdmissionDenied,
    ),
    _status(
        "admission policy about immutable things",
        422,
        "Invalid",
        "ValidatingAdmissionPolicy 'immutable' with binding 'b' denied request: secrets are immutable here",
        errors.AdmissionDenied,
    ),
    _status(
        "webhook denies",
        403,
        "Forbidden",
        'admission webhook "validation.gatekeeper.sh" denied the request: [owner-label] you must provide labels: '
        '{"owner"}',
        errors.AdmissionDenied,
    ),
    _status(
        "webhook denies as it likes",
        400,
        "BadRequest",
        'admission webhook "w.example.com" denied the request without explanation',
        errors.AdmissionDenied,
    ),
    _status(
        "webhook down",
        500,
        "InternalError",
        'Internal error occurred: failed calling webhook "w.example.com": failed to call webhook: Post '
        '"https://w.example.svc:443/validate?timeout=10s": dial tcp 10.0.0.9:443: connect: connection refused',
        errors.AdmissionUnavailable,
    ),
    _status("wrong audience, expired, garbage", 401, "Unauthorized", "Unauthorized", errors.ClusterUnauthorized),
    Answer("too many requests", 429, "Too many requests, please try again later.\n", errors.ClusterThrottled),
    _status(
        "server overloaded",
        503,
        "ServiceUnavailable",
        "the server is currently unable to handle the request",
        errors.ClusterUnwell,
    ),
    _status(
        "etcd down",
        500,
        "InternalError",
        "Internal error occurred: etcdserver: request timed out",
        errors.ClusterUnwell,
    ),
    _status(
        "took too long",
        504,
        "Timeout",
        "Timeout: request did not complete within requested timeout - context deadline exceeded",
        errors.ClusterUnwell,
    ),
    Answer("a gateway's page", 502, "<html>Bad Gateway</html>", errors.ClusterUnwell),
    Answer("a web server", 404, "<html>Not Found</html>", errors.ClusterMoved),
    Answer("a redirect", 302, "", errors.InternalError),
    Answer("nothing", 500, "", errors.ClusterUnwell),
    Answer("an array", 500, "[1]", errors.ClusterUnwell),
    Answer("causes are null", 409, '{"message": "x", "details": {"causes": null}}', errors.ClusterThrottled),
    Answer("details are null", 409, '{"message": "x", "details": null}', errors.ClusterThrottled),
]

NONSENSE = [
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
"""Responses that a proxy in front of an API server may send."""
