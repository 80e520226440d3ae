"""The list of mutants agrees with the code and with the tests; `python -m tests.mutants` runs it."""

from functools import cache

from tests.mutants.listed import ROOT, Mutant, read_mutants


def test_every_mutant_can_still_be_made_and_its_tests_exist() -> None:
    mutants = read_mutants()

    assert {name: what for name, mutant in mutants.items() if (what := _problem(mutant))} == {}
    assert len(mutants) > 300


def _problem(mutant: Mutant) -> str:
    if (count := mutant.count(ROOT)) != 1:
        return f"its text occurs {count} times in {mutant.file}"
    if mutant.text == mutant.instead or not mutant.tests:
        return "it changes nothing, or has no tests"
    return ", ".join(f"no test {test}" for test in mutant.tests if not _exists(test))


def _exists(test: str) -> bool:
    file, *names = test.partition("[")[0].split("::")
    return _read(file) != "" and all(f"def {name}(" in _read(file) or f"class {name}" in _read(file) for name in names)


@cache
def _read(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else ""
