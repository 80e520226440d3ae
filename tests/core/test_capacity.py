"""A call that gets no response never takes a place from one that does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from pullkeeper.errors import ClusterUnreachable
from pullkeeper.refresh.capacity import Capacity

T = TypeVar("T")


async def _run(capacity: Capacity, call: Callable[[], Awaitable[T]], *, suspect: bool = False) -> T:
    async with capacity.place(suspect=suspect):
        return await call()


async def _respond() -> str:
    await asyncio.sleep(0)
    return "done"


async def _stay_silent() -> str:
    await asyncio.Event().wait()
    raise AssertionError("never reached")


async def test_no_more_calls_run_at_once_than_there_are_places() -> None:
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    capacity = Capacity(prompt=3, slow=3, patience=5)
    await asyncio.gather(*(_run(capacity, call) for _ in range(20)))
    assert most == 3


async def test_a_silent_call_gives_its_place_up_after_its_patience() -> None:
    capacity = Capacity(prompt=1, slow=1, patience=0.05)
    silent = asyncio.create_task(_run(capacity, _stay_silent))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(_run(capacity, _respond), 5) == "done"
    assert not silent.done()
    silent.cancel()
    await asyncio.wait({silent})


async def test_where_the_second_bound_is_full_the_oldest_call_ends_as_unreachable() -> None:
    capacity = Capacity(prompt=4, slow=2, patience=0.02)
    calls = [asyncio.create_task(_run(capacity, _stay_silent)) for _ in range(3)]
    done, pending = await asyncio.wait(calls, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    [ended] = done
    with pytest.raises(ClusterUnreachable):
        ended.result()
    assert len(pending) == 2
    for call in pending:
        call.cancel()
    await asyncio.wait(pending)


async def test_suspects_leave_the_first_bound_to_others_and_each_has_its_patience() -> None:
    """Ten silent suspects and one place for them: a healthy call does not wait, and all suspects get their time."""
    capacity = Capacity(prompt=1, suspects=1, patience=0.02)
    suspects = [asyncio.create_task(_run(capacity, _stay_silent, suspect=True)) for _ in range(10)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(_run(capacity, _respond), 0.02) == "done"
    done, pending = await asyncio.wait(suspects, timeout=1, return_when=asyncio.FIRST_EXCEPTION)
    assert done
    for call in pending:
        call.cancel()
    await asyncio.gather(*suspects, return_exceptions=True)


async def test_a_suspect_that_responds_again_is_served() -> None:
    assert await _run(Capacity(prompt=1, suspects=1), _respond, suspect=True) == "done"


async def test_what_a_call_raises_comes_out() -> None:
    async def fail() -> None:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        await _run(Capacity(), fail)


async def test_a_process_that_is_slow_for_all_takes_none_for_silent() -> None:
    """Calls that take 0.6 s each, with a patience of a tenth of that, once some have ended."""

    async def call() -> str:
        await asyncio.sleep(0.6)
        return "done"

    capacity = Capacity(prompt=32, slow=1, patience=0.06)
    await asyncio.gather(*(_run(capacity, call) for _ in range(32)), return_exceptions=True)
    assert await asyncio.gather(*(_run(capacity, call) for _ in range(32))) == ["done"] * 32
