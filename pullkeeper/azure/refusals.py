"""What the error responses of Azure Resource Manager mean: the only place that looks at their status and text.

The SDK's message begins with Azure's error code, as in `(ScopeLocked) The scope ... cannot perform delete`, so a row
can name a code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from azure.core.exceptions import HttpResponseError, IncompleteReadError

from pullkeeper.errors import (
    ArmConflict,
    ArmDenied,
    ArmThrottled,
    ArmUnavailable,
    ClusterChanging,
    FederatedCredentialBusy,
    FederatedCredentialConflict,
    InternalError,
    LinkedRightMissing,
    PolicyDenied,
    ProviderNotRegistered,
    PullkeeperError,
    ScopeLocked,
    parse_retry_after,
)

_ANY: Final = 0
# HTTP status, a part of code or message, and what that means. The first that fits counts.
_REFUSALS: Final[tuple[tuple[int, str, type[PullkeeperError]], ...]] = (
    (400, "Issuer and subject combination already exists", FederatedCredentialConflict),
    (400, "Federated Identity Credentials", FederatedCredentialConflict),
    (403, "(LinkedAuthorizationFailed)", LinkedRightMissing),
    (403, "(RequestDisallowedByPolicy)", PolicyDenied),
    (409, "(ScopeLocked)", ScopeLocked),
    (409, "(MissingSubscriptionRegistration)", ProviderNotRegistered),
    (409, "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity", FederatedCredentialBusy),
    # AKS uses OperationNotAllowed for more than this.
    (409, "Another operation", ClusterChanging),
    (_ANY, "TooManyRequests", ArmThrottled),
    (429, "", ArmThrottled),
    # JSON that the SDK cannot read.
    (200, "", ArmUnavailable),
    (408, "", ArmUnavailable),
)
_NAMES: Final = re.compile(
    r"action(?:\(s\))? '(?P<linked_action>[^',]+)[^']*' on the linked scope\(s\) '(?P<linked_scope>[^',]+)"
    r"|scope\(s\) are locked: '(?P<locked_scope>[^',]+)"
    r"|to use namespace '(?P<provider_namespace>[^']+)'"
    r'|"policyAssignment":{[^}]*"id":"(?P<policy_assignment>[^"]+)"'
)
"""What remedies name. Of several actions and scopes, the first: a role assignment has one."""


@dataclass(frozen=True, slots=True)
class Meanings:
    """What a refusal means for one call, where no row of the table says more.

    denied: 401 and 403. missing: 404. conflict: 409 and 412.
    """

    denied: type[ArmDenied] = ArmDenied
    missing: type[PullkeeperError] = InternalError
    conflict: type[PullkeeperError] = ArmConflict

    def of(self, status: int) -> type[PullkeeperError]:
        """The meaning of a status by itself; a 5xx is temporary, anything else is a defect of ours."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ArmUnavailable
        by_status = {401: self.denied, 403: self.denied, 404: self.missing, 409: self.conflict, 412: self.conflict}
        return by_status.get(status, InternalError)


def map_refusal(response: HttpResponseError, context: Mapping[str, str], meanings: Meanings) -> PullkeeperError:
    """Translate an error response of Azure Resource Manager."""
    status, text = response.status_code or 0, response.message
    fits = (kind for code, part, kind in _REFUSALS if code in {status, _ANY} and part in text)
    # One that broke off has no status.
    kind = ArmUnavailable if isinstance(response, IncompleteReadError) else next(fits, meanings.of(status))
    found = _NAMES.search(text)
    named = {name: value for name, value in found.groupdict().items() if value} if found else {}
    return kind(text, {**context, **named}, retry_after=parse_retry_after(getattr(response.response, "headers", {})))
