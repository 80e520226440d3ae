"""A workload identity pool's OIDC provider: verifies subject tokens with Google's error messages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jwt

from local.serving import Refusal

Keys = Callable[[], Mapping[str, Any]]

_SKEW: Final = timedelta(seconds=60)
_LONGEST_SUBJECT: Final = 127
"""In bytes."""
# Times are compared with the injected clock, and audiences with the provider's list: PyJWT can do neither.
_SIGNATURE_ONLY: Final[Any] = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}


@dataclass(slots=True)
class Provider:
    """A provider with the mapping google.subject=assertion.sub.

    pool: `projects/NUMBER/locations/global/workloadIdentityPools/POOL`. keys: returns the JWKS that its issuer
    publishes. condition: the attribute condition on the token's claims.
    """

    pool: str
    issuer: str
    allowed_audiences: frozenset[str]
    keys: Keys
    condition: Callable[[Mapping[str, Any]], bool] = lambda _: True
    disabled: bool = False

    def verify(self, token: str, now: datetime) -> dict[str, Any]:
        """Return the claims of a subject token. Raises Refusal."""
        claims = self._verify_signature(token)
        issued, expires = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(expires, int) or not _is_valid(issued, expires, now):
            raise sts_error("invalid_grant", f"ID Token issued at {issued} is stale to sign-in.")
        audience = claims.get("aud")
        # Kubernetes writes a list, Entra a string.
        audiences = [str(one) for one in (audience if isinstance(audience, list) else [audience])]
        if not self.allowed_audiences.intersection(audiences):
            raise sts_error(
                "invalid_grant",
                f"The audience in ID Token [{', '.join(audiences)}] does not match the expected audience.",
            )
        if not claims.get("sub"):
            raise sts_error(
                "invalid_grant",
                "Could not obtain a value for google.subject from the given credential. Either the mapping "
                "assertion.sub is invalid or the mapped value was an empty string.",
            )
        if len(str(claims["sub"]).encode()) > _LONGEST_SUBJECT:
            raise sts_error(
                "invalid_request",
                f"The size of mapped attribute google.subject exceeds the {_LONGEST_SUBJECT} bytes limit. Either "
                "modify your attribute mapping or the incoming assertion to produce a mapped attribute that is less "
                f"than {_LONGEST_SUBJECT} bytes.",
            )
        if not self.condition(claims):
            raise sts_error("unauthorized_client", "The given credential is rejected by the attribute condition.")
        return claims

    def _verify_signature(self, token: str) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.PyJWTError:
            raise sts_error("invalid_grant", "Unable to parse the ID Token.") from None
        if issuer != self.issuer:
            raise sts_error(
                "invalid_grant",
                f"The issuer in ID Token {issuer} does not match the expected one in config: {self.issuer}",
            )
        keys = jwt.PyJWKSet.from_dict(dict(self.keys())).keys
        key = next((key for key in keys if key.key_id == key_id), None)
        if key is None:
            raise sts_error("invalid_grant", "Error connecting to the given credential's issuer.")
        try:
            claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256", "ES256"], options=_SIGNATURE_ONLY)
        except jwt.PyJWTError:
            raise sts_error("invalid_grant", "Unable to verify the ID Token signature.") from None
        return claims


def _is_valid(issued: int, expires: int, now: datetime) -> bool:
    """Google's clock and the issuer's may differ by a minute either way."""
    return issued - _SKEW.total_seconds() <= now.timestamp() <= expires + _SKEW.total_seconds()


def sts_error(error: str, description: str) -> Refusal:
    return Refusal(400, {"error": error, "error_description": description})
