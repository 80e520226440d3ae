"""How the hops of many subjects are summed up, and what becomes of an error that no one expected."""

import asyncio
from datetime import timedelta

import pytest

from pullkeeper.diagnosis.course import Course, build_hop
from pullkeeper.diagnosis.report import Hop, HopState
from pullkeeper.documentation import Documentation


async def _sum_up(*states: HopState) -> list[Hop]:
    course = Course(Documentation(), timedelta(seconds=1))

    async def examine() -> None:
        hops = [build_hop("pods", state, "seen", subject=number) for number, state in enumerate(states)]
        course.add_all("pods", hops, what="pods")

    course.start("pods", examine())
    return await course.finish()


async def test_a_few_subjects_are_all_shown_and_of_more_those_that_are_not_well() -> None:
    assert len(await _sum_up(*["ok"] * 5)) == 5  # type: ignore[arg-type]
    *shown, last = await _sum_up("ok", "warning", *["ok"] * 4)  # type: ignore[arg-type]
    assert [(hop.subject, hop.state) for hop in shown] == [("1", "warning")]
    assert (last.subject, last.state, last.detail) == (None, "ok", "others of the 6 pods: 5 ok")


async def test_of_too_many_the_worst_are_shown() -> None:
    first, *_, last = await _sum_up(*["warning"] * 25, "failed")  # type: ignore[arg-type]
    assert (first.subject, first.state) == ("25", "failed")
    assert (last.state, last.detail) == ("warning", "others of the 26 pods: 6 warning")


async def test_subjects_that_there_was_no_time_for_are_not_none() -> None:
    course = Course(Documentation(), timedelta(seconds=1))

    async def examine() -> None:
        course.add_all("pods", [], what="pods", unseen=3)

    course.start("pods", examine())
    [hop] = await course.finish()
    assert (hop.state, hop.detail) == ("skipped", "3 pods: 3 not looked at for lack of time")


async def test_an_error_that_no_one_expected_is_its_hops_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its text may quote anything: neither the hop nor the log has it."""
    course = Course(Documentation(), timedelta(seconds=1))

    async def examine(error: Exception | None) -> None:
        if error:
            raise error
        course.add("secret", "ok", "seen")

    course.start("pods", examine(OSError("canary")))
    course.start("secret", examine(None))
    failed, seen = await course.finish()
    assert (failed.name, failed.state, seen.state) == ("pods", "failed", "ok")
    assert "canary" not in failed.model_dump_json() + caplog.text


async def test_a_hop_without_end_is_given_up_and_blamed_for_all_that_wait_for_it() -> None:
    course = Course(Documentation(), timedelta(seconds=0.05))

    async def wait() -> None:
        await asyncio.Event().wait()

    first = course.start("api-server", wait())
    second = course.start("authentication", course.need("authentication", first))
    course.start("secret", course.need("secret", second))
    hops = {hop.name: (hop.state, hop.because, hop.category) for hop in await course.finish()}
    skipped = ("skipped", "api-server", None)
    assert hops["api-server"][:2] == ("failed", None)
    assert {name: hop for name, hop in hops.items() if name != "api-server"} == {
        "authentication": skipped,
        "secret": skipped,
    }
