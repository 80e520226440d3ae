"""The clock that the stand-ins and the tests share, so that an hour passes in no time and for everybody at once."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Call it for the time now (UTC, aware). It runs at the usual speed and can be moved on."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, by: timedelta) -> None:
        self._ahead += by
