"""The clock that stand-ins and tests share: a test moves it forward for all of them at once."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Call it for the current time (UTC, aware). It runs at normal speed and can be moved forward."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, by: timedelta) -> None:
        self._ahead += by
