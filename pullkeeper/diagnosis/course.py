"""How the hops of a diagnosis run: all at once. A hop that needs what another one finds waits for it, and is skipped if
that finds nothing. A hop that does not end in time has failed, and the others report all the same.
"""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar, get_args

from pullkeeper import telemetry
from pullkeeper.deadline import deadline
from pullkeeper.diagnosis.report import Hop, HopName, HopState
from pullkeeper.documentation import Documentation
from pullkeeper.errors import DeadlinePassed, PullkeeperError, redact

ORDER: Final[tuple[HopName, ...]] = get_args(HopName)
_WORST_FIRST: Final[tuple[HopState, ...]] = ("failed", "warning", "ok", "skipped")
_FOR_CALLS: Final = 6 / 7
"""Of the limit. The rest is for what follows the last call."""
_IN_FULL: Final = 20
"""Of a hop with many subjects: those that are not as they should be. All hops then fit into a response of 1 MiB."""
_FEW: Final = 5
"""So many subjects are always shown."""
_T = TypeVar("_T")


class Blocked(Exception):
    """A hop has found nothing to go on with. because: the first one on the way to it that has to be repaired."""

    def __init__(self, because: HopName) -> None:
        self.because = because
        super().__init__(because)


@dataclass(frozen=True, slots=True)
class Step(Generic[_T]):
    """A hop that runs, and what it will find."""

    name: HopName
    task: "asyncio.Task[_T]"


