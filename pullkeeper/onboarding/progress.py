"""Record the progress of an operation, step by step, for callers that poll it."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from pullkeeper import telemetry
from pullkeeper.cluster.manifests import as_text as manifest_text
from pullkeeper.errors import InternalError, OperationRunning, PullkeeperError
from pullkeeper.onboarding.documents import Operation, OperationStatus, Result, Step, StepStatus
from pullkeeper.onboarding.operations import Operations, StoredOperation
from pullkeeper.onboarding.work import Phase, Work


class Progress:
    """Saves every step as it begins and ends. Raises ChangedByAnother if another invocation wrote the operation."""

    def __init__(
        self, operations: Operations, stored: StoredOperation, phases: tuple[Phase, ...], clock: Callable[[], datetime]
    ) -> None:
        self._operations = operations
        self._stored = stored
        self._clock = clock
        steps = tuple(Step(name=phase.NAME) for phase in phases) or stored.operation.steps
        self.operation = stored.operation.model_copy(update={"steps": steps})

    async def start(self, phase: Phase) -> None:
        await self._save("Running", self._replace(Step(name=phase.NAME, status="running")))

    async def finish(self, phase: Phase, detail: str) -> None:
        status: StepStatus = "planned" if self.operation.dry_run else "done"
        await self._save("Running", self._replace(Step(name=phase.NAME, status=status, detail=detail)))

    async def skip(self, phase: Phase, why: str) -> None:
        await self._save("Running", self._replace(Step(name=phase.NAME, status="skipped", detail=why)))

    async def end_superseded(self) -> Operation:
        """End an operation that was abandoned: the cluster has another one by now."""
        self._fail_step(
            self.operation.steps[0].name,
            OperationRunning("the cluster has another operation by now"),
        )
        return await self.end("Failed", None)

    async def end_interrupted(self) -> Operation:
        """End an operation whose every try was interrupted in the step that runs."""
        for step in self.operation.steps:
            if step.status == "running":
                self._fail_step(step.name, InternalError("every try was cut off here"))
        return await self.end("Failed", None)

    async def fail(self, error: PullkeeperError, work: Work | None) -> Operation:
        """Record a failure. The operation ends, unless another try can help."""
        running = next((step for step in self.operation.steps if step.status == "running"), self.operation.steps[0])
        self._fail_step(running.name, error)
        if not error.retryable:
            return await self.end("Failed", work)
        await self._save("Running", self.operation.steps)
        return self.operation

    async def end(self, status: OperationStatus, work: Work | None) -> Operation:
        seconds = (self._clock() - self.operation.created_at).total_seconds()
        result = Result(
            handover=work.handover if work else None,
            seconds=round(seconds, 1),
            left=tuple(dict.fromkeys(work.left)) if work else (),
            manifests=manifest_text(work.manifests) if work and work.manifests else None,
            issuer=work.issuer if work else None,
            complete=work.complete if work else True,
        )
        self.operation = self.operation.model_copy(update={"result": result})
        await self._save(status, self.operation.steps)
        worst = next((step for step in self.operation.steps if step.category), None)
        telemetry.emit(
            "operation.completed",
            {
                "operation": self.operation.id,
                "kind": self.operation.kind,
                "cluster": str(self.operation.cluster),
                "status": status,
                "seconds": seconds,
                "category": worst.category if worst else None,
            },
            logging.ERROR if status == "Failed" else logging.INFO,
        )
        return self.operation

    def _fail_step(self, name: str, error: PullkeeperError) -> None:
        failed = Step(name=name, status="failed", detail=error.detail, category=error.category, remedy=error.remedy)
        steps = self._replace(failed)
        self.operation = self.operation.model_copy(update={"steps": steps})

    def _replace(self, changed: Step) -> tuple[Step, ...]:
        return tuple(changed if step.name == changed.name else step for step in self.operation.steps)

    async def _save(self, status: OperationStatus, steps: tuple[Step, ...]) -> None:
        update = {"status": status, "steps": steps, "updated_at": self._clock()}
        self.operation = self.operation.model_copy(update=update)
        self._stored = await self._operations.save(replace(self._stored, operation=self.operation))
