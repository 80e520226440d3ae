"""Every `az` command in pages, remedies and messages, as the arguments that az would get.

Bash runs the blocks, page by page, with a recorder in place of az: only bash knows how its quotes and variables expand.
Commands in remedies and sentences are extracted as text.
"""

import ast
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pullkeeper.errors import PullkeeperError
from tests.apiserver import at_hand
from tests.docs.azure_cli import JUDGES
from tests.docs.pages import PAGES, ROOT, RUNBOOK, Block, blocks, read

INDEX: Final = RUNBOOK / "README.md"
EXAMPLES: Final = ROOT / "docs" / "examples"
CLUSTER: Final = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers"
    "/Microsoft.ContainerService/managedClusters/shop-west"
)
APP_ID: Final = CLUSTER.replace("ContainerService/managedClusters/shop-west", "Web/sites/pullkeeper")
_KNOWN: Final = {
    "cluster": CLUSTER,
    "subscription": "00000000-0000-0000-0000-000000000000",
    "group": "shop",
    "name": "shop-west",
    "principal": "00000000-0000-0000-0000-000000000001",
    "resource": "api://AzureADTokenExchange",
}
_AZ: Final = re.compile(r"\baz (?=[a-z])")
_IN_A_SENTENCE: Final = re.compile(r"\baz [a-z](?:'[^']*'|[^',;)])*?(?=[,;)]|\. | - |\.?$)")
_BLANKS: Final = {
    "function app id": APP_ID,
    "storage account id": APP_ID.replace("Web/sites", "Storage/storageAccounts"),
    "version": "1.34",
    "kind": "queue",
}
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"(?<!`)`(az [^`]+)`")


@dataclass(frozen=True, slots=True)
class Command:
    """An az command. where: file and line, or the class of a failure."""

    where: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: az {shlex.join(self.arguments)}"


def shell_blocks() -> list[Block]:
    """Return the blocks of the pages, and the indented commands in the examples' comments."""
    found = blocks("bash", "sh")
    for example in sorted(EXAMPLES.glob("*.yml")):
        for match in re.finditer(r"(?:^ *# {3,}.+\n)+", read(example), re.MULTILINE):
            line = read(example)[: match.start()].count("\n") + 1
            found.append(Block(example, line, "bash", re.sub(r"^ *# ?", "", match[0], flags=re.MULTILINE)))
    return found


def count_commands(block: Block) -> int:
    """Return how many times the block calls az, without its comments."""
    return len(_AZ.findall(re.sub(r"(?:^|\s)#.*", "", block.text)))


def run_blocks(folder: Path) -> dict[Block, list[Command]]:
    """Run all blocks that call az, and return their commands. AssertionError if bash writes an error."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "az").symlink_to(JUDGES / "recorder")
    at_hand.program("jq")
    for name in ("curl", "func", "gcloud", "kubectl", "openssl", "pipx", "pullkeeper"):
        (programs / name).symlink_to(at_hand.program("true"))
    # Files that the pages have the reader write, and one that az writes.
    for name in ("hubs.json", "onboarding-role.json", "aks-check.yaml"):
        (folder / name).write_text('{"Actions": []}', encoding="utf-8")
    (folder / "infra").symlink_to(ROOT / "infra")
    index = [block.text for block in blocks("bash") if block.page == INDEX]
    names = [text for text in index if re.search(r"^(?:PRINCIPAL|PROVIDER|KEY)=", text, re.MULTILINE)]
    found: dict[Block, list[Command]] = {}
    for page in dict.fromkeys(block.page for block in shell_blocks() if count_commands(block)):
        own = [block for block in shell_blocks() if block.page == page]
        before = names if page.parent == RUNBOOK and page != INDEX else []
        for block, commands in zip(own, _run_page(page, before, own, folder, programs), strict=True):
            if count_commands(block):
                found[block] = [Command(str(block), command) for command in commands]
    return found


def _run_page(
    page: Path, before: list[str], own: list[Block], folder: Path, programs: Path
) -> list[list[tuple[str, ...]]]:
    """Run a page's blocks in order in one shell, and return the commands of each. before: blocks of another page that
    set its variables.
    """
    name = "-".join(page.relative_to(ROOT).parts)
    records = [folder / f"{name}-{number}" for number in range(len(own))]
    text = ["set -o nounset", "export RECORD=/dev/null", *before]
    for block, record in zip(own, records, strict=True):
        record.touch()
        text += [f"RECORD={shlex.quote(str(record))}", block.text]
    done = subprocess.run(
        ["bash", "-c", "\n".join(text)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    assert done.stderr == "", f"{page.relative_to(ROOT)}: {done.stderr}"
    return [list(parse_record(record.read_bytes())) for record in records]


def parse_record(record: bytes) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of each command that the recorder has written."""
    left = record.decode().split("\0")[:-1]
    while left:
        count = int(left[0])
        yield tuple(left[1 : count + 1])
        left = left[count + 1 :]


def find_in_remedies() -> list[Command]:
    """Return the commands of all remedies, as the app shows them."""

    def subclasses(kind: type[PullkeeperError]) -> Iterator[type[PullkeeperError]]:
        for one in kind.__subclasses__():
            yield one
            yield from subclasses(one)

    kinds = (kind for kind in subclasses(PullkeeperError) if "remedy_template" in vars(kind))
    return [Command(kind.__name__, command) for kind in kinds for command in extract_commands(kind("", _KNOWN).remedy)]


def find_in_code() -> list[Command]:
    """Return the commands in all strings of the core, without docstrings and errors.py, which has the remedies."""
    found = []
    for module in sorted((ROOT / "pullkeeper").glob("**/*.py")):
        if module.name == "errors.py":
            continue
        for line, text in _strings(ast.parse(read(module))):
            found += [Command(f"{module.relative_to(ROOT)}:{line}", command) for command in extract_commands(text)]
    return found


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string; each value of an f-string becomes x."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def find_in_prose() -> list[Command]:
    """Return the commands in backticks, outside of blocks. Required arguments may be missing there."""
    found = []
    for page in PAGES:
        prose = _FENCED.sub(lambda fenced: "\n" * fenced[0].count("\n"), read(page))
        for span in _SPAN.finditer(prose):
            where = f"{page.relative_to(ROOT)}:{prose[: span.start()].count(chr(10)) + 1}"
            found.append(Command(where, tuple(shlex.split(span[1].replace("$APP_ID", APP_ID))[1:])))
    return found


def extract_commands(sentence: str) -> list[tuple[str, ...]]:
    """Return the commands in a sentence, with the reader's blanks filled in. AssertionError if the end of one cannot be
    found, because of an apostrophe in it for instance.
    """
    filled = re.sub(r"[<{]([a-z ]+)[>}]", lambda blank: _BLANKS.get(blank[1], "x"), sentence)
    found = [tuple(shlex.split(match[0])[1:]) for match in _IN_A_SENTENCE.finditer(filled)]
    assert len(found) == len(_AZ.findall(filled)), sentence
    return found