class Course:
    """The hops of one diagnosis, or of the part of it that several share."""

    def __init__(self, documentation: Documentation, limit: timedelta) -> None:
        """limit: for everything. The calls of the hops get a little less."""
        self._documentation = documentation
        self._limit = limit
        self._ends = asyncio.get_running_loop().time() + limit.total_seconds()
        self._steps: list[Step[Any]] = []
        self._waiting: dict[HopName, HopName] = {}
        self._hops: defaultdict[HopName, list[Hop]] = defaultdict(list)

    def start(self, name: HopName, examine: Coroutine[Any, Any, _T]) -> Step[_T]:
        """Run a hop beside the others. examine: adds what it finds, and returns what later hops need. What it raises
        becomes the hop's failure.
        """
        step = Step(name, asyncio.create_task(self._run(name, examine)))
        step.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # it counts as retrieved
        self._steps.append(step)
        return step

    async def need(self, name: HopName, step: Step[_T]) -> _T:
        """Wait, as the hop `name`, for what an earlier one finds. Raises Blocked."""
        self._waiting[name] = step.name
        try:
            return await asyncio.shield(step.task)
        except asyncio.CancelledError:
            if step.task.cancelled():  # it has been given up
                raise Blocked(step.name) from None
            raise
        finally:
            self._waiting.pop(name, None)

    def add(
        self,
        name: HopName,
        state: HopState,
        detail: str,
        *,
        subject: object = None,
        evidence: Mapping[str, object] | None = None,
    ) -> None:
        self._hops[name].append(build_hop(name, state, detail, subject=subject, evidence=evidence))

    def fail(
        self,
        name: HopName,
        error: PullkeeperError,
        state: HopState = "failed",
        *,
        subject: object = None,
        evidence: Mapping[str, object] | None = None,
    ) -> None:
        """state: warning where it harms nothing yet, skipped where no identity may look."""
        self._hops[name].append(self.explain(name, error, state, subject=subject, evidence=evidence))

    @contextmanager
    def show(self, name: HopName, evidence: Mapping[str, object]) -> Iterator[None]:
        """Show this evidence if the hop fails inside."""
        try:
            yield
        except PullkeeperError as e:
            failure = e.with_context()
        else:
            return
        self.fail(name, failure, evidence=evidence)
        raise Blocked(name)  # outside of the handler: what it caught may quote a token

    def explain(
        self,
        name: HopName,
        error: PullkeeperError,
        state: HopState = "failed",
        *,
        subject: object = None,
        evidence: Mapping[str, object] | None = None,
    ) -> Hop:
        """Return a hop with category, remedy and runbook page of a failure."""
        hop = build_hop(name, state, error.detail, subject=subject, evidence=evidence)
        about = {"category": error.category, "remedy": error.remedy, "runbook": self.page(error.category)}
        return hop.model_copy(update=about)

    def page(self, category: str | None) -> str | None:
        """Return the address of a category's page in the runbook."""
        return self._documentation.page(category)

    def skip(self, name: HopName, because: HopName) -> None:
        self._hops[name].append(skipped(name, because))

    def add_all(self, name: HopName, hops: Iterable[Hop], *, what: str, unseen: int = 0) -> None:
        """Add one hop for each subject. Of many, those that are not as they should be, and one that counts the others.

        what: the subjects, in the plural. unseen: for how many of them there was no time.
        """
        found = sorted(hops, key=lambda hop: _WORST_FIRST.index(hop.state))
        shown = found if len(found) <= _FEW else [hop for hop in found if hop.state in {"failed", "warning"}][:_IN_FULL]
        rest = found[len(shown) :]
        self._hops[name] += shown
        if not found and not unseen:
            self.add(name, "ok", f"there are no {what}")
        if rest or unseen:
            counts = {state: sum(hop.state == state for hop in rest) for state in _WORST_FIRST}
            parts = [f"{count} {state}" for state, count in counts.items() if count]
            parts += [f"{unseen} not looked at for lack of time"] if unseen else []
            detail = f"{'others of the ' if shown else ''}{len(found) + unseen} {what}: {', '.join(parts)}"
            first = rest[0] if rest else build_hop(name, "skipped", detail)
            self._hops[name].append(first.model_copy(update={"subject": None, "detail": detail, "evidence": {}}))

    def has_failed_with(self, name: HopName, kind: type[PullkeeperError]) -> bool:
        return any(hop.category == kind.category and hop.state == "failed" for hop in self._hops[name])

    @property
    def has_ended(self) -> bool:
        return all(step.task.done() for step in self._steps)

    async def finish(self) -> list[Hop]:
        """Wait for all hops, or until the limit, and return them. May be called several times."""
        tasks = [step.task for step in self._steps]
        left = self._ends - asyncio.get_running_loop().time()
        _, late = await asyncio.wait(tasks, timeout=left)
        for step in self._steps:
            if step.task in late:
                self._give_up(step)
        await asyncio.gather(*tasks, return_exceptions=True)
        return [hop for hops in self._hops.values() for hop in hops]

    async def close(self) -> None:
        """End the hops that still run: whoever waited for them no longer does."""
        for step in self._steps:
            step.task.cancel()
        await asyncio.gather(*(step.task for step in self._steps), return_exceptions=True)

    def _give_up(self, step: Step[Any]) -> None:
        name = step.name
        if not step.task.cancel() or self._hops[name]:
            return
        because = name
        while because in self._waiting:
            because = self._waiting[because]
        if because == name:
            self.fail(name, DeadlinePassed(f"it did not end within {self._limit.total_seconds():.0f} s"))
        else:
            self.skip(name, because)

    async def _run(self, name: HopName, examine: Coroutine[Any, Any, _T]) -> _T:
        try:
            with deadline(self._limit * _FOR_CALLS):
                return await examine
        except Blocked as e:
            because = e.because
            if not self._hops[name]:
                self.skip(name, because)
        except PullkeeperError as e:
            because = name
            self.fail(name, e)
        except Exception as e:  # noqa: BLE001 - nothing above may see its text
            because = name
            self.fail(name, telemetry.report_unexpected(f"the hop {name}", e))
        raise Blocked(because)  # outside of the handlers: what they caught may quote a token


def build_hop(
    name: HopName,
    state: HopState,
    detail: str,
    *,
    subject: object = None,
    evidence: Mapping[str, object] | None = None,
) -> Hop:
    """Every text is redacted: it may quote a service."""
    seen = {key: redact(str(value)) for key, value in (evidence or {}).items() if value is not None}
    about = None if subject is None else str(subject)
    return Hop(name=name, subject=about, state=state, detail=redact(detail), evidence=seen)


def skipped(name: HopName, because: HopName, subject: object = None) -> Hop:
    hop = build_hop(name, "skipped", f"not looked at: {because} comes first", subject=subject)
    return hop.model_copy(update={"because": because})


def worst(hops: Iterable[Hop]) -> HopState:
    """Skipped hops do not count, unless there are no others."""
    return min((hop.state for hop in hops), key=_WORST_FIRST.index, default="skipped")
