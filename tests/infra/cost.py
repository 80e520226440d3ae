"""`python -m tests.infra.cost`: what a deployment costs a month, as the table of docs/install.md.

The prices are list prices in US dollars, for West Europe; a bill has those of its region and contract. What a refresh
costs comes from docs/scale.md, and how often things happen from the code.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pullkeeper.fleet.creation import QUEUES
from pullkeeper.fleet.shards import COUNT
from tests.docs.pages import ROOT, read

FLEETS: Final = (10, 1_000, 10_000)
_HOURS: Final = 730
_TICKS: Final = _HOURS * 12
_GB: Final = 2.0
"""Memory of an instance: the default of scale.instanceMemoryMB."""
_SCHEDULE: Final = 2.0
"""Seconds of a run of the timer: a few calls to storage, and the probe of the token."""
_MINT: Final = 3.0
"""Seconds for the token and its probe, before the first write of a tick."""
_EVENTS: Final = (3 + 1) * 24
"""Of 1 KB, a secret and day: three refreshes and one status an hour (tests/bench/scale.py)."""
_FIXED_LOG: Final = 0.3
"""GB: runs, shards, metrics, the host's own log."""
_RULES: Final = 7


@dataclass(frozen=True, slots=True)
class Price:
    """A meter. free: units a month that are not billed, in the subscription as a whole."""

    unit: str
    dollars: float
    free: float = 0

    def of(self, amount: float) -> float:
        return max(0.0, amount - self.free) * self.dollars


GB_SECOND: Final = Price("GB-s", 0.000026, 100_000)
EXECUTION: Final = Price("executions", 0.40 / 1e6, 250_000)
STORAGE_CALL: Final = Price("calls", 0.004 / 1e4)
LOG: Final = Price("GB", 2.76, 5)
RULE: Final = Price("rules", 1.50)


@dataclass(frozen=True, slots=True)
class Line:
    """amount: a month, for a number of clusters with one secret each."""

    name: str
    arithmetic: str
    price: Price
    amount: Callable[[int], float]


def shards_of(clusters: int) -> float:
    """Return how many shards have clusters: a hash spreads them."""
    return float(COUNT * (1 - (1 - 1 / COUNT) ** clusters))


def refresh_seconds() -> float:
    """Return the CPU of a cluster on Azure, from docs/scale.md: of 100,000 a quarter is due at a tick."""
    found = re.search(r"all shards of a tick \| ([\d.]+) s CPU a tick", read(ROOT / "docs" / "scale.md"))
    assert found
    return float(found[1]) / (100_000 / 4)


def busy(clusters: int) -> float:
    """Seconds of a tick in which an instance works: shards of a tick share one."""
    return _SCHEDULE + _MINT + refresh_seconds() * clusters / 4


LINES: Final = (
    Line(
        "instances while they work",
        f"{_TICKS:,} ticks * ({_SCHEDULE:.0f} s timer + {_MINT:.0f} s token + {{refresh}} ms a due cluster) "
        f"* {_GB:.0f} GB",
        GB_SECOND,
        lambda clusters: _TICKS * busy(clusters) * _GB,
    ),
    Line(
        "executions",
        f"{_TICKS:,} ticks * (1 + a quarter of the shards, {COUNT} at most)",
        EXECUTION,
        lambda clusters: _TICKS * (1 + shards_of(clusters) / 4),
    ),
    Line(
        "storage",
        f"{len(QUEUES)} queues polled every 5 s, and each tick 10 calls and 20 a due shard",
        STORAGE_CALL,
        lambda clusters: len(QUEUES) * _HOURS * 720 + _TICKS * (10 + 5 * shards_of(clusters)),
    ),
    Line(
        "logs",
        f"{_EVENTS} events of 1 KB a secret and day, and {_FIXED_LOG} GB",
        LOG,
        lambda clusters: clusters * _EVENTS * (_HOURS / 24) / 1024 / 1024 + _FIXED_LOG,
    ),
    Line("alert rules", f"{_RULES}, evaluated every 5 minutes", RULE, lambda _: _RULES),
)


def table() -> Iterator[str]:
    """Yield the lines of the Markdown table."""
    yield f"| a month | arithmetic | price | {' | '.join(f'{fleet:,} clusters' for fleet in FLEETS)} |"
    yield f"|---|---|---|{'---|' * len(FLEETS)}"
    for line in LINES:
        arithmetic = line.arithmetic.format(refresh=f"{refresh_seconds() * 1000:.1f}")
        cells = [
            f"{_number(line.amount(fleet))} {line.price.unit}: ${line.price.of(line.amount(fleet)):,.2f}"
            for fleet in FLEETS
        ]
        yield f"| {line.name} | {arithmetic} | {_unit_price(line.price)} | {' | '.join(cells)} |"
    totals = [sum(line.price.of(line.amount(fleet)) for line in LINES) for fleet in FLEETS]
    yield f"| **together** | | | {' | '.join(f'**${total:,.0f}**' for total in totals)} |"


def _number(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:,.2g}"


def _unit_price(price: Price) -> str:
    text = f"${price.dollars:,.2f} a unit" if price.dollars >= 0.01 else f"${price.dollars * 1e6:,.2f} a million"
    return f"{text}, {price.free:,.0f} free" if price.free else text


if __name__ == "__main__":
    print(*table(), sep="\n")
