"""`python -m tests.mutants [--jobs N] [NAME ...]`: remove safeguards, one at a time, and run their tests.

The safeguards are in safeguards/*.yaml. Each is removed from a copy of the files; the working tree is never changed.
First the same tests must pass with all safeguards in place. Exits with 1 if a mutant survives, or cannot be made any
more.
"""

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from tests.mutants.listed import ROOT, Mutant, read_mutants

_LONGEST: Final = 600.0  # seconds, for the tests of one mutant
_LINKED: Final = (".venv-judges", "local/azurite/node_modules", "tests/dashboard/axe/node_modules")
Outcome = Literal["killed", "survived", "outdated", "broken"]
"""outdated: its text is no longer there once. broken: pytest could not run the tests."""


def main() -> int:
    mutants = read_mutants()
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    options = parser.parse_args()
    if unknown := sorted({*options.names} - mutants.keys()):
        parser.error(f"no safeguard has the name {', '.join(unknown)}")
    chosen = {name: mutants[name] for name in options.names or mutants}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [_copy_tree(Path(folder) / str(number)) for number in range(options.jobs)]
        tests = list(dict.fromkeys(test for mutant in chosen.values() for test in mutant.tests))
        if _run(copies[0], [*tests, "-n", str(options.jobs)], _LONGEST * len(chosen), quiet=False) != 0:
            print("The tests fail with all safeguards in place.")
            return 1
        counts = _remove_all(chosen, copies)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 0 if set(counts) == {"killed"} else 1


def _remove_all(mutants: Mapping[str, Mutant], copies: Iterable[Path]) -> Counter[Outcome]:
    """Try all mutants, as many at once as there are copies."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def attempt(name: str) -> Outcome:
        copy, began = free.get(), time.monotonic()
        try:
            outcome = _remove(mutants[name], copy)
        finally:
            free.put(copy)
        print(f"{outcome:9} {time.monotonic() - began:6.1f} s  {name}", flush=True)
        return outcome

    with ThreadPoolExecutor(free.qsize()) as pool:
        return Counter(pool.map(attempt, mutants))


def _remove(mutant: Mutant, copy: Path) -> Outcome:
    """Run the tests of a mutant in a copy, which is as before afterwards."""
    if mutant.count(copy) != 1:
        return "outdated"
    with _changed(copy / mutant.file, mutant):
        # 0: all passed. 1: some failed. Everything else: they could not run.
        outcomes: dict[int | None, Outcome] = {0: "survived", 1: "killed", None: "killed"}
        return outcomes.get(_run(copy, ["-x", *mutant.tests], _LONGEST), "broken")


@contextmanager
def _changed(file: Path, mutant: Mutant) -> Iterator[None]:
    original = file.read_text(encoding="utf-8")
    file.write_text(original.replace(mutant.text, mutant.instead), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(original, encoding="utf-8")


def _copy_tree(folder: Path) -> Path:
    """Copy the files of the working tree that git does not ignore."""
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        target = folder / name
        if (ROOT / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    for name in _LINKED:
        if not (folder / name).exists():
            (folder / name).symlink_to((ROOT / name).resolve())
    return folder


def _run(copy: Path, arguments: Sequence[str], longest: float, *, quiet: bool = True) -> int | None:
    """Run pytest, without bytecode that could outlast a mutant. Returns its exit code, None if it did not end."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    output = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, cwd=copy, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        return process.wait(longest)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:  # with the servers that it started
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
