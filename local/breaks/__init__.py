"""What the breaks of the local cloud share. A break is a context manager: broken inside of it, repaired after it.

A repair also succeeds where the operator has followed the remedy meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from local.cloud import Cloud, LocalCluster, LocalHub
from local.kubernetes import ApiServer

Breaking = Callable[[Cloud, LocalCluster], AbstractAsyncContextManager[None]]


class CannotBreak(Exception):
    """This cluster has nothing to break there. The message says what is missing."""


@contextmanager
def change(thing: object, **attributes: Any) -> Iterator[None]:
    """Set attributes, and set them back at the end."""
    before = {name: getattr(thing, name) for name in attributes}
    for name, value in attributes.items():
        setattr(thing, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(thing, name, value)


def hub_of(cloud: Cloud, cluster: LocalCluster) -> LocalHub:
    return cloud.hubs[str(cluster.member.cluster.hub)]


def stand_in(cluster: LocalCluster) -> ApiServer:
    """Raises CannotBreak for a real API server."""
    if not isinstance(cluster.server, ApiServer):
        raise CannotBreak(f"{cluster.id.name} is a real API server, which cannot be broken in this way")
    return cluster.server
