"""When targets are due: a model of the schedule over 30 hours."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullkeeper.errors import ClusterUnreachable
from pullkeeper.fleet.shard_table import ShardState, Totals
from pullkeeper.fleet.shards import COUNT, shard_of
from pullkeeper.fleet.status import Search, Status, TargetStatus
from pullkeeper.model import ClusterId, Target
from pullkeeper.refresh.outcomes import Attempt
from pullkeeper.refresh.pace import QUICK_TRIES, next_due, period, quick_retry, retry, slow_retry, tick
from pullkeeper.refresh.results import Results

_START = datetime(2026, 1, 1, 7, 3, 11, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_DAY_AND_MORE = timedelta(hours=30)
_RUN = timedelta(seconds=20)
"""How long after its tick a cluster is written, at most."""


def _cluster(number: int) -> ClusterId:
    return ClusterId("00000000-0000-0000-0000-000000005eed", "fleet", f"aks-{number}")


def _writes(shard: str, life: timedelta, every: timedelta, joined: datetime) -> list[datetime]:
    """Return the ticks at which a cluster of a shard is written, from the time it joined."""
    writes, due = [joined], next_due(shard, life, joined)
    now = _START
    while now < _START + _DAY_AND_MORE:
        now += every
        if due <= now:
            writes.append(now)
            due = next_due(shard, life, now + _RUN)
    return writes


def test_a_cluster_stays_in_its_shard_whatever_the_case_of_its_id() -> None:
    mixed = ClusterId("00000000-0000-0000-0000-000000005EED", "Fleet", "AKS-1")
    assert shard_of(mixed) == shard_of(_cluster(1))


@pytest.mark.parametrize("size", [1_000, 10_000])
def test_a_tick_holds_a_quarter_of_a_fleet_that_was_onboarded_at_once(size: int) -> None:
    """Within five points, in every tick of 30 hours after the first period."""
    of_shard = dict.fromkeys((f"{n:02x}" for n in range(COUNT)), 0)
    for number in range(size):
        of_shard[shard_of(_cluster(number))] += 1
    per_tick: dict[datetime, int] = {}
    for shard, clusters in of_shard.items():
        for write in _writes(shard, _HOUR, timedelta(minutes=5), _START)[1:]:
            per_tick[write] = per_tick.get(write, 0) + clusters
    settled = [count / size for at, count in per_tick.items() if at > _START + _HOUR / 3]
    assert len(settled) == 356
    assert 0.20 <= min(settled) <= max(settled) <= 0.30


@pytest.mark.parametrize("life", [timedelta(minutes=15), _HOUR, 12 * _HOUR])
def test_half_of_a_life_never_passes_while_all_is_well(life: timedelta) -> None:
    """In one fleet with all three lives, so on the tick that the shortest allows."""
    every = tick(timedelta(minutes=15))
    for number in range(COUNT):
        writes = _writes(f"{number:02x}", life, every, _START + number * timedelta(seconds=7))
        gaps = [later - earlier for earlier, later in pairwise(writes)]
        # A mint per tick serves it, so a token is as old as its run when it is written.
        assert max(gaps) + _RUN + _RUN <= life / 2


def test_the_period_leaves_a_twelfth_for_queue_run_and_retries() -> None:
    oldest_when_written, longest_wait = _HOUR / 12, tick(_HOUR)
    assert oldest_when_written + period(_HOUR) + longest_wait == _HOUR / 2


def test_failures_are_retried_quickly_then_at_each_tick_then_less_and_less() -> None:
    pauses = [retry(_HOUR, failures) for failures in range(1, 16)]
    assert [quick_retry(_HOUR)] * 5 == pauses[:5]
    assert [timedelta()] * 7 == pauses[5:12]
    assert [pause / timedelta(minutes=1) for pause in pauses[12:]] == [10, 20, 20]
    assert retry(_HOUR, 10_000) == timedelta(minutes=20)


@pytest.mark.parametrize("has_failed", ["target", "list of namespaces"])
@pytest.mark.parametrize(("failures", "retry_soon"), [(QUICK_TRIES, True), (QUICK_TRIES + 1, False)])
def test_after_five_failures_a_further_try_is_left_to_the_tick(
    has_failed: str, failures: int, *, retry_soon: bool
) -> None:
    failure, target, results = ClusterUnreachable("no response"), Target(), Results()
    status = TargetStatus(category=failure.category, failures=failures)
    search = Search(category=failure.category, failures=failures)
    if has_failed == "target":
        results.report(_cluster(1), Attempt({target: failure}), Status(), Status(targets={str(target): status}))
    else:
        results.report(_cluster(1), Attempt({}, search=failure), Status(), Status(search=search))
    assert results.retry_soon is retry_soon


def test_a_list_that_failed_is_no_failure_of_a_cluster_that_lost_its_selectors_meanwhile() -> None:
    results = Results()
    results.report(_cluster(1), Attempt({}, search=ClusterUnreachable("no response")), Status(), Status())
    assert (results.counts.total(), results.retry_soon) == (0, False)


def test_what_only_a_person_can_fix_is_tried_again_before_the_token_expires() -> None:
    assert _HOUR / 12 + period(_HOUR) + tick(_HOUR) + slow_retry(_HOUR) + tick(_HOUR) < _HOUR


def test_a_shard_is_overdue_a_twelfth_of_its_shortest_life_after_its_time() -> None:
    totals = Totals((ShardState("00", next_due=_START, life=_HOUR / 4),), None, _START, {})
    assert [totals.overdue(_START + timedelta(seconds=late)) for late in (75, 76)] == [0, 1]


# Promise 1: every cluster survives 25 minutes of total outage of any service without an expired secret.


@dataclass(frozen=True, slots=True)
class _Outage:
    """begins: after the first write. phase: of the ticks. age: of a token when it is written. try_takes: a try."""

    begins: timedelta
    lasts: timedelta
    shard: int = 0
    phase: timedelta = timedelta()
    age: timedelta = timedelta()
    try_takes: timedelta = timedelta()

    def hits(self, moment: datetime) -> bool:
        return self.begins <= moment - _START < self.begins + self.lasts


def _expires(outage: _Outage) -> bool:
    """Whether a secret expires within three hours: ticks, quick tries, and what follows from a failure."""
    shard, now, failures = f"{outage.shard:02x}", _START, 0
    expires, due = _START - outage.age + _HOUR, next_due(shard, _HOUR, _START)
    next_tick, message = _START + outage.phase, None
    while now < _START + 3 * _HOUR:
        now = max(now, min(filter(None, (next_tick, message))))
        if now >= next_tick:
            next_tick += _HOUR / 12
        message = None
        if due > now:
            continue
        ended = now + outage.try_takes
        if outage.hits(now) or outage.hits(ended):
            failures += 1
            due = ended + retry(_HOUR, failures)
            message = due if failures <= QUICK_TRIES else None
        elif ended >= expires:
            return True
        else:
            failures, expires, due = 0, ended - outage.age + _HOUR, next_due(shard, _HOUR, ended)
        now = ended
    return False


def _spans(longest: timedelta) -> st.SearchStrategy[timedelta]:
    return st.timedeltas(timedelta(), longest)


@settings(max_examples=500)
@given(
    outage=st.builds(
        _Outage,
        begins=_spans(timedelta(minutes=90)),
        lasts=st.just(timedelta(minutes=25)),
        shard=st.integers(0, COUNT - 1),
        phase=_spans(_HOUR / 12),
        age=_spans(_HOUR / 12),
        try_takes=_spans(timedelta(minutes=1)),
    )
)
def test_a_secret_outlives_25_minutes_of_outage_whenever_they_begin(outage: _Outage) -> None:
    assert not _expires(outage)


def test_it_does_not_outlive_45_minutes() -> None:
    """So that the test above can fail."""
    expired = [_expires(_Outage(timedelta(minutes=begins), timedelta(minutes=45))) for begins in range(60)]
    assert any(expired)
    assert not all(expired)
