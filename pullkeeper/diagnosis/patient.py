"""The cluster that a diagnosis looks at, and what of it is known by now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pullkeeper.cluster.ownership import ObjectMetadata
from pullkeeper.cluster.pull_secret import is_ours
from pullkeeper.diagnosis.course import Blocked, Course, Step
from pullkeeper.diagnosis.report import Hop, HopName
from pullkeeper.diagnosis.view import View
from pullkeeper.errors import ObjectNotVisible, PullkeeperError
from pullkeeper.fleet.status import State, Status
from pullkeeper.model import Cluster, Target
from pullkeeper.publisher.hub import Hub

EVERYWHERE: Final = "all namespaces"
_WORST_FIRST: Final[tuple[State, ...]] = ("expired", "pending", "stale", "unknown", "fresh")


@dataclass(frozen=True, slots=True)
class Namespaces:
    """ending: by name, whether it is being deleted; None where no identity may list namespaces."""

    ending: Mapping[str, bool] | None

    def block(self, name: str) -> bool:
        """Whether a namespace is known to be missing, or is being deleted."""
        return self.ending is not None and self.ending.get(name, True)


async def know_namespaces(course: Course, name: HopName, step: Step[Namespaces]) -> Namespaces:
    """Wait, as the hop `name`, for the list of namespaces. A list that failed says nothing about any of them."""
    try:
        return await course.need(name, step)
    except Blocked:
        return Namespaces(None)


@dataclass(frozen=True, slots=True)
class Patient:
    """The cluster that is looked at. status: as it was last written. hub: None if it has none that is right. principal:
    the object id of the identity that refreshes.
    """

    cluster: Cluster
    status: Status
    now: datetime
    hub: Hub | None
    view: View
    principal: str

    @property
    def targets(self) -> list[Target]:
        """All that are refreshed. Those that need attention first come first."""
        targets = (one for one in self.status.targets_of(self.cluster) if not self.status.of(one).removed_at)
        return sorted(targets, key=lambda one: _WORST_FIRST.index(self.status.of(one).state(self.now)))

    @property
    def namespaces(self) -> list[str]:
        return list(dict.fromkeys(target.namespace for target in self.targets))

    def may_write(self, target: Target, seen: ObjectMetadata) -> bool:
        """Whether a refresh writes a secret that looks like this. A job in the cluster knows no uid."""
        known = self.status.of(target).uid if self.cluster.refresher == "central" else None
        return self.cluster.adopt or is_ours(seen) or seen.uid == known

    def context(self, target: Target) -> dict[str, str]:
        """Return the names that remedies need."""
        where = {"cluster": str(self.cluster.cluster), "namespace": target.namespace, "secret": target.secret}
        return {**where, "object": f"secret/{target.secret}", "principal": self.principal}

    def hide(self, course: Course, name: HopName, subject: str | None, error: PullkeeperError, rule: str) -> Hop:
        """Return the hop for what no identity may see. rule: the arguments of the role that would allow it."""
        context = {"kind": name, "rule": rule, "principal": self.principal}
        return course.explain(name, ObjectNotVisible(error.detail, context), "skipped", subject=subject)
