"""Whatever the app tells the operator, the runbook has a page for, and the page says the same as the app."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import get_args

import pytest

from pullkeeper import errors, telemetry
from pullkeeper.errors import PullkeeperError
from tests.docs.pages import RUNBOOK, Block, blocks, read, rows

INDEX = RUNBOOK / "README.md"
CATEGORIES = {kind.category: kind for kind in errors.categories()}
NO_FAILURE = {"drift_repaired"}
SECTIONS = ["What you see", "Why", "Check", "Mend", "Mended when", "By itself?"]

_COMMAND = re.compile(r"\b(?:az|kubectl|gcloud)(?: [a-z][a-z0-9,-]*)+")
_NOISE = re.compile(r"'[^']*'|\"[^\"]*\"")


def _remedies() -> list[tuple[str, str]]:
    """Of every class: some tell of a category more closely."""
    return list(
        dict.fromkeys(
            (kind.category, command) for kind in _all_kinds() for command in _COMMAND.findall(kind.remedy_template)
        )
    )


def _all_kinds(of: type[PullkeeperError] = PullkeeperError) -> Iterator[type[PullkeeperError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _all_kinds(kind)


def test_every_category_has_a_page_and_no_page_is_left_over() -> None:
    pages = {page.stem for page in RUNBOOK.glob("*.md")} - {"README"}
    assert CATEGORIES.keys() | NO_FAILURE == pages


def test_the_index_has_a_row_for_every_category_in_the_order_of_the_code() -> None:
    indexed = [row[0] for row in rows(INDEX, "category")]
    assert [f"[{category}]({category}.md)" for category in CATEGORIES] == indexed


@pytest.mark.parametrize("kind", CATEGORIES.values(), ids=CATEGORIES)
def test_index_and_page_say_whether_a_retry_helps_as_the_code_does(kind: type[PullkeeperError]) -> None:
    (row,) = (row for row in rows(INDEX, "category") if row[0].startswith(f"[{kind.category}]"))
    assert row[2].startswith("yes" if kind.retryable else "no")
    opening = " ".join(read(RUNBOOK / f"{kind.category}.md").split("\n## ", 1)[0].split())
    assert kind.retryable == ("A retry helps." in opening)
    assert kind.retryable != ("does not help" in opening)


@pytest.mark.parametrize("kind", CATEGORIES.values(), ids=CATEGORIES)
def test_a_page_opens_with_what_the_operator_was_told(kind: type[PullkeeperError]) -> None:
    """The `meaning` of the problem document, at least its first clause, so that one recognises it."""
    page = " ".join(read(RUNBOOK / f"{kind.category}.md").split())
    first_clause = re.split(r"[.:,;]", kind.meaning)[0]
    assert page.startswith(f"# {kind.category} {first_clause}")


@pytest.mark.parametrize("category", [*CATEGORIES, *NO_FAILURE])
def test_a_page_answers_the_same_six_questions_in_the_same_order(category: str) -> None:
    asked = re.findall(r"^## (.+)$", read(RUNBOOK / f"{category}.md"), re.MULTILINE)
    assert asked == SECTIONS


@pytest.mark.parametrize("category", [*CATEGORIES, *NO_FAILURE])
def test_a_page_is_short_enough_for_three_in_the_morning(category: str) -> None:
    assert 20 <= len(read(RUNBOOK / f"{category}.md").splitlines()) <= 50


@pytest.mark.parametrize(("category", "command"), _remedies())
def test_a_page_has_the_commands_of_its_remedy(category: str, command: str) -> None:
    assert command in read(RUNBOOK / f"{category}.md")


def test_every_event_is_somewhere_in_the_runbook() -> None:
    everything = "".join(read(page) for page in RUNBOOK.glob("*.md"))
    missing = [event for event in get_args(telemetry.Event) if event not in everything]
    assert missing == []


def test_queries_ask_for_events_that_exist() -> None:
    asked = {
        name
        for block in blocks("kql")
        for names in re.findall(r"Name (?:==|in) ?(\([^)]*\)|\"[^\"]*\")", block.text)
        for name in re.findall(r'"([^"]+)"', names)
    }
    assert asked
    assert asked <= set(get_args(telemetry.Event))


def test_az_gets_ids_only_where_it_takes_them() -> None:
    """`az aks` has no `--ids` at all, and no command that lists or gets keys has."""
    typed = (line for block in blocks("bash") for line in block.text.replace("\\\n", " ").splitlines())
    commands = [command for line in typed for command in re.findall(r"\baz [^|)]+", line)]
    assert len(commands) > 20
    wrong = [command for command in commands if re.match(r"az (aks|.*\b(list|keys)\b).* --ids", command)]
    assert wrong == []


@cache
def _kubectl_help(*words: str) -> str | None:
    """None: there is no such command."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("left out: kubectl is not installed, and it alone knows its own commands")
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout if done.returncode == 0 and "unknown command" not in done.stderr else None


def _kubectl_commands() -> list[tuple[Block, str]]:
    """Each kubectl command in a shell block of the runbook, on one line, quoted texts left out."""
    found = []
    for block in blocks("bash", "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            found += [(block, part) for part in re.findall(r"kubectl [^|;)>]+", _NOISE.sub("", line))]
    return found


@pytest.mark.parametrize(("block", "command"), _kubectl_commands(), ids=str)
def test_kubectl_knows_the_commands_and_their_flags(block: Block, command: str) -> None:
    words = re.sub(r"--kubeconfig \S+", "", command).split()[1:]
    verbs = words[:3] if words[0] == "create" and words[1:2] == ["secret"] else words[:2]
    known = (_kubectl_help(words[0]) or "") + (_kubectl_help(*verbs) or "") + (_kubectl_help("options") or "")
    assert _kubectl_help(words[0]) is not None, f"{block}: kubectl has no {words[0]}"
    unknown = [flag for flag in re.findall(r"--[a-z-]+", " ".join(words)) if flag not in known]
    assert unknown == [], f"{block}: {command}"
