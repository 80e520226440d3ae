"""Records of mints from several processes merge into the same one, whichever is written first."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from pullkeeper.errors import EntraUnavailable, GoogleUnavailable, ProbeImageMissing, PullkeeperError
from pullkeeper.mints import MintRecord

_START = datetime(2026, 1, 1, tzinfo=UTC)


def _minted(minute: int, warning: PullkeeperError | None = None) -> MintRecord:
    at = _START + timedelta(minutes=minute)
    return MintRecord.of_mint(at, at + timedelta(hours=1), 0.5, warning)


def _failed(minute: int, failure: PullkeeperError) -> MintRecord:
    return MintRecord.of_failure(_START + timedelta(minutes=minute), failure)


def _merge(records: tuple[MintRecord, ...]) -> MintRecord:
    merged = MintRecord()
    for record in records:
        merged = MintRecord.parse(merged.merge(record).to_json())
    return merged


_WARNED = _minted(1, ProbeImageMissing("gone"))
_GOOD = _minted(3)
_EARLY, _LATE = _failed(2, EntraUnavailable("early")), _failed(4, GoogleUnavailable("late"))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((_WARNED,), _WARNED),
        ((_WARNED, _GOOD), _GOOD),
        ((_WARNED, _EARLY), _WARNED.model_copy(update={"failure": _EARLY.failure})),
        ((_WARNED, _EARLY, _GOOD), _GOOD),
        ((_EARLY, _LATE), _LATE),
        ((_EARLY, _GOOD, _LATE), _GOOD.model_copy(update={"failure": _LATE.failure})),
    ],
    ids=["mint", "good mint", "failure", "mint after failure", "two failures", "failure after mint"],
)
def test_the_last_mint_and_the_last_failure_since_remain(records: tuple[MintRecord, ...], expected: MintRecord) -> None:
    assert {_merge(order).to_json() for order in permutations(records)} == {expected.to_json()}
