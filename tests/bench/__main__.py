"""`python -m tests.bench [--quick] [--clusters N] [NAME ...]`: measure, print, and write build/bench.json and .png.

--quick: what does not depend on the machine. --clusters: a smaller fleet than the one that a limit is stated for. Exits
with 1 where a limit is broken.
"""

import argparse
import asyncio
import inspect
import os
import sys
from importlib import import_module
from typing import Final

from tests.bench.report import Figure, record

_NAMES: Final = (
    "storage_calls_per_cluster",
    "cpu_vs_floor",
    "growth",
    "targets",
    "silent",
    "end_to_end",
    "fleet_page",
    "cpu_vs_cronjob",
    "cold_start",
    "package",
    "onboarding_calls",
    "fleet_onboarding",
)
_QUICK: Final = ("storage_calls_per_cluster", "cold_start", "package", "onboarding_calls", "fleet_onboarding")


async def _measure(name: str, **options: int | None) -> list[Figure]:
    """Pass on the options that are set and that the benchmark has."""
    measure = import_module(f"tests.bench.{name}").measure
    known = inspect.signature(measure).parameters
    figures: list[Figure] = await measure(**{key: value for key, value in options.items() if value and key in known})
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *_NAMES], help=", ".join(_NAMES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clusters", type=int)
    options = parser.parse_args()
    broken = 0
    for name in options.names or (_QUICK if options.quick else _NAMES):
        print(f"{name} (load {os.getloadavg()[0]:.1f})", flush=True)
        figures = asyncio.run(_measure(name, clusters=options.clusters, quick=options.quick))
        record(name, figures)
        for figure in figures:
            print(f"  {figure}", flush=True)
        broken += sum(not figure.is_within for figure in figures)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
