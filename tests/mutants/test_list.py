"""The list of mutants agrees with the code and with the tests; `python -m tests.mutants` runs it."""

import pytest

from tests.mutants.listed import ROOT, Mutant, read_mutants

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_mutants_can_still_be_made(mutant: Mutant) -> None:
    """The text occurs once, the mutant differs, and its tests exist."""
    assert mutant.count(ROOT) == 1
    assert mutant.text != mutant.instead
    assert mutant.tests
    for test in mutant.tests:
        file, *names = test.partition("[")[0].split("::")
        content = (ROOT / file).read_text(encoding="utf-8")
        assert all(f"def {name}(" in content or f"class {name}" in content for name in names), test
