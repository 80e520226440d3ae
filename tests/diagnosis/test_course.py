"""How the hops of many subjects are summed up, and what becomes of an error that no one expected."""

import asyncio
import gc
from datetime import timedelta

import pytest

from pullkeeper.azure.identities import MOST_CREDENTIALS
from pullkeeper.deadline import remaining
from pullkeeper.diagnosis.course import Course, build_hop
from pullkeeper.diagnosis.report import Hop, HopState
from pullkeeper.diagnosis.view import examine_all
from pullkeeper.documentation import Documentation
from pullkeeper.errors import ClusterGone


async def _sum_up(*states: HopState) -> list[Hop]:
    course = Course(Documentation(), timedelta(seconds=1))

    async def examine() -> None:
        hops = [
            build_hop("pods", state, "seen", subject=number, evidence={"uid": number})
            for number, state in enumerate(states)
        ]
        course.add_all("pods", hops, what="pods")

    course.start("pods", examine())
    return await course.finish()


async def test_a_few_subjects_are_all_shown_and_of_more_those_that_are_not_well() -> None:
    [none] = await _sum_up()
    assert (none.state, none.detail) == ("ok", "there are no pods")
    assert len(await _sum_up(*["ok"] * 5)) == 5  # type: ignore[arg-type]
    *shown, last = await _sum_up("ok", "warning", *["ok"] * 4)  # type: ignore[arg-type]
    assert [(hop.subject, hop.state) for hop in shown] == [("1", "warning")]
    assert (last.subject, last.state, last.detail) == (None, "ok", "others of the 6 pods: 5 ok")
    assert (shown[0].evidence, last.evidence) == ({"uid": "1"}, {})


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


async def test_the_calls_of_a_hop_end_before_it_is_given_up() -> None:
    """So that it fails with their own category."""
    course, left = Course(Documentation(), timedelta(seconds=7)), list[float]()

    async def examine() -> None:
        left.append(remaining(100))

    course.start("pods", examine())
    await course.finish()
    assert 0 < left[0] <= 6


async def test_an_error_that_no_one_expected_is_its_hops_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its text may quote anything: neither the hop nor the log has it. What waits for the hop is skipped."""
    course = Course(Documentation(), timedelta(seconds=1))

    async def examine(error: Exception | None) -> None:
        if error:
            raise error
        course.add("secret", "ok", "seen")

    pods = course.start("pods", examine(OSError("canary")))
    course.start("secret", examine(None))
    course.start("permission", course.need("permission", pods))
    failed, seen, skipped = await course.finish()
    assert (skipped.state, skipped.because) == ("skipped", "pods")
    assert (failed.name, failed.state, seen.state) == ("pods", "failed", "ok")
    assert "canary" not in failed.model_dump_json() + caplog.text


async def test_a_hop_without_end_is_given_up_and_blamed_for_all_that_wait_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it has waited for itself is not to blame."""
    course = Course(Documentation(), timedelta(seconds=0.05))
    identity = course.start("managed-identity", asyncio.sleep(0))

    async def wait() -> None:
        await course.need("api-server", identity)
        await asyncio.Event().wait()

    first = course.start("api-server", wait())
    second = course.start("authentication", course.need("authentication", first))
    course.start("secret", course.need("secret", second))
    found, shared = await asyncio.gather(course.finish(), course.finish())
    assert (len(found), found) == (3, shared), "also where two diagnoses give it up at the same time"
    hops = {hop.name: (hop.state, hop.because, hop.category) for hop in found}
    skipped = ("skipped", "api-server", None)
    assert hops["api-server"][:2] == ("failed", None)
    assert {name: hop for name, hop in hops.items() if name != "api-server"} == {
        "authentication": skipped,
        "secret": skipped,
    }
    assert caplog.text == ""


async def test_a_course_ends_after_its_hops_and_none_goes_on_without_what_it_waits_for() -> None:
    """Also where it waits for a hop that several courses share."""
    shared, own, closed = (Course(Documentation(), timedelta(seconds=limit)) for limit in (0.05, 5, 5))

    async def examine() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # as connections take to close

    identity = shared.start("managed-identity", examine())
    own.start("cluster-state", own.need("cluster-state", identity))
    waiting = closed.start("cluster-state", closed.need("cluster-state", identity))
    closed.start("pods", examine())
    await asyncio.sleep(0)
    await closed.close()
    assert closed.has_ended
    assert waiting.task.cancelled()
    await shared.finish()
    assert shared.has_ended
    [hop] = await own.finish()
    assert (hop.state, hop.because) == ("skipped", "managed-identity")


async def test_what_no_one_waits_for_is_not_logged_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The caller of a diagnosis may be gone when its hops fail."""
    gc.collect()  # what other tests have left
    caplog.clear()
    course = Course(Documentation(), timedelta(seconds=1))

    async def examine() -> None:
        raise ClusterGone("it is gone")

    task = course.start("cluster-state", examine()).task
    await asyncio.wait([task])
    del task, course
    gc.collect()
    assert caplog.text == ""


async def test_a_hop_of_many_begins_more_than_may_wait_for_azure_and_leaves_turns_to_the_others() -> None:
    begun: list[int] = []

    async def examine(number: int) -> Hop:
        begun.append(number)
        await asyncio.Event().wait()
        raise AssertionError

    examining = asyncio.create_task(examine_all(range(100), examine))
    await asyncio.wait([examining], timeout=0.01)
    examining.cancel()
    await asyncio.wait([examining])
    assert MOST_CREDENTIALS < len(begun) < 2 * MOST_CREDENTIALS
