"""Error responses of Google's APIs, in the form of google.rpc.Status.

The front end that all APIs share writes those of disabled services and of service perimeters, so STS has them in this
form too, not in the form of OAuth.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from local.serving import Refusal

STS: Final = "sts.googleapis.com"
IAM_CREDENTIALS: Final = "iamcredentials.googleapis.com"
_TITLES: Final = {STS: "Security Token Service API", IAM_CREDENTIALS: "IAM Service Account Credentials API"}


def api_error(code: int, message: str, status: str, details: Sequence[Mapping[str, Any]] = ()) -> Refusal:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return Refusal(code, {"error": {**error, "details": list(details)} if details else error})


def permission_denied(message: str, reason: str, **metadata: str) -> Refusal:
    return api_error(403, message, "PERMISSION_DENIED", [_error_info(reason, "iam.googleapis.com", metadata)])


def service_disabled(service: str, project: str) -> Refusal:
    """project: the number of the project that the call counts for."""
    title = _TITLES[service]
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={project}"
    message = (
        f"{title} has not been used in project {project} before or it is disabled. Enable it by visiting {url} then "
        "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and "
        "retry."
    )
    metadata = {
        "service": service,
        "serviceTitle": title,
        "consumer": f"projects/{project}",
        "containerInfo": project,
        "activationUrl": url,
    }
    return api_error(
        403,
        message,
        "PERMISSION_DENIED",
        [
            _error_info("SERVICE_DISABLED", "googleapis.com", metadata),
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message},
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{"description": "Google developers console API activation", "url": url}],
            },
        ],
    )


def outside_perimeter(service: str, project: str) -> Refusal:
    """VPC Service Controls protect the service in the project, and the caller is outside of the perimeter."""
    identifier = secrets.token_urlsafe(40)
    message = f"Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: {identifier}"
    violation = {"type": "VPC_SERVICE_CONTROLS", "description": identifier}
    metadata = {"uid": identifier, "service": service, "consumer": f"projects/{project}"}
    return api_error(
        403,
        message,
        "PERMISSION_DENIED",
        [
            {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]},
            _error_info("SECURITY_POLICY_VIOLATED", "googleapis.com", metadata),
        ],
    )


def _error_info(reason: str, domain: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": domain,
        "metadata": metadata,
    }
