"""When a target is due. All times are fractions of its token's life: an hour, or anything from a minute to 12 hours.

A token is at most 1/12 old when it is written, the period is a third, and a tick comes at least every twelfth; so a
secret is replaced by half of its token's life, and 25 minutes of an hour remain to survive an outage.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from pullkeeper.fleet.shards import Shard, phase

_EPOCH: Final = datetime(2020, 1, 1, tzinfo=UTC)
QUICK_TRIES: Final = 5
_TICK_TRIES: Final = 7


def tick(life: timedelta) -> timedelta:
    """Return the longest time between two ticks with which the promises hold."""
    return life / 12


def period(life: timedelta) -> timedelta:
    """Return the time between two refreshes of a target."""
    return life / 3


def next_due(shard: Shard, life: timedelta, now: datetime) -> datetime:
    """Return when a target that was just refreshed is due again: the next time that the shard's phase names. The phase
    is fixed, so that a fleet which was onboarded at once spreads over the period within one period.
    """
    every = period(life)
    offset = phase(shard) * every
    return _EPOCH + offset + ((now - _EPOCH - offset) // every + 1) * every


def quick_retry(life: timedelta) -> timedelta:
    """Return the pause before a quick try: 30 seconds with an hour's token."""
    return life / 120


def retry(life: timedelta, failures: int) -> timedelta:
    """Return the pause after the nth failure in a row that another try can help: quick tries, then none, so that every
    tick tries while the last good token may be alive, then growing steps up to a third of a life.
    """
    if failures <= QUICK_TRIES:
        return quick_retry(life)
    if failures <= QUICK_TRIES + _TICK_TRIES:
        return timedelta()
    return tick(life) * (1 << min(failures - QUICK_TRIES - _TICK_TRIES, 2))


def slow_retry(life: timedelta) -> timedelta:
    """Return the pause after a failure that only a person can fix: soon enough to notice the fix, seldom enough to be
    no load.
    """
    return life / 4
