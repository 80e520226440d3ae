"""How a caller names a cluster: by its name where that is unique, by group/name, or by its resource id."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from pullkeeper.cli.client import App
from pullkeeper.cli.failures import CommandFailed


@dataclass(frozen=True, slots=True)
class ClusterName:
    """The parts of a cluster's resource id, in lower case."""

    subscription: str
    group: str
    name: str

    @classmethod
    def parse(cls, resource_id: str) -> Self:
        """Raises CommandFailed for anything but a cluster's resource id."""
        match resource_id.lower().split("/"):
            case ["", "subscriptions", subscription, "resourcegroups", group, "providers", _, "managedclusters", name]:
                return cls(subscription, group, name)
        raise CommandFailed(f"{resource_id} is not the resource id of an AKS cluster")

    @property
    def path(self) -> str:
        """The cluster's path in the app."""
        return "clusters/" + "/".join(quote(part, safe="") for part in (self.subscription, self.group, self.name))

    @property
    def short(self) -> str:
        return f"{self.group}/{self.name}"

    def is_named(self, text: str) -> bool:
        return text.lower() in {self.name, self.short}

    def __str__(self) -> str:
        provider = "providers/Microsoft.ContainerService/managedClusters"
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/{provider}/{self.name}"


def find_cluster(app: App, text: str) -> ClusterName:
    """Return the cluster that a caller means. A resource id needs no look at the fleet. Raises CommandFailed where no
    cluster of the fleet has this name, or several have.
    """
    if text.startswith("/"):
        return ClusterName.parse(text)
    found = [
        name
        for line in app.pages("clusters", "clusters")
        if (name := ClusterName.parse(line["cluster"])).is_named(text)
    ]
    match found:
        case [name]:
            return name
        case []:
            hints = {"check": "pullkeeper get clusters lists the fleet; any other cluster needs its resource id"}
            raise CommandFailed(f"no cluster of the fleet is named {text}", hints=hints)
    is_short = len({name.short for name in found}) == len(found)
    names = ", ".join(name.short if is_short else str(name) for name in found)
    raise CommandFailed(f"{len(found)} clusters are named {text}", hints={"name one": names})


def display_names(lines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return how each of these clusters is shown, by resource id: as briefly as `find_cluster` understands."""
    names = {line["cluster"]: ClusterName.parse(line["cluster"]) for line in lines}
    by_name = Counter(name.name for name in names.values())
    by_short = Counter(name.short for name in names.values())
    return {
        key: name.name if by_name[name.name] == 1 else name.short if by_short[name.short] == 1 else key
        for key, name in names.items()
    }
