"""Each call gets the smaller of its own time-out and what its invocation has left."""

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pullkeeper
from pullkeeper.deadline import INVOCATION, deadline, has_passed, remaining
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


async def test_a_deadline_that_has_passed_leaves_a_time_out_that_no_client_takes_for_none() -> None:
    with deadline(timedelta(0)):
        assert has_passed()
        assert 0 < remaining(30) < 0.1


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


async def test_waits_are_limited_inside_only() -> None:
    async def count_tries() -> int:
        tries = 0
        with suppress(ClusterThrottled):
            async for attempt in attempts(2, within=timedelta(minutes=1), when=lambda _: True):
                with attempt:
                    tries += 1
                    raise ClusterThrottled("busy", retry_after=timedelta(milliseconds=20))
        return tries

    with limit_waits(timedelta(milliseconds=10)):
        assert await count_tries() == 1
    assert await count_tries() == 2
