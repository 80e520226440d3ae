"""Record the progress of an operation, step by step, for callers that poll it."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pullkeeper import telemetry
from pullkeeper.cluster.manifests import as_text as manifest_text
from pullkeeper.errors import InternalError, OperationRunning, PullkeeperError
from pullkeeper.onboarding.documents import Operation, OperationStatus, Result, Step, StepStatus
from pullkeeper.onboarding.many import shorten
from pullkeeper.onboarding.operations import Operations
from pullkeeper.onboarding.rows import StoredOperation
from pullkeeper.onboarding.work import Phase, Work


class Progress:
    """Saves each step as it begins, with how the one before it ended. The first save claims the operation's turn, so
    that no other message of it finds anything to do. Raises ChangedByAnother if another invocation wrote the operation.
    """

    def __init__(
        self, operations: Operations, stored: StoredOperation, phases: tuple[Phase, ...], clock: Callable[[], datetime]
    ) -> None:
        """phases: those that begin again; without any the steps stay as they were saved."""
        self._operations = operations
        self._stored = replace(stored, turn=stored.turn + 1, due=None)
        self._clock = clock
        steps = tuple(Step(name=phase.NAME) for phase in phases) or stored.operation.steps
        self.operation = stored.operation.model_copy(update={"steps": steps})

    @property
    def running_step(self) -> str | None:
        return next((step.name for step in self.operation.steps if step.status == "running"), None)

    async def start(self, phase: Phase, *, saved: bool = True) -> None:
        """saved: False for a step that ends at once: the next save records it."""
        self._note(Step(name=phase.NAME, status="running"))
        if saved:
            await self._save("Running", self.operation.steps)

    def finish(self, phase: Phase, detail: str) -> None:
        status: StepStatus = "planned" if self.operation.dry_run else "done"
        self._note(Step(name=phase.NAME, status=status, detail=detail))

    def skip(self, phase: Phase, why: str) -> None:
        self._note(Step(name=phase.NAME, status="skipped", detail=why))

    async def pause(self, detail: str, delay: timedelta = timedelta(), **changes: Any) -> StoredOperation:
        """Leave the step running, with a detail, until the next message. changes: further fields of the row."""
        name = self.running_step or self.operation.steps[0].name
        steps = self._replace(Step(name=name, status="running", detail=detail))
        return await self._leave(steps, delay, **changes)

    async def retry(self, error: PullkeeperError, delay: timedelta) -> StoredOperation:
        """Record a failed try, until the next message, which reads the cluster again."""
        steps = self._failed_steps(error, error.remedy)
        return await self._leave(steps, delay, tries=self._stored.tries + 1, facts=None, endpoint=None)

    async def fail(self, error: PullkeeperError, work: Work | None) -> Operation:
        """End the operation, with this failure of the step that runs."""
        remedy = f"{error.final_remedy.removesuffix('.')}. {self._describe_restart()}"
        self.operation = self.operation.model_copy(update={"steps": self._failed_steps(error, remedy)})
        return await self.end("Failed", work)

    async def end_superseded(self) -> Operation:
        """End an operation that was abandoned: the cluster has another one by now."""
        return await self.fail(OperationRunning("the cluster has another operation by now"), None)

    async def end_interrupted(self) -> Operation:
        """End an operation that no try has brought past the step that runs."""
        return await self.fail(InternalError("the app's process ended in this step at every try"), None)

    async def end(self, status: OperationStatus, work: Work | None) -> Operation:
        seconds = (self._clock() - self.operation.created_at).total_seconds()
        result = Result(
            handover=work.handover if work else None,
            seconds=round(seconds, 1),
            left=shorten(dict.fromkeys(work.left)) if work else (),
            manifests=manifest_text(work.manifests) if work and work.manifests else None,
            issuer=work.issuer if work else None,
            complete=work.complete if work else True,
        )
        self.operation = self.operation.model_copy(update={"result": result})
        await self._save(status, self.operation.steps)
        failed = next((step for step in self.operation.steps if step.category), None)
        telemetry.emit(
            "operation.completed",
            {
                "operation": self.operation.id,
                "kind": self.operation.kind,
                "cluster": str(self.operation.cluster),
                "status": status,
                "seconds": seconds,
                "category": failed.category if failed else None,
            },
            logging.ERROR if status == "Failed" else logging.INFO,
        )
        return self.operation

    def _describe_restart(self) -> str:
        """Say how an operation that has failed is started again."""
        cluster = self.operation.cluster
        again = (
            "onboard again: POST /api/clusters with the same body"
            if self.operation.kind == "onboard"
            else f"offboard again: DELETE /api/clusters/{cluster.subscription}/{cluster.resource_group}/{cluster.name}"
        )
        return f"Then {again}. This operation is not tried again."

    def _failed_steps(self, error: PullkeeperError, remedy: str) -> tuple[Step, ...]:
        if not self.operation.steps:
            return ()
        name = self.running_step or self.operation.steps[0].name
        failure = {"detail": error.detail, "category": error.category, "remedy": remedy}
        return self._replace(Step(name=name, status="failed", **failure))

    def _note(self, step: Step) -> None:
        self.operation = self.operation.model_copy(update={"steps": self._replace(step)})

    def _replace(self, changed: Step) -> tuple[Step, ...]:
        return tuple(changed if step.name == changed.name else step for step in self.operation.steps)

    async def _leave(self, steps: tuple[Step, ...], delay: timedelta, **changes: Any) -> StoredOperation:
        self._stored = replace(self._stored, due=self._clock() + delay, **changes)
        await self._save("Running", steps)
        return self._stored

    async def _save(self, status: OperationStatus, steps: tuple[Step, ...]) -> None:
        update = {"status": status, "steps": steps, "updated_at": self._clock()}
        self.operation = self.operation.model_copy(update=update)
        self._stored = await self._operations.save(replace(self._stored, operation=self.operation))
