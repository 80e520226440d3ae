"""Many objects, or targets, of one cluster: a few at a time, and in few words."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import accumulate
from typing import Final, TypeVar

from pullkeeper.errors import (
    AdmissionDenied,
    ClusterRbacDenied,
    NamespaceMissing,
    NamespaceTerminating,
    ObjectConflict,
    QuotaExceeded,
    SecretConflict,
    SecretImmutable,
)

_T = TypeVar("_T")
_R = TypeVar("_R")
_AT_ONCE: Final = 4
_LONGEST_TEXT: Final = 50_000
"""Characters. An operation's row takes 500,000, and the longest request half of them."""
_OF_ONE_OBJECT: Final = (
    AdmissionDenied,
    ClusterRbacDenied,
    NamespaceMissing,
    NamespaceTerminating,
    ObjectConflict,
    QuotaExceeded,
    SecretConflict,
    SecretImmutable,
)
"""Failures that say nothing about other objects."""


async def run_all(items: Iterable[_T], do: Callable[[_T], Awaitable[_R]]) -> list[_R]:
    """Do something for each item, a few at once, and return the results in order. What one object or namespace refuses
    keeps no other from being done; any other failure ends it. Raises the first failure.
    """
    places, failures = asyncio.Semaphore(_AT_ONCE), list[Exception]()

    async def run(item: _T) -> _R:
        async with places:
            if failures:
                raise failures[0]
            try:
                return await do(item)
            except _OF_ONE_OBJECT:
                raise
            except Exception as e:
                failures.append(e)
                raise

    results = await asyncio.gather(*map(run, items), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    if failures or refused:
        raise (failures or refused)[0]
    return [result for result in results if not isinstance(result, BaseException)]


def summarize(results: Iterable[str], most: int = 20) -> str:
    """Join the results for the detail of a step, which names a few and counts the others."""
    listed = list(results)
    more = [f"and {len(listed) - most} more"] if len(listed) > most else []
    return "; ".join([*listed[:most], *more])


def shorten(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the lines as long as they fit into a result, and then how many more there are."""
    listed = list(lines)
    fitting = sum(length <= _LONGEST_TEXT for length in accumulate(map(len, listed)))
    more = [f"and {len(listed) - fitting} more"] if fitting < len(listed) else []
    return (*listed[:fitting], *more)
