"""How an operation goes: written down step by step, so that whoever polls sees it go on."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from pullkeeper import telemetry
from pullkeeper.cluster.manifests import as_text as manifest_text
from pullkeeper.errors import InternalError, OperationRunning, PullkeeperError
from pullkeeper.onboarding.documents import Operation, OperationStatus, Result, Step, StepStatus
from pullkeeper.onboarding.operations import Job, Operations
from pullkeeper.onboarding.work import Phase, Work


class Progress:
    """Writes down every step as it begins and ends. Raises Overtaken where somebody else does, too."""

    def __init__(
        self, operations: Operations, job: Job, phases: tuple[Phase, ...], clock: Callable[[], datetime]
    ) -> None:
        self._operations = operations
        self._job = job
        self._clock = clock
        steps = tuple(Step(name=phase.NAME) for phase in phases) or job.operation.steps
        self.operation = job.operation.model_copy(update={"steps": steps})

    async def at(self, phase: Phase) -> None:
        await self._save("Running", self._with(Step(name=phase.NAME, status="running")))

    async def done(self, phase: Phase, detail: str) -> None:
        status: StepStatus = "planned" if self.operation.dry_run else "done"
        await self._save("Running", self._with(Step(name=phase.NAME, status=status, detail=detail)))

    async def skipped(self, phase: Phase, why: str) -> None:
        await self._save("Running", self._with(Step(name=phase.NAME, status="skipped", detail=why)))

    async def overtaken(self) -> Operation:
        """It had been taken for abandoned, and another one has the cluster by now."""
        self._fail(self.operation.steps[0].name, OperationRunning("another operation has taken the cluster over"))
        return await self.end("Failed", None)

    async def cut_off(self) -> Operation:
        """What was under way when its host went, or met what nobody expected, has failed."""
        for step in self.operation.steps:
            if step.status == "running":
                self._fail(step.name, InternalError("every try was cut off here"))
        return await self.end("Failed", None)

    async def failed(self, error: PullkeeperError, work: Work | None) -> Operation:
        """While another try is to come the operation is still running."""
        running = next((step for step in self.operation.steps if step.status == "running"), self.operation.steps[0])
        self._fail(running.name, error)
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
            manifests=manifest_text(work.rendered) if work and work.rendered else None,
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

    def _fail(self, name: str, error: PullkeeperError) -> None:
        told = {"detail": error.detail, "category": error.category, "remedy": error.remedy}
        steps = self._with(Step(name=name, status="failed", **told))
        self.operation = self.operation.model_copy(update={"steps": steps})

    def _with(self, changed: Step) -> tuple[Step, ...]:
        return tuple(changed if step.name == changed.name else step for step in self.operation.steps)

    async def _save(self, status: OperationStatus, steps: tuple[Step, ...]) -> None:
        update = {"status": status, "steps": steps, "updated_at": self._clock()}
        self.operation = self.operation.model_copy(update=update)
        self._job = await self._operations.save(replace(self._job, operation=self.operation))
