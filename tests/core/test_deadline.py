"""Each call gets the smaller of its own time-out and what its invocation has left."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from stamina.instrumentation import set_on_retry_hooks

import pullkeeper
from pullkeeper.deadline import INVOCATION, deadline, has_passed, remaining, reserve
from pullkeeper.errors import ClusterThrottled
from pullkeeper.onboarding.run import LONGEST
from pullkeeper.retries import attempts, limit_waits


async def test_outside_an_invocation_a_call_has_its_own_time_out() -> None:
    assert (remaining(30), has_passed()) == (30, False)


async def test_a_call_gets_the_smaller_of_its_own_time_out_and_what_is_left() -> None:
    with deadline(timedelta(seconds=10)):
        assert remaining(3) == 3
        assert 9 < remaining(30) <= 10
    assert remaining(30) == 30


async def test_an_inner_deadline_does_not_outlast_the_outer_one() -> None:
    with deadline(timedelta(seconds=1)), deadline(timedelta(seconds=10)):
        assert remaining(30) <= 1
    with deadline(timedelta(seconds=10)), deadline(timedelta(seconds=1)):
        assert remaining(30) <= 1


async def test_a_deadline_that_has_passed_leaves_a_time_out_that_no_client_takes_for_none() -> None:
    with deadline(timedelta(0)):
        assert has_passed()
        assert 0 < remaining(30) < 0.1


async def test_a_reserve_is_left_for_what_follows() -> None:
    with reserve(timedelta(seconds=4)), deadline(timedelta(seconds=10)):
        with reserve(timedelta(seconds=4)):
            assert remaining(30) <= 6
        assert 6 < remaining(30) <= 10


async def test_tasks_inherit_the_deadline() -> None:
    async def call() -> float:
        return remaining(30)

    with deadline(timedelta(seconds=1)):
        assert await asyncio.create_task(call()) <= 1


def test_an_invocation_ends_at_half_of_the_function_time_out() -> None:
    """One that waits for a place first ends at nine tenths at most."""
    host = json.loads((Path(*pullkeeper.__path__).parent / "host.json").read_text(encoding="utf-8"))
    hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))
    limit = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    assert limit / 2 == INVOCATION
    assert limit * 0.9 >= LONGEST


async def _count_tries(longest_wait: float = 5) -> int:
    """Try twice at most, where a service asks for a wait of 20 ms."""
    tries = 0
    with suppress(ClusterThrottled):
        async for attempt in attempts(2, within=timedelta(minutes=1), when=lambda _: True, longest_wait=longest_wait):
            with attempt:
                tries += 1
                raise ClusterThrottled("busy", retry_after=timedelta(milliseconds=20))
    return tries


async def test_waits_are_limited_inside_only() -> None:
    with limit_waits(timedelta(milliseconds=10)):
        assert await _count_tries() == 1
    assert await _count_tries() == 2


async def test_no_try_begins_if_the_service_asks_for_more_time_than_is_left() -> None:
    with deadline(timedelta(milliseconds=15)):
        assert await _count_tries(longest_wait=0.001) == 1


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """In seconds, between two tries."""
    found: list[float] = []
    set_on_retry_hooks([lambda details: found.append(details.wait_for)])
    yield found
    set_on_retry_hooks(None)


async def _fail_each(tries: int, within: timedelta, longest_wait: float, first_wait: float | None = None) -> None:
    """Try as often as may be, where no service asks for a wait."""
    first_wait = first_wait or longest_wait / 2
    with suppress(ClusterThrottled):
        async for attempt in attempts(
            tries, within=within, when=lambda _: True, first_wait=first_wait, longest_wait=longest_wait
        ):
            with attempt:
                raise ClusterThrottled("busy")


async def test_waits_between_tries_differ(waits: list[float]) -> None:
    """So that instances that have failed together do not come back together."""
    for _ in range(10):
        await _fail_each(2, timedelta(minutes=1), 0.01)
    assert len(set(waits)) > 1
    assert max(waits) <= 0.01


async def test_waits_differ_by_a_second_at_most(waits: list[float]) -> None:
    """Also where waits may be long: the first try after a failure comes soon. A wait is noted before it begins, so none
    is waited for.
    """
    for _ in range(10):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await _fail_each(2, timedelta(minutes=1), 20, first_wait=0.1)
    assert len(waits) == 10
    assert max(waits) <= 1.1


async def test_waits_that_no_service_asks_for_are_limited_too(waits: list[float]) -> None:
    with limit_waits(timedelta(milliseconds=10)):
        await _fail_each(2, timedelta(minutes=1), 0.4)
    assert len(waits) == 1
    assert waits[0] <= 0.01


async def test_no_try_begins_after_the_time_for_all(waits: list[float]) -> None:
    await _fail_each(20, timedelta(milliseconds=100), 0.04)
    assert 0 < len(waits) < 19
