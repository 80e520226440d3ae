"""The documentation as text: which Markdown files there are, their code blocks, tables, links and headings."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
RUNBOOK: Final = ROOT / "docs" / "runbook"
PAGES: Final = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]

_FENCED = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block. line: of its first line in the page, from 1."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """All code blocks in these languages, over all pages."""
    found = (
        Block(page, read(page)[: match.start("text")].count("\n") + 1, match["language"], match["text"])
        for page in PAGES
        for match in _FENCED.finditer(read(page))
    )
    return [block for block in found if block.language in languages]


def links(page: Path) -> list[str]:
    """Targets of the page's links, code blocks left out."""
    return [match["target"] for match in _LINK.finditer(_FENCED.sub("", read(page)))]


def anchors(page: Path) -> set[str]:
    """What a link's `#...` may name in this page, as GitHub makes it from headings."""
    headings = (match["text"].lower() for match in _HEADING.finditer(_FENCED.sub("", read(page))))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def rows(page: Path, first_column: str) -> list[list[str]]:
    """The cells, row by row, of the table whose first column is headed so."""
    table = read(page).split(f"\n| {first_column} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in table.splitlines()[2:]]
