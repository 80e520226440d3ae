"""Every `az` command that Pullkeeper tells people to type, as the arguments that az would get.

Blocks are typed into bash, page by page, with a recorder in the place of az: only bash knows what its quotes and
variables come to. Remedies and what stands in a sentence are cut out of it.
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
}
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"(?<!`)`(az [^`]+)`")


@dataclass(frozen=True, slots=True)
class Typed:
    """where: file and line, or the class of a failure."""

    where: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: az {shlex.join(self.arguments)}"


def shell_blocks() -> list[Block]:
    """Those of the pages, and the ones in the examples' comments: what is indented there is to be typed."""
    found = blocks("bash", "sh")
    for example in sorted(EXAMPLES.glob("*.yml")):
        for match in re.finditer(r"(?:^ *# {3,}.+\n)+", read(example), re.MULTILINE):
            line = read(example)[: match.start()].count("\n") + 1
            found.append(Block(example, line, "bash", re.sub(r"^ *# ?", "", match[0], flags=re.MULTILINE)))
    return found


def asked_for(block: Block) -> int:
    """How many times the block names az, comments left out."""
    return len(_AZ.findall(re.sub(r"(?:^|\s)#.*", "", block.text)))


def typed(folder: Path) -> dict[Block, list[Typed]]:
    """The commands in each block that has some. AssertionError where bash stumbles over a page."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "az").symlink_to(JUDGES / "recorder")
    at_hand.program("jq")
    for name in ("curl", "gcloud", "kubectl", "openssl"):
        (programs / name).symlink_to(at_hand.program("true"))
    # What the pages say to write, or az writes.
    for name in ("hubs.json", "onboarding-role.json", "aks-check.yaml"):
        (folder / name).write_text('{"Actions": []}', encoding="utf-8")
    index = [block.text for block in blocks("bash") if block.page == INDEX]
    names = [text for text in index if re.search(r"^(?:PRINCIPAL|PROVIDER|KEY)=", text, re.MULTILINE)]
    found: dict[Block, list[Typed]] = {}
    for page in dict.fromkeys(block.page for block in shell_blocks() if asked_for(block)):
        own = [block for block in shell_blocks() if block.page == page]
        before = names if page.parent == RUNBOOK and page != INDEX else []
        for block, commands in zip(own, _typed(page, before, own, folder, programs), strict=True):
            if asked_for(block):
                found[block] = [Typed(str(block), command) for command in commands]
    return found


def _typed(
    page: Path, before: list[str], own: list[Block], folder: Path, programs: Path
) -> list[list[tuple[str, ...]]]:
    """The commands of each block of a page, typed in their order into one shell. before: what sets its variables, if it
    does not do so itself.
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
    return [list(_recorded(record.read_bytes())) for record in records]


def _recorded(record: bytes) -> Iterator[tuple[str, ...]]:
    left = record.decode().split("\0")[:-1]
    while left:
        count = int(left[0])
        yield tuple(left[1 : count + 1])
        left = left[count + 1 :]


def remedies() -> list[Typed]:
    """As the app would tell them: those of the categories, and of what is told apart within one."""

    def below(kind: type[PullkeeperError]) -> Iterator[type[PullkeeperError]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    told = (kind for kind in below(PullkeeperError) if "remedy_template" in vars(kind))
    return [Typed(kind.__name__, command) for kind in told for command in cut_out(kind("", _KNOWN).remedy)]


def in_the_code() -> list[Typed]:
    """In all strings of the core but those of errors.py, which are remedies, and docstrings."""
    found = []
    for module in sorted((ROOT / "pullkeeper").glob("**/*.py")):
        if module.name == "errors.py":
            continue
        for line, text in _strings(ast.parse(read(module))):
            found += [Typed(f"{module.relative_to(ROOT)}:{line}", command) for command in cut_out(text)]
    return found


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """With x where a value goes in."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def in_prose() -> list[Typed]:
    """In backticks, outside of blocks. It may name a command without all that it takes."""
    found = []
    for page in PAGES:
        prose = _FENCED.sub(lambda fenced: "\n" * fenced[0].count("\n"), read(page))
        for span in _SPAN.finditer(prose):
            where = f"{page.relative_to(ROOT)}:{prose[: span.start()].count(chr(10)) + 1}"
            found.append(Typed(where, tuple(shlex.split(span[1].replace("$APP_ID", APP_ID))[1:])))
    return found


def cut_out(sentence: str) -> list[tuple[str, ...]]:
    """The commands in a sentence. Blanks that only the reader can fill are filled here. AssertionError where one has no
    end that could be told, an apostrophe in it for instance.
    """
    filled = re.sub(r"<([a-z ]+)>", lambda blank: _BLANKS.get(blank[1], "x"), sentence)
    found = [tuple(shlex.split(match[0])[1:]) for match in _IN_A_SENTENCE.finditer(filled)]
    assert len(found) == len(_AZ.findall(filled)), sentence
    return found
