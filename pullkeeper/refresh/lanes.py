"""How the targets of one cluster share its few connections, so that a namespace without response costs its own only.

Of the four connections three are for targets whose last refresh went well, and one for those that failed: a namespace
whose webhook hangs waits there, and holds back only others that have failed too. One that begins to hang gives its
connection up after a few seconds. Where the first calls get no response at all, the cluster is silent, and the others
are not called.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pullkeeper.deadline import deadline
from pullkeeper.errors import (
    ClusterTlsUntrusted,
    ClusterUnauthorized,
    ClusterUnreachable,
    ClusterUnwell,
    PullkeeperError,
)
from pullkeeper.model import Target
from pullkeeper.refresh.outcomes import Outcome

_PROMPT, _SUSPECT = 3, 1
"""Connections; together those of one client."""
_PATIENCE: Final = timedelta(seconds=5)
_PATIENCE_WITH_SUSPECTS: Final = timedelta(seconds=10)
"""As long as an admission webhook may take by default."""
_SILENT: Final = 4
"""Calls without a response, and none with one: the cluster is silent."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who waits for the outcomes. may_begin: whether there is time for another target. report: takes each outcome when
    it is known.
    """

    may_begin: Callable[[], bool] = lambda: True
    report: Callable[[Target, Outcome], None] = lambda _target, _outcome: None


async def write_all(
    targets: Sequence[Target],
    write: Callable[[Target], Awaitable[Outcome]],
    has_failed: Callable[[Target], bool],
    watch: Watch,
) -> Mapping[Target, Outcome]:
    """Write all targets of a cluster. has_failed: whether the last refresh of one failed. Targets for which no time is
    left are missing from the result.
    """
    if len(targets) == 1:  # most clusters: without a task of its own
        return {targets[0]: await write(targets[0])}
    if len(targets) <= _PROMPT + _SUSPECT:
        outcomes = await asyncio.gather(*map(write, targets))
        return dict(zip(targets, outcomes, strict=True))
    return await _Lanes(write, has_failed, watch).run(targets)


class _Lanes:
    def __init__(
        self, write: Callable[[Target], Awaitable[Outcome]], has_failed: Callable[[Target], bool], watch: Watch
    ) -> None:
        self._write = write
        self._has_failed = has_failed
        self._watch = watch
        self._prompt, self._suspect = asyncio.Semaphore(_PROMPT), asyncio.Semaphore(_SUSPECT)
        self._unanswered = 0
        self._has_answered = False
        self._silence: PullkeeperError | None = None
        self._outcomes: dict[Target, Outcome] = {}

    async def run(self, targets: Sequence[Target]) -> Mapping[Target, Outcome]:
        # In any order: the same few that hang must not be taken for the cluster each time.
        order = random.sample(targets, len(targets))
        async with asyncio.TaskGroup() as group:
            for target in order:
                group.create_task(self._run_one(target))
        return self._outcomes

    async def _run_one(self, target: Target) -> None:
        failed = self._has_failed(target)
        async with self._suspect if failed else self._prompt:
            if self._silence:
                self._end(target, self._silence)
            elif self._watch.may_begin():
                with deadline(_PATIENCE_WITH_SUSPECTS if failed else _PATIENCE):
                    outcome = await self._write(target)
                self._count(outcome)
                self._end(target, outcome)

    def _count(self, outcome: Outcome) -> None:
        if not _is_silence(outcome):
            self._has_answered = True
        elif not self._has_answered:
            self._unanswered += 1
            if self._unanswered >= _SILENT and isinstance(outcome, PullkeeperError):
                self._silence = outcome

    def _end(self, target: Target, outcome: Outcome) -> None:
        self._outcomes[target] = outcome
        self._watch.report(target, outcome)


def _is_silence(outcome: Outcome) -> bool:
    """Whether no response came, or none that another target could be better off with."""
    of_the_cluster = (ClusterUnreachable, ClusterTlsUntrusted, ClusterUnauthorized)
    return isinstance(outcome, of_the_cluster) and not isinstance(outcome, ClusterUnwell)
