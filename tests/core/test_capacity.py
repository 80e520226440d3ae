"""A call that gets no response never takes a place from one that does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import pytest

from pullkeeper.errors import ClusterUnreachable
from pullkeeper.refresh.capacity import _SLOW, Capacity

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
    healthy = asyncio.create_task(_run(capacity, _respond))
    for _ in range(5):
        await asyncio.sleep(0)
    assert healthy.done()
    done, pending = await asyncio.wait(suspects, timeout=5, return_when=asyncio.FIRST_EXCEPTION)
    assert done
    for call in pending:
        call.cancel()
    await asyncio.gather(*suspects, return_exceptions=True)


async def test_a_suspect_that_responds_again_is_served() -> None:
    assert await _run(Capacity(prompt=1, suspects=1), _respond, suspect=True) == "done"


@pytest.mark.parametrize("error", [ValueError, TimeoutError])
async def test_what_a_call_raises_comes_out(error: type[Exception]) -> None:
    async def fail() -> None:
        raise error("as it is")

    with pytest.raises(error, match="as it is"):
        await _run(Capacity(), fail)


async def test_a_process_that_is_slow_for_all_takes_none_for_silent() -> None:
    """Calls that take 0.6 s each, with a patience of a tenth of that, once some have ended."""

    async def call() -> str:
        await asyncio.sleep(0.6)
        return "done"

    capacity = Capacity(prompt=32, slow=1, patience=0.06)
    await asyncio.gather(*(_run(capacity, call) for _ in range(32)), return_exceptions=True)
    assert await asyncio.gather(*(_run(capacity, call) for _ in range(32))) == ["done"] * 32


async def test_a_late_call_that_ends_adds_no_place() -> None:
    """And leaves the second bound to the next one."""
    capacity = Capacity(prompt=1, slow=1, patience=0.02)
    for _ in range(2):
        late = asyncio.Event()
        async with capacity.place(when_late=late.set), asyncio.timeout(10):
            await late.wait()
    running = 0

    async def call() -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1

    await asyncio.gather(*(_run(capacity, call) for _ in range(3)))
    assert capacity._when_late == {}, "nothing is kept of calls that have ended"


async def test_a_late_call_that_responds_is_no_longer_the_oldest() -> None:
    capacity = Capacity(prompt=3, slow=2, patience=0.02)
    late = {name: asyncio.Event() for name in ("first", "second")}
    responds, responded = asyncio.Event(), asyncio.Event()

    async def call(name: str) -> None:
        async with capacity.place(when_late=late[name].set) as renew:
            if name == "first":
                await responds.wait()
                renew()
                responded.set()
            await _stay_silent()

    calls = {name: asyncio.create_task(call(name)) for name in late}
    await asyncio.gather(*(event.wait() for event in late.values()))
    responds.set()
    await responded.wait()
    third = asyncio.create_task(_run(capacity, _stay_silent))
    with pytest.raises(ClusterUnreachable):
        await calls["second"]
    assert not calls["first"].done()
    for one in (calls["first"], third):
        one.cancel()
    await asyncio.wait({calls["first"], third})


async def test_a_suspect_has_its_time_although_others_wait() -> None:
    async def call() -> str:
        await asyncio.sleep(0.15)  # three looks at who is late
        return "done"

    capacity = Capacity(suspects=1, patience=5)
    assert await asyncio.gather(*(_run(capacity, call, suspect=True) for _ in range(2))) == ["done"] * 2


async def test_a_suspect_is_not_closed_for_one_that_has_stopped_waiting() -> None:
    capacity = Capacity(suspects=1, patience=0.01)
    holds = asyncio.create_task(_run(capacity, _stay_silent, suspect=True))
    waits = asyncio.create_task(_run(capacity, _respond, suspect=True))
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait({waits})
    await asyncio.sleep(0.2)  # far more than its patience
    assert not holds.done()
    holds.cancel()
    await asyncio.wait({holds})


async def test_a_closed_call_that_ends_slowly_keeps_no_other_from_being_closed() -> None:
    async def end_slowly() -> None:
        try:
            await _stay_silent()
        finally:
            await asyncio.sleep(0.15)  # three looks at who is late

    capacity = Capacity(suspects=1, patience=0.01)
    calls = [asyncio.create_task(_run(capacity, end_slowly, suspect=True)) for _ in range(3)]
    await asyncio.wait(calls[:2], timeout=5)
    assert [call.done() for call in calls] == [True, True, False]
    calls[2].cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_calls_that_were_closed_give_no_other_more_time() -> None:
    """And had five times the time in which a call keeps its first place."""
    capacity = Capacity(suspects=1, patience=0.05)
    usual, began = capacity._median, time.monotonic()
    calls = [asyncio.create_task(_run(capacity, _stay_silent, suspect=True)) for _ in range(2)]
    (closed,), (pending,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert isinstance(closed.exception(), ClusterUnreachable)
    assert time.monotonic() - began >= 5 * 0.05
    assert capacity._median == usual
    pending.cancel()
    await asyncio.wait([pending])


async def test_who_is_late_is_looked_for_once_for_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, sweeps = Capacity._sweep, list[Capacity]()

    def note(capacity: Capacity) -> None:
        sweeps.append(capacity)
        sweep(capacity)

    monkeypatch.setattr(Capacity, "_sweep", note)
    capacity = Capacity()
    await asyncio.gather(*(_run(capacity, partial(asyncio.sleep, 0.07)) for _ in range(50)))
    assert 0 < len(sweeps) < 50


@pytest.mark.parametrize(("seconds", "late_after"), [(1000, 3), (0, 0.2)])
def test_however_slow_or_fast_all_clusters_are_a_call_has_a_time(seconds: float, late_after: float) -> None:
    capacity = Capacity(patience=0.2)
    for _ in range(200):
        capacity._count(seconds)
    assert capacity._median * _SLOW == pytest.approx(late_after)


async def test_the_bounds_of_a_process_are_those_of_the_documentation() -> None:
    """docs/architecture.md: 96 places to begin in, 384 for late calls, 64 for suspects. Two shards are read at once;
    none keeps others from that for more than five seconds.
    """
    capacity = Capacity(patience=60)
    assert (capacity._places, capacity.longest_turn) == (384, 5)
    begun = {False: 0, True: 0}

    async def stay_silent(*, suspect: bool) -> None:
        async with capacity.place(suspect=suspect):
            begun[suspect] += 1
            await asyncio.Event().wait()

    calls = [asyncio.create_task(stay_silent(suspect=suspect)) for suspect in begun for _ in range(100)]
    turns = [asyncio.create_task(capacity.turn.acquire()) for _ in range(3)]
    await asyncio.wait(turns, timeout=0.01)
    assert (begun, sum(turn.done() for turn in turns)) == ({False: 96, True: 64}, 2)
    for task in (*calls, *turns):
        task.cancel()
    await asyncio.wait([*calls, *turns])
