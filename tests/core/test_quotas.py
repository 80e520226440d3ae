"""After a 429, operations of a process come back one after the other, and no other calls before them."""

from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from local.clock import Clock
from pullkeeper.azure.quotas import Quota, Quotas, take_turns
from pullkeeper.errors import ArmConflict, ArmThrottled, FederatedCredentialBusy, PullkeeperError

_SECOND = timedelta(seconds=1)
_QUOTA = Quota("credentials of clusters", _SECOND)


class _Still(Clock):
    """A clock that moves only when it is moved."""

    def __call__(self) -> datetime:
        return datetime(2026, 1, 1).astimezone() + self._ahead


@pytest.fixture
def clock() -> Clock:
    return _Still()


@pytest.fixture
def quotas(clock: Clock) -> Quotas:
    return Quotas(clock)


def _call(quotas: Quotas, failure: PullkeeperError | None = None, quota: Quota = _QUOTA) -> float | None:
    """Make a call with this outcome. Return after how many seconds the caller may come back, None if it succeeded."""
    try:
        with quotas.call(quota):
            if failure:
                raise failure
    except PullkeeperError as e:
        return e.retry_after.total_seconds() if e.retry_after and e.context["quota"] == quota.name else -1
    return None


def _throttled(seconds: int | None = None) -> ArmThrottled:
    return ArmThrottled("429", retry_after=timedelta(seconds=seconds) if seconds else None)


def test_callers_come_back_at_the_rate_of_the_quota_and_as_late_as_azure_asks(quotas: Quotas) -> None:
    assert [_call(quotas, _throttled(7)) for _ in range(3)] == [7, 8, 9]


def test_without_retry_after_they_come_back_at_its_rate(quotas: Quotas) -> None:
    assert [_call(quotas, _throttled()) for _ in range(3)] == [1, 2, 3]


def test_others_join_the_end_of_the_line_without_a_call(quotas: Quotas, clock: Clock) -> None:
    assert _call(quotas, _throttled(7)) == 7
    assert [_call(quotas) for _ in range(2)] == [8, 9]
    clock.advance(9 * _SECOND)
    assert _call(quotas) == 1
    clock.advance(2 * _SECOND)
    assert _call(quotas) is None


def test_one_that_has_waited_calls_once_while_others_wait(quotas: Quotas) -> None:
    for _ in range(5):
        _call(quotas, _throttled())
    turns = {_QUOTA.name}
    with take_turns(turns):
        assert _call(quotas) is None
        assert turns == set()
        assert _call(quotas) == 6
    with take_turns({_QUOTA.name}):
        pass
    assert _call(quotas) == 7, "a turn that was not used has passed"


def test_a_turn_of_before_a_restart_is_a_call_like_any_other(quotas: Quotas) -> None:
    with take_turns({_QUOTA.name}):
        assert _call(quotas) is None


def test_a_line_slows_down_while_calls_in_their_turn_are_refused(quotas: Quotas, clock: Clock) -> None:
    """Other instances, or other programs, share the quota."""
    gaps = []
    for _ in range(12):
        with take_turns({_QUOTA.name}):
            first = _call(quotas, _throttled())
        second = _call(quotas)
        assert first is not None
        assert second is not None
        gaps.append(second - first)
        clock.advance(timedelta(seconds=first))
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (1.5, 16)
    with take_turns({_QUOTA.name}):
        assert _call(quotas) is None
    assert (_call(quotas) or 0) - (_call(quotas) or 0) == pytest.approx(-16 * 0.9), "and recovers step by step"
    for _ in range(40):
        with take_turns({_QUOTA.name}):
            assert _call(quotas) is None
    assert (_call(quotas) or 0) - (_call(quotas) or 0) == -1


def test_refusals_of_turns_of_one_pace_slow_the_line_once(quotas: Quotas) -> None:
    """A thousand turns may have been given at a pace that was a little too fast."""
    for _ in range(100):
        _call(quotas, _throttled())
    for _ in range(10):
        with take_turns({_QUOTA.name}):
            last = _call(quotas, _throttled())
    assert ((_call(quotas) or 0) - (last or 0)) == 1.5


def test_a_line_that_has_ended_says_nothing_about_the_next(quotas: Quotas, clock: Clock) -> None:
    _call(quotas, _throttled())
    with take_turns({_QUOTA.name}):
        _call(quotas, _throttled())
    clock.advance(60 * _SECOND)
    assert _call(quotas) is None
    assert [_call(quotas, _throttled()) for _ in range(2)] == [1, 2]


def test_a_quota_has_a_line_of_its_own(quotas: Quotas) -> None:
    _call(quotas, _throttled())
    assert _call(quotas, quota=Quota("another region", _SECOND)) is None


def test_only_waits_have_a_line(quotas: Quotas) -> None:
    conflict = ArmConflict("409")
    with pytest.raises(ArmConflict) as raised, quotas.call(_QUOTA):
        raise conflict
    assert raised.value is conflict
    assert _call(quotas) is None
    with suppress(FederatedCredentialBusy), quotas.call(_QUOTA):
        raise FederatedCredentialBusy("409")
    assert _call(quotas) == 2


def test_a_wait_keeps_the_names_that_its_remedy_needs(quotas: Quotas) -> None:
    identity = {"subscription": "s", "group": "g", "name": "id-1"}
    with pytest.raises(FederatedCredentialBusy) as raised, quotas.call(_QUOTA):
        raise FederatedCredentialBusy("409", identity)
    assert raised.value.context == {**identity, "quota": _QUOTA.name}
