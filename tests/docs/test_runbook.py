"""The runbook has a page for every failure category, and each page agrees with the code."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import get_args

import pytest

from functions.openapi import document
from pullkeeper import errors, telemetry
from pullkeeper.diagnosis.report import HopName
from pullkeeper.documentation import Documentation
from pullkeeper.errors import PullkeeperError
from tests.docs.pages import ROOT, RUNBOOK, Block, anchors, blocks, read, rows

INDEX = RUNBOOK / "README.md"
CATEGORIES = {kind.category: kind for kind in errors.categories()}
NOT_A_FAILURE = "drift_repaired"
SECTIONS = ["What you see", "Causes", "Check", "Fix", "Fixed when", "Recovers by itself?"]

each_category = pytest.mark.parametrize("kind", CATEGORIES.values(), ids=CATEGORIES)
each_page = pytest.mark.parametrize("category", [*CATEGORIES, NOT_A_FAILURE])

_COMMAND = re.compile(r"\b(?:az|kubectl|gcloud)(?: [a-z][a-z0-9,-]*)+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def subclasses(of: type[PullkeeperError]) -> Iterator[type[PullkeeperError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from subclasses(kind)


def remedy_commands() -> list[tuple[str, str]]:
    """Return category and command, for every class: a category may have several."""
    found = (
        (kind.category, command)
        for kind in subclasses(PullkeeperError)
        for command in _COMMAND.findall(kind.remedy_template)
    )
    return list(dict.fromkeys(found))


def read_page(category: str) -> str:
    return read(RUNBOOK / f"{category}.md")


def read_opening(category: str) -> str:
    """Return the text before the first section, on one line."""
    return " ".join(read_page(category).split("\n## ", 1)[0].split())


def test_every_category_has_a_page_and_every_page_a_category() -> None:
    pages = {page.stem for page in RUNBOOK.glob("*.md")} - {INDEX.stem}
    assert pages == {*CATEGORIES, NOT_A_FAILURE}


@each_page
def test_the_address_of_a_page_leads_to_it(category: str) -> None:
    base = "https://docs.example/main"
    address = Documentation(base).page(category)
    assert address
    assert ROOT / address.removeprefix(f"{base}/") == RUNBOOK / f"{category}.md"


def test_the_address_of_the_figures_of_a_run_leads_to_them() -> None:
    address, _, anchor = Documentation("").figures.partition("#")
    assert ROOT / address.lstrip("/") == INDEX
    assert anchor in anchors(INDEX)


def test_what_has_a_category_has_the_address_of_its_page() -> None:
    shown = {
        name: {*one["properties"]} for name, one in document()["components"]["schemas"].items() if "properties" in one
    }
    explained = {name for name, fields in shown.items() if "category" in fields}
    assert {"TargetView", "Search", "Step", "MintProblem", "ProblemDocument"} <= explained
    assert [name for name in explained if not shown[name] & {"runbook", "type"}] == []


def test_the_index_lists_the_categories_in_the_order_of_the_code() -> None:
    listed = [row[0] for row in rows(INDEX, "category")]
    assert listed == [f"[{category}]({category}.md)" for category in CATEGORIES]


def test_the_runbook_explains_every_hop_of_a_diagnosis_and_where_the_checks_of_the_guide_are() -> None:
    table = rows(INDEX, "hop")
    assert [row[0] for row in table] == [f"`{name}`" for name in get_args(HopName)]
    checks = " ".join(row[2] for row in table)
    for check in ("audience mismatch", "subject mismatch", "permission denied", "managed identity exists"):
        assert check in checks


@each_category
def test_index_and_page_agree_with_the_code_whether_a_retry_helps(kind: type[PullkeeperError]) -> None:
    (row,) = (row for row in rows(INDEX, "category") if row[0].startswith(f"[{kind.category}]"))
    assert row[2].startswith("yes" if kind.retryable else "no")
    opening = read_opening(kind.category)
    assert ("A retry helps." in opening, "does not help" in opening) == (kind.retryable, not kind.retryable)


@each_category
def test_a_page_opens_with_the_meaning_of_its_category(kind: type[PullkeeperError]) -> None:
    """At least with the first clause, so that the reader recognises the problem document."""
    first_clause = re.split(r"[.:,;]", kind.meaning)[0]
    assert read_opening(kind.category).startswith(f"# {kind.category} {first_clause}")


@each_page
def test_all_pages_have_the_same_sections_in_the_same_order(category: str) -> None:
    assert re.findall(r"^## (.+)$", read_page(category), re.MULTILINE) == SECTIONS


@each_page
def test_a_page_is_short_enough_for_three_in_the_morning(category: str) -> None:
    assert 20 <= len(read_page(category).splitlines()) <= 50


@pytest.mark.parametrize(("category", "command"), remedy_commands())
def test_a_page_has_the_commands_of_its_remedies(category: str, command: str) -> None:
    assert command in read_page(category)


def test_the_runbook_mentions_every_event() -> None:
    whole = "".join(read(page) for page in RUNBOOK.glob("*.md"))
    assert [event for event in get_args(telemetry.Event) if event not in whole] == []


@cache
def kubectl_help(*words: str) -> str:
    """Return the help of a command, "" if there is no such command."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("needs kubectl, to ask it for its commands")
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout if done.returncode == 0 and "unknown command" not in done.stderr else ""


def kubectl_commands() -> list[tuple[Block, str]]:
    """Return each kubectl command in a shell block, on one line and without quoted texts."""
    return [
        (block, command)
        for block in blocks("bash", "sh")
        for line in block.text.replace("\\\n", " ").splitlines()
        for command in re.findall(r"kubectl [^|;)>]+", _QUOTED.sub("", line))
    ]


@pytest.mark.parametrize(("block", "command"), kubectl_commands(), ids=str)
def test_kubectl_has_the_commands_and_flags(block: Block, command: str) -> None:
    words = re.sub(r"--kubeconfig \S+", "", command).split()[1:]
    verbs = words[:3] if words[:2] == ["create", "secret"] else words[:2]
    assert kubectl_help(words[0]), f"{block}: kubectl has no {words[0]}"
    known = kubectl_help(words[0]) + kubectl_help(*verbs) + kubectl_help("options")
    unknown = [flag for flag in re.findall(r"--[a-z-]+", " ".join(words)) if flag not in known]
    assert unknown == [], f"{block}: {command}"
