"""What it costs to import the app, against its packages alone."""

import asyncio
import statistics
import sys
from pathlib import Path
from typing import Final

from tests.bench.report import Figure

_PACKAGES: Final = "azure.functions, kubernetes.aio.client, google.auth, azure.identity.aio, azure.data.tables.aio"
_LIMIT: Final = 1.5
_ROUNDS: Final = 7
_SCRIPT: Final = """
import resource
import {modules}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


async def measure() -> list[Figure]:
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(await measure_import("function_app"))
        theirs.append(await measure_import(_PACKAGES))
    ratio = statistics.median(mine[0] / its[0] for mine, its in zip(ours, theirs, strict=True))
    cpu, memory = (statistics.median(column) for column in zip(*ours, strict=True))
    return [
        Figure("ratio", ratio, "times", _LIMIT, detail=f"import of the app and of its packages, {_ROUNDS} pairs"),
        Figure("import", cpu, "s CPU"),
        Figure("memory", memory, "MB"),
    ]


async def measure_import(modules: str, *interpreter: str, cwd: Path | None = None) -> tuple[float, float]:
    """Return CPU seconds and peak MB of a new interpreter that imports these."""
    command = [*(interpreter or [sys.executable]), "-c", _SCRIPT.format(modules=modules)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=cwd)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the import of {modules} failed")
    cpu, memory = output.split()
    return float(cpu), float(memory)
