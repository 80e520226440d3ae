"""Use case: accept onboardings and offboardings, as operations that run from the queue."""

from pullkeeper.documentation import Documentation
from pullkeeper.errors import Forbidden, InvalidRequest, OperationRunning, PullkeeperError
from pullkeeper.model import ClusterId
from pullkeeper.onboarding.documents import Kind, Onboarding, Operation
from pullkeeper.onboarding.messages import Messages
from pullkeeper.onboarding.operations import Operations
from pullkeeper.onboarding.progress import Progress
from pullkeeper.onboarding.rows import create_operation_id
from pullkeeper.onboarding.work import Tools


class Onboarder:
    """allowed: subscriptions and resource groups (resource ids) whose clusters may be onboarded."""

    def __init__(
        self,
        operations: Operations,
        messages: Messages,
        tools: Tools,
        allowed: frozenset[str],
        documentation: Documentation,
    ) -> None:
        self._operations = operations
        self._messages = messages
        self._tools = tools
        self._allowed = allowed
        self._documentation = documentation

    async def onboard(self, request: Onboarding) -> Operation:
        """Raises Forbidden, InvalidRequest, OperationRunning, StorageUnavailable."""
        self._check_scope(request.cluster)
        wanted = request.wanted_hub()
        if isinstance(wanted, str) and wanted not in self._tools.hubs:
            raise InvalidRequest("hub: the setting HUBS has no hub of that name")
        return await self._begin("onboard", request)

    async def offboard(self, cluster: ClusterId, *, keep_workload: bool, dry_run: bool = False) -> Operation:
        """Undo all onboardings since the cluster was last offboarded. Raises as `onboard`, and NotInFleet for a cluster
        that was never onboarded: objects with our label there belong to another Pullkeeper.
        """
        self._check_scope(cluster)
        request = Onboarding(cluster=cluster, dry_run=dry_run)
        known = await self._operations.list_onboardings(cluster)
        latest = None if known else await self._operations.latest(cluster)
        unknown = not known and not (latest and latest.kind == "offboard")
        if unknown:
            member = (await self._tools.fleet.member(cluster)).cluster
            request = request.model_copy(update={"targets": member.targets, "refresher": member.refresher})
        return await self._begin("offboard", request, keep_workload=keep_workload, undo_own_request=unknown)

    async def get_operation(self, identifier: str) -> Operation:
        """Return an operation with the pages of its failures. Raises NotInFleet."""
        operation = (await self._operations.load(identifier)).operation
        page = self._documentation.page
        steps = (step.model_copy(update={"runbook": page(step.category)}) for step in operation.steps)
        return operation.model_copy(update={"steps": tuple(steps)})

    def _check_scope(self, cluster: ClusterId) -> None:
        scopes = {
            f"/subscriptions/{cluster.subscription}",
            f"/subscriptions/{cluster.subscription}/resourcegroups/{cluster.resource_group}",
        }
        if not scopes & self._allowed:
            raise Forbidden(
                "neither the cluster's subscription nor its resource group is in the setting ONBOARDING_SCOPES"
            )

    async def _begin(
        self, kind: Kind, request: Onboarding, *, keep_workload: bool = False, undo_own_request: bool = False
    ) -> Operation:
        now = self._tools.clock()
        operation = Operation(
            id=create_operation_id(now),
            kind=kind,
            cluster=request.cluster,
            dry_run=request.dry_run,
            keep_workload=keep_workload,
            created_at=now,
            updated_at=now,
        )
        try:
            stored = await self._operations.begin(operation, request, now, undo_own_request=undo_own_request)
        except OperationRunning:
            await self._resume_latest(request.cluster)
            raise
        try:
            await self._messages.send(stored)
        except PullkeeperError:
            await Progress(self._operations, stored, (), self._tools.clock).end("Failed", None)
            raise
        return operation

    async def _resume_latest(self, cluster: ClusterId) -> None:
        latest = await self._operations.latest(cluster)
        if latest:
            await self._messages.resume(latest.id)
