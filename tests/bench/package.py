"""The package that is deployed: how large it is, and what a new instance pays to import the app from it."""

import asyncio
import statistics
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from local.package import PYTHON, ROOT, SITE_PACKAGES, build
from tests.bench.cold_start import measure_import
from tests.bench.report import Figure

_LIMIT: Final = 40
_ROUNDS: Final = 3
# Without the packages of this machine, and without bytecode, which the package does not hold either.
ISOLATED: Final = ("-I", "-S", "-B")
APP: Final = f"sys; sys.path[:0] = ['.', '{SITE_PACKAGES}']; import function_app"


async def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="pullkeeper-bench-") as folder:
        python, size, unpacked = await asyncio.to_thread(_unpack, Path(folder))
        runs = [await measure_import(APP, python, *ISOLATED, cwd=Path(folder)) for _ in range(_ROUNDS)]
    cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    return [
        Figure("zip", size / 1e6, "MB", _LIMIT),
        Figure("unpacked", unpacked / 1e6, "MB"),
        Figure("cold import", cpu, "s CPU", detail=f"Python {PYTHON}, nothing compiled"),
        Figure("memory", memory, "MB"),
    ]


def _unpack(folder: Path) -> tuple[str, int, int]:
    """Build the package and unpack it. Returns the platform's Python, and the bytes of the zip and of its content."""
    package = folder / "package.zip"
    build(package)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
        unpacked = sum(entry.file_size for entry in archive.infolist())
    found = subprocess.run(["bash", ".ci/python", PYTHON], cwd=ROOT, check=True, capture_output=True, text=True)
    return found.stdout.strip(), package.stat().st_size, unpacked
