"""Benchmarks. Each prints a ratio of two measurements of one run: absolute times depend on the machine."""

import statistics
import subprocess
import sys

BASELINE = "azure.functions, kubernetes.aio.client, google.auth, azure.identity.aio, azure.data.tables.aio"
_RUNS = 7
_SCRIPT = """
import resource
import {modules}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def _measure_import(modules: str) -> tuple[float, float]:
    """Return CPU seconds and peak MB of a new interpreter that imports these."""
    script = _SCRIPT.format(modules=modules)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    cpu, memory = done.stdout.split()
    return float(cpu), float(memory)


def cold_start() -> None:
    """Compare the import of function_app with that of its packages alone, alternating."""
    ours, theirs = [], []
    for _ in range(_RUNS):
        ours.append(_measure_import("function_app"))
        theirs.append(_measure_import(BASELINE))
    ratios = [mine[0] / its[0] for mine, its in zip(ours, theirs, strict=True)]
    cpu, memory = (statistics.median(column) for column in zip(*ours, strict=True))
    print(
        f"cold start: importing function_app takes {statistics.median(ratios):.2f} times the CPU of its packages alone "
        f"(from {min(ratios):.2f} to {max(ratios):.2f} in {_RUNS} pairs; limit 1.5); {cpu:.2f} s, {memory:.0f} MB here"
    )


if __name__ == "__main__":
    cold_start()
