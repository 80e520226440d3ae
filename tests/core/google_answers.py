"""Error responses of Google's token services, verbatim, and the category of each."""

import json
from typing import Any

from pullkeeper import errors
from pullkeeper.errors import PullkeeperError
from tests.core.answers import Answer


def _sts(case: str, error: str, description: str, kind: type[PullkeeperError]) -> Answer:
    return Answer(case, 400, json.dumps({"error": error, "error_description": description}), kind)


def _iam(case: str, code: int, message: str, status: str, kind: type[PullkeeperError]) -> Answer:
    return Answer(case, code, json.dumps({"error": {"code": code, "message": message, "status": status}}), kind)


_PERMISSION = "iam.serviceAccounts.getAccessToken"
_DENIED = {
    "code": 403,
    "message": f"Permission '{_PERMISSION}' denied on resource (or it may not exist).",
    "status": "PERMISSION_DENIED",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED",
            "domain": "iam.googleapis.com",
            "metadata": {"permission": _PERMISSION},
        }
    ],
}
_DISABLED = {
    "code": 403,
    "message": "IAM Service Account Credentials API has not been used in project 889403714106 before or it is "
    "disabled. Enable it by visiting https://console.developers.google.com/apis/api/iamcredentials.googleapis.com/"
    "overview?project=889403714106 then retry. If you enabled this API recently, wait a few minutes for the action to "
    "propagate to our systems and retry.",
    "status": "PERMISSION_DENIED",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Google developers console API activation", "url": "https://example.com/"}],
        },
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_DISABLED",
            "domain": "googleapis.com",
            "metadata": {"service": "iamcredentials.googleapis.com", "consumer": "projects/889403714106"},
        },
    ],
}
_PROHIBITED: dict[str, Any] = {
    "code": 403,
    "message": "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: "
    "VQQnKfXtZ16NHnOmdJAy0E92tVT_8fZZRGvnndBWXZLKFx_KItn1EA",
    "status": "PERMISSION_DENIED",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
            "violations": [
                {
                    "type": "VPC_SERVICE_CONTROLS",
                    "description": "VQQnKfXtZ16NHnOmdJAy0E92tVT_8fZZRGvnndBWXZLKFx_KItn1EA",
                }
            ],
        },
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SECURITY_POLICY_VIOLATED",
            "domain": "googleapis.com",
            "metadata": {
                "service": "sts.googleapis.com",
                "uid": "VQQnKfXtZ16NHnOmdJAy0E92tVT_8fZZRGvnndBWXZLKFx_KItn1EA",
            },
        },
    ],
}
_HTML = (
    "<!DOCTYPE html>\n<html lang=en>\n  <title>Error 502 (Server Error)!!1</title>\n"
    "  <p>The server encountered a temporary error and could not complete your request.\n</html>\n"
)

