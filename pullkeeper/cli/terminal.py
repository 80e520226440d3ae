"""What the command line prints: marked lines, tables and a spinner, as the terminal can show them.

Where the output is no terminal there are no colours, no spinner and no truncated lines. Where the locale is not UTF-8
everything is ASCII. Texts of services are printed without control characters, and never as commands to a pipeline's
agent (`##vso[...]`).
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Final, Literal, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.status import Status
from rich.text import Text

from pullkeeper.cli.failures import CommandFailed

Mark = Literal["action", "ok", "warning", "failed", "skipped"]
_MARKS: Final[Mapping[Mark, tuple[str, str, str]]] = {
    "action": ("►", ">", "cyan"),
    "ok": ("✔", "+", "green"),
    "warning": ("▲", "!", "yellow"),
    "failed": ("✗", "x", "red"),
    "skipped": ("○", "-", "dim"),
}
_GAP: Final = 3
_NARROWEST: Final = 24
"""Columns that the last cell of a row needs; with fewer it gets lines of its own."""


def clean(text: object) -> str:
    """Return a text of a service on one line, without control characters and pipeline commands."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return " ".join(line.split()).replace("##", "# #")


@dataclass(frozen=True, slots=True)
class Cell:
    """style: of rich, for terminals with colours."""

    text: str
    style: str = ""


Row = Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Terminal:
    """out: results. err: failures and the spinner. unicode: whether the locale has more than ASCII."""

    out: Console
    err: Console
    unicode: bool

    @classmethod
    def open(cls, environment: Mapping[str, str], out: TextIO, err: TextIO) -> "Terminal":
        unicode = is_unicode(environment, out)
        for stream in (out, err):
            if not unicode and isinstance(stream, TextIOWrapper):
                stream.reconfigure(encoding="ascii", errors="replace")
        consoles = [Console(file=stream, highlight=False, emoji=False, markup=False) for stream in (out, err)]
        return cls(consoles[0], consoles[1], unicode)

    @property
    def has_cursor(self) -> bool:
        """Whether lines can be replaced."""
        return self.out.is_terminal and not self.out.is_dumb_terminal

    @property
    def is_interactive(self) -> bool:
        """Whether a person can be asked."""
        return self.out.is_terminal and sys.stdin.isatty()

    def say(self, mark: Mark, text: str, hints: Mapping[str, str | None] | None = None) -> None:
        self._print(self.out, self.line(mark, text))
        self._hint(self.out, hints or {})

    def fail(self, failure: CommandFailed) -> None:
        self._print(self.err, self.line("failed", failure.message))
        self._hint(self.err, failure.hints)

    def note(self, text: str) -> None:
        """Say something that is not part of the result."""
        self._print(self.err, Text(clean(text)))

    def write(self, text: str) -> None:
        """Print lines as they are: a command to copy, a document."""
        self._print(self.out, Text(text))

    def line(self, mark: Mark, text: str) -> Text:
        symbol, ascii_symbol, style = _MARKS[mark]
        return Text.assemble((symbol if self.unicode else ascii_symbol, style), " ", clean(text))

    @contextmanager
    def wait(self, text: str) -> Iterator["Spinner"]:
        """Show what is under way, on a terminal only."""
        if not self.err.is_terminal:
            yield Spinner(None)
            return
        # Below the lines that are printed meanwhile: these are on the same terminal, if there is one.
        console = self.out if self.out.is_terminal else self.err
        with console.status(Text(clean(text)), spinner="dots" if self.unicode else "line") as status:
            yield Spinner(status)

    def table(self, columns: Sequence[str], rows: Sequence[Row], *, is_wide: bool = False) -> list[Text]:
        """Return a line per row. The last column has texts: it is cut to fit a terminal, or has lines of its own where
        the terminal is too narrow. is_wide: it is never cut.
        """
        cells = [[Cell(column, "bold") for column in columns], *rows]
        *fixed, _ = [max(cell_len(row[n].text) for row in cells) + _GAP for n in range(len(columns))]
        left = self.out.width - sum(fixed)
        lines = []
        for row in cells:
            parts = [(set_cell_size(cell.text, width), cell.style) for cell, width in zip(row, fixed, strict=False)]
            last = row[-1]
            if not self.out.is_terminal or is_wide:
                lines.append(Text.assemble(*parts, (last.text, last.style)))
            elif left >= _NARROWEST:
                lines.append(Text.assemble(*parts, (self._cut(last.text, left), last.style)))
            else:
                lines += [
                    Text.assemble(*parts),
                    *([Text(f"  {last.text}", last.style)] if last.text.strip("-") else []),
                ]
        for line in lines:
            line.rstrip()
        return lines

    def print_lines(self, lines: Iterable[Text]) -> None:
        for line in lines:
            self._print(self.out, line)

    def _cut(self, text: str, width: int) -> str:
        if cell_len(text) <= width:
            return text
        mark = "…" if self.unicode else "..."
        return set_cell_size(text, width - len(mark)) + mark

    def _hint(self, console: Console, hints: Mapping[str, str | None]) -> None:
        for name, hint in hints.items():
            if hint:
                self._print(console, Text.assemble("  ", (f"{name}:", "bold"), " ", clean(hint)))

    def _print(self, console: Console, line: Text) -> None:
        # Without rich's own line breaks a command can be copied, and a pipeline can search for a text.
        console.print(line, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Spinner:
    """status: None where there is no terminal."""

    status: Status | None

    def update(self, text: str) -> None:
        if self.status:
            self.status.update(Text(clean(text), overflow="ellipsis", no_wrap=True))


def is_unicode(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the terminal shows more than ASCII. In the locale C, Python writes UTF-8 whatever the terminal shows."""
    is_locale_c = sys.flags.utf8_mode and not environment.get("PYTHONUTF8")
    return not is_locale_c and stream.encoding.lower().startswith("utf")
