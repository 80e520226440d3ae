"""One cluster as the app's identities see it, a few calls at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Final, TypeVar

from pullkeeper.cluster.api import Api
from pullkeeper.deadline import deadline, has_passed
from pullkeeper.diagnosis.report import Hop
from pullkeeper.diagnosis.tools import Tools
from pullkeeper.errors import ClusterRbacDenied, DeadlinePassed, PullkeeperError
from pullkeeper.model import ClusterId, Endpoint

_AT_ONCE: Final = 4
"""As many connections as a client has: a call that waits for one would use up its own time."""
_BEGUN: Final = 24
"""Items of a hop that are under way: some wait for Azure, which has 20 federated accounts of a cluster at most."""
_ONE_CALL: Final = 1 / 3
"""Of the limit, for one call: a few that hang leave time for the others."""
_T = TypeVar("_T")
_Item = TypeVar("_Item")


class NoTimeLeft(DeadlinePassed):
    """The diagnosis ended before the call did."""


class View:
    """Calls to one API server. Close it after the hops."""

    def __init__(self, tools: Tools, cluster: ClusterId, endpoint: Endpoint) -> None:
        self._tools = tools
        self._cluster = cluster
        self._endpoint = endpoint
        self._onboarding = tools.onboarding_access
        self._api: Api | None = None
        self._stronger: Api | None = None
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._opened = AsyncExitStack()

    async def close(self) -> None:
        await self._opened.aclose()

    async def open(self) -> None:
        """Connect as the identity that refreshes. Raises EntraError, ArmError, ClusterError."""
        self._api = await self._opened.enter_async_context(await self._tools.access.open(self._cluster, self._endpoint))

    async def call(self, look: Callable[[Api], Awaitable[_T]]) -> _T:
        """Look as the identity that refreshes. Raises PullkeeperError."""
        if self._api is None:
            raise RuntimeError("open it first")
        return await self._call(self._api, look)

    async def see(self, look: Callable[[Api], Awaitable[_T]]) -> _T:
        """Look as the identity that refreshes; what that may not see, as the one that onboards. Raises
        ClusterRbacDenied if neither may.
        """
        try:
            return await self.call(look)
        except ClusterRbacDenied:
            stronger = await self._open_stronger()
            if stronger is None:
                raise
        return await self._call(stronger, look)

    async def _call(self, api: Api, look: Callable[[Api], Awaitable[_T]]) -> _T:
        async with self._places:
            if has_passed():
                raise NoTimeLeft("the diagnosis had no time left for it")
            try:
                with deadline(self._tools.limit * _ONE_CALL):
                    return await look(api)
            except PullkeeperError as e:
                if has_passed():
                    raise NoTimeLeft(e.detail) from None
                raise

    async def _open_stronger(self) -> Api | None:
        """Connect when first needed. None if there is no other identity, or it gets no access."""
        if self._stronger is None and self._onboarding:
            try:
                api = await self._onboarding.open(self._cluster, self._endpoint)
                self._stronger = await self._opened.enter_async_context(api)
            except PullkeeperError:
                self._onboarding = None
        return self._stronger


async def examine_all(items: Iterable[_Item], examine: Callable[[_Item], Awaitable[Hop]]) -> tuple[list[Hop], int]:
    """Examine all items, the first ones first, and return their hops, and for how many there was no time."""
    places = asyncio.Semaphore(_BEGUN)

    async def examine_one(item: _Item) -> Hop | None:
        async with places:
            try:
                return await examine(item)
            except NoTimeLeft:
                return None

    found = await asyncio.gather(*map(examine_one, items))
    hops = [hop for hop in found if hop]
    return hops, len(found) - len(hops)
