"""All pages: links resolve, code parses, files and make targets exist, and no path of a machine is named."""

import ast
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, links, read, rows

PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "python": ast.parse,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
MACHINE = re.compile(r"(?<![\w.}<>-])/(?:root|tmp|home|work|Users)(?:/|\b)")


@each_page
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in links(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@each_page
def test_no_page_names_a_path_of_a_machine(page: Path) -> None:
    assert MACHINE.findall(read(page)) == []


@pytest.mark.parametrize("block", blocks("bash", "sh", "shell", "console"), ids=str)
def test_shell_parses(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False, timeout=10)
    assert done.stderr == ""


@pytest.mark.parametrize("block", blocks(*PARSERS), ids=str)
def test_data_and_python_parse(block: Block) -> None:
    PARSERS[block.language](block.text)


def test_every_block_has_a_language() -> None:
    """The tests above would skip a block without one."""
    assert [str(block) for block in blocks("")] == []


FOLDERS = "function_app.py|functions|pullkeeper|manifests|infra|local|tests|docs"


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})(?:/[\w./*-]*)?)`", read(page))
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


def test_contributing_explains_every_folder_of_tests() -> None:
    explained = {name for row in rows(ROOT / "CONTRIBUTING.md", "folder") for name in re.findall(r"`(.+?)`", row[0])}
    tested = {f"tests/{path.relative_to(ROOT / 'tests').parts[0]}" for path in ROOT.glob("tests/*/**/test_*.py")}
    assert tested
    assert tested - explained == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for code in [*re.findall(r"`([^`\n]+)`", read(page)), *(block.text for block in blocks("sh", "bash"))]
        for target in re.findall(r"(?:^|&& )make ([a-z0-9-]+)", code, re.MULTILINE)
    }
    assert {"demo", "test", "check"} <= named
    assert named - targets == set()
