"""How many calls Azure Resource Manager takes from a principal in a subscription, whatever they are for.

Source: learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling. A POST counts as a
write.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from local.azure.routing import RateLimit, arm_error


class PrincipalLimits:
    """by_kind: the limits on reads, writes and deletes."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.by_kind = {
            "read": RateLimit(250, timedelta(seconds=1) / 25),
            "write": RateLimit(200, timedelta(seconds=1) / 10),
            "delete": RateLimit(200, timedelta(seconds=1) / 10),
        }
        self._clock = clock

    def count(self, method: str, principal: str, subscription: str) -> None:
        """Raises Refusal 429 for a call beyond the limit."""
        kind = {"GET": "read", "DELETE": "delete"}.get(method, "write")
        retry_after = self.by_kind[kind].take(f"{subscription}/{principal}", self._clock())
        if retry_after:
            exceeded = (
                f"Number of '{kind}' requests for subscription '{subscription}' actor '{principal}' exceeded. "
                f"Please try again after '{retry_after}' seconds after additional tokens are available. Refer to "
                "https://aka.ms/arm-throttling for additional information."
            )
            raise arm_error(429, "SubscriptionRequestsThrottled", exceeded, {"Retry-After": retry_after})
