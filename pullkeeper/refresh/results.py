"""The results of a run: events of what has been recorded, and how much of it went well."""

from collections import Counter

from pullkeeper.errors import PullkeeperError
from pullkeeper.fleet.status import Status
from pullkeeper.model import ClusterId
from pullkeeper.refresh.outcomes import Attempt, report_found, report_outcome, report_search
from pullkeeper.refresh.pace import QUICK_TRIES


class Results:
    """counts: targets, and lists of namespaces that failed, by category; `ok` for none. retry_soon: a failure is worth
    a quick try.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.retry_soon = False

    def report(self, cluster: ClusterId, attempt: Attempt, before: Status, after: Status) -> None:
        """Report what has been recorded of a cluster. before, after: its status."""
        report_found(cluster, before, after)
        if attempt.search and after.search and after.search.category:
            report_search(cluster, after.search)
            self.counts[after.search.category] += 1
            self._note(attempt.search, after.search.failures)
        for target, outcome in attempt.outcomes.items():
            report_outcome(cluster, target, outcome)
            self.counts[outcome.category if isinstance(outcome, PullkeeperError) else "ok"] += 1
            self._note(outcome, after.of(target).failures)

    def _note(self, result: object, failures: int) -> None:
        self.retry_soon |= isinstance(result, PullkeeperError) and result.retryable and failures <= QUICK_TRIES