KNOWN = [
    _sts(
        "audience of the Entra token",
        "invalid_grant",
        "The audience in ID Token [api://AzureADTokenExchange] does not match the expected audience.",
        errors.FederationAudience,
    ),
    _sts(
        "issuer",
        "invalid_grant",
        "The issuer in ID Token https://sts.windows.net/0b1f6471-1bf0-4dda-aec3-cb9272f09590/ does not match the "
        "expected one in config: https://login.microsoftonline.com/0b1f6471-1bf0-4dda-aec3-cb9272f09590/v2.0",
        errors.FederationIssuer,
    ),
    _sts(
        "issuer, older words",
        "invalid_grant",
        "The issuer in ID Token https://sts.windows.net/0b1f6471-1bf0-4dda-aec3-cb9272f09590/ does not match the "
        "expected ones: https://sts.windows.net/0b1f6471-1bf0-4dda-aec3-cb9272f09590",
        errors.FederationIssuer,
    ),
    _sts("stale", "invalid_grant", "ID Token issued at 1767225600 is stale to sign-in.", errors.FederationStale),
    _sts(
        "pool or provider gone",
        "invalid_target",
        'The target service indicated by the "audience" parameters is invalid. This might either be because the pool '
        "or provider is disabled or deleted or because it doesn't exist.",
        errors.FederationProvider,
    ),
    _sts(
        "malformed audience",
        "invalid_request",
        'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
        "https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats.",
        errors.FederationProvider,
    ),
    _sts(
        "attribute condition",
        "unauthorized_client",
        "The given credential is rejected by the attribute condition.",
        errors.FederationCondition,
    ),
    _sts("malformed JWT", "invalid_grant", "Unable to parse the ID Token.", errors.FederationToken),
    _sts("bad signature", "invalid_grant", "Unable to verify the ID Token signature.", errors.FederationToken),
    _sts("unknown key", "invalid_grant", "Error connecting to the given credential's issuer.", errors.FederationToken),
    Answer("no binding", 403, json.dumps({"error": _DENIED}), errors.ImpersonationDenied),
    Answer("a disabled API", 403, json.dumps({"error": _DISABLED}), errors.GoogleApiDisabled),
    Answer(
        "a disabled API, without its name",
        403,
        json.dumps({"error": {**_DISABLED, "details": [{"reason": "SERVICE_DISABLED", "metadata": []}, "x", None]}}),
        errors.GoogleApiDisabled,
    ),
    Answer("a perimeter", 403, json.dumps({"error": _PROHIBITED}), errors.GooglePerimeterDenied),
    _iam(
        "a perimeter, without details",
        403,
        _PROHIBITED["message"],
        "PERMISSION_DENIED",
        errors.GooglePerimeterDenied,
    ),
    _iam(
        "no such account",
        404,
        "Not found; Gaia id not found for email image-puller@deepintshield-prod.iam.gserviceaccount.com",
        "NOT_FOUND",
        errors.ServiceAccountMissing,
    ),
    _iam(
        "lifetime",
        400,
        "The access token lifetime cannot exceed 3600 seconds. If you'd like to allow a longer lifetime, see "
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension.",
        "INVALID_ARGUMENT",
        errors.LifetimeNotAllowed,
    ),
    _iam("throttled", 429, "Quota exceeded.", "RESOURCE_EXHAUSTED", errors.GoogleUnavailable),
    _iam("down", 503, "The service is currently unavailable.", "UNAVAILABLE", errors.GoogleUnavailable),
    _iam("broken", 500, "Internal error encountered.", "INTERNAL", errors.GoogleUnavailable),
    Answer("STS down", 503, '{"error": "temporarily_unavailable"}', errors.GoogleUnavailable),
    Answer("a load balancer's page", 502, _HTML, errors.GoogleUnavailable),
    Answer("nothing at all", 503, "", errors.GoogleUnavailable),
    Answer("too slow for a front end", 408, "", errors.GoogleUnavailable),
    Answer("throttled by a front end", 429, "rate limited", errors.GoogleUnavailable),
    Answer("a redirect", 302, '<a href="https://evil.example/">Moved</a>', errors.GoogleUnavailable),
]
"""Responses that have a category."""

UNKNOWN = [
    _sts("an unknown scope", "invalid_scope", "Some requested scopes were invalid.", errors.InternalError),
    _sts("an unknown request", "invalid_request", "Missing required field: subject_token", errors.InternalError),
    _iam(
        "an unknown argument",
        400,
        "Request contains an invalid argument.",
        "INVALID_ARGUMENT",
        errors.InternalError,
    ),
    _iam(
        "a federated token refused",
        401,
        "Request had invalid authentication credentials.",
        "UNAUTHENTICATED",
        errors.InternalError,
    ),
    _iam("another right", 403, "The caller does not have permission", "PERMISSION_DENIED", errors.InternalError),
    Answer(
        "details of another form", 403, '{"error": {"details": {"reason": "SERVICE_DISABLED"}}}', errors.InternalError
    ),
    Answer("a list for a reason", 403, '{"error": {"details": [{"reason": []}]}}', errors.InternalError),
    Answer("a proxy's page", 403, "<html>Blocked by policy</html>", errors.InternalError),
    Answer("another server", 404, "404 page not found", errors.InternalError),
    Answer("an array", 400, "[1, 2]", errors.InternalError),
    Answer("a string", 400, '"invalid_grant"', errors.InternalError),
    Answer("null", 400, "null", errors.InternalError),
    Answer("error is null", 400, '{"error": null}', errors.InternalError),
    Answer("error is a list", 400, '{"error": ["invalid_grant"]}', errors.InternalError),
    Answer("deep", 400, "[" * 70_000, errors.InternalError),
    Answer("empty", 400, "", errors.InternalError),
]
"""Permanent refusals without a category of their own."""
