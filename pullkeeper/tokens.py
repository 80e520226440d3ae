"""The types in which a credential exists, and the times that follow from a token's life.

Every time in Pullkeeper is a fraction of the token's life (an hour, unless a hub says otherwise), so a fleet with
ten-minute tokens keeps the same promises as one with hour-long ones:

    0          1/6        5/12       1/2                    1
    |--written--|          |-due------|                      |
    minted      no longer  the timer  replaced by here       expired
                written    may pick   (the promise)
                           it up

Between the last moment at which a replacement starts and expiry lies half a life: an outage of 5/12 (25 of 60
minutes), and 1/12 until the next try.
"""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NoReturn


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. Its text comes out by `reveal` alone; there is no other way to print, format or pickle it."""

    _text: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime

    def reveal(self) -> str:
        """The text. Whoever calls this sends it where it belongs, and keeps it nowhere."""
        return self._text

    @property
    def life(self) -> timedelta:
        return self.expires_at - self.issued_at

    def may_be_written(self, now: datetime) -> bool:
        """Whether at least 5/6 of its life is left."""
        return self.issued_at <= now <= self.issued_at + self.life / 6

    def __str__(self) -> str:
        return "[token]"

    def __format__(self, spec: str) -> str:
        return "[token]"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not to be pickled")

    def __copy__(self) -> "Token":
        return self


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """For clusters without Entra integration. PEM texts, kept in memory only."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "ClientCertificate([redacted])"


def next_due(token: Token) -> datetime:
    """When a secret with this token is due again: up to 1/24 of its life before 5/12, so that a fleet that was
    onboarded in one go does not stay in step for ever.
    """
    return token.issued_at + token.life * (5 / 12 - random.uniform(0, 1 / 24))  # noqa: S311 - spreads load only


def lease(life: timedelta) -> timedelta:
    """How long the scheduler leaves a cluster to the message that it has put on the queue. A host that was killed
    gives its messages back after 10 minutes; with an hour's token that is the same time.
    """
    return life / 6


def slow_retry(life: timedelta) -> timedelta:
    """After a failure that only a person can mend: soon enough to notice, seldom enough to be no load."""
    return life / 4


def retry(life: timedelta, failures: int) -> timedelta:
    """After the queue has given up for the nth time in a row: at the next tick while the last good token may be
    alive, then in growing steps up to a third of a life.
    """
    patience = 6
    return min(life / 12 * 2 ** (failures - patience), life / 3) if failures > patience else timedelta()
