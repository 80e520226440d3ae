"""How the mints of a hub went: what one process writes down for all, and `GET /api/status` reports."""

from datetime import UTC, datetime
from typing import Final, Self

from pydantic import AwareDatetime

from pullkeeper.document import Document
from pullkeeper.errors import PullkeeperError

_EVER: Final = datetime.min.replace(tzinfo=UTC)


class MintProblem(Document):
    """A failure, or a warning of a mint that succeeded. runbook: the address of its page, set where it is shown."""

    category: str
    detail: str
    remedy: str
    runbook: str | None = None
    at: AwareDatetime

    @classmethod
    def of(cls, error: PullkeeperError, at: datetime) -> Self:
        return cls(category=error.category, detail=error.detail, remedy=error.remedy, at=at)


class MintRecord(Document):
    """The last mint of a hub, and the last failure since. Never a token.

    expires_at: of the minted token. mint_seconds: how long the mint took, from Entra to the probe. warning: the mint
    succeeded, but the registry could not be asked, or the probe image is gone.
    """

    last_mint: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    mint_seconds: float | None = None
    warning: MintProblem | None = None
    failure: MintProblem | None = None

    @classmethod
    def of_mint(cls, at: datetime, expires_at: datetime, seconds: float, warning: PullkeeperError | None) -> Self:
        problem = MintProblem.of(warning, at) if warning else None
        return cls(last_mint=at, expires_at=expires_at, mint_seconds=round(seconds, 3), warning=problem)

    @classmethod
    def of_failure(cls, at: datetime, failure: PullkeeperError) -> Self:
        return cls(failure=MintProblem.of(failure, at))

    def merge(self, other: Self) -> Self:
        """Return the later mint of two records, and the later failure if it came after that. Their order is of no
        importance: several processes write, and a write may be late.
        """
        minted = max(self, other, key=lambda record: record.last_mint or _EVER)
        failures = [record.failure for record in (self, other) if record.failure]
        since = [failure for failure in failures if failure.at > (minted.last_mint or _EVER)]
        last = max(since, key=lambda failure: failure.at, default=None)
        return minted.model_copy(update={"failure": last})
