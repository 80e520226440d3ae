"""Outcomes of a run that are not recorded yet."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pullkeeper.model import ClusterId, Target
from pullkeeper.refresh.outcomes import Attempt

_NOTHING: Final = Attempt({})


class Pending:
    """One attempt per cluster. A target's first outcome counts: a call that was closed later has not undone it."""

    def __init__(self) -> None:
        self.attempts: dict[ClusterId, Attempt] = {}
        self._known: dict[ClusterId, set[Target]] = {}

    def add(self, cluster: ClusterId, attempt: Attempt) -> None:
        known = self._known.setdefault(cluster, set())
        new = {target: outcome for target, outcome in attempt.outcomes.items() if target not in known}
        known.update(new)
        earlier = self.attempts.get(cluster, _NOTHING)
        if new or attempt.located_at or attempt.search:
            outcomes, search = {**earlier.outcomes, **new}, attempt.search or earlier.search
            self.attempts[cluster] = replace(attempt, outcomes=outcomes, search=search)

    def remove(self, recorded: Mapping[ClusterId, Attempt]) -> None:
        """Remove what was recorded, and keep what was added meanwhile."""
        for cluster, attempt in recorded.items():
            now = self.attempts.pop(cluster)
            left = {target: outcome for target, outcome in now.outcomes.items() if target not in attempt.outcomes}
            if left:
                self.attempts[cluster] = replace(now, outcomes=left, search=None)
