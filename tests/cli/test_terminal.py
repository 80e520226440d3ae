"""What is printed, piece by piece: clean texts, tables, spans of time, names."""

from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from pullkeeper.cli.names import ClusterName, display_names
from pullkeeper.cli.terminal import Cell, Terminal, clean
from pullkeeper.cli.times import describe, describe_ago, describe_left
from tests.cli.conftest import Cli

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.text())
def test_a_clean_text_is_one_line_that_no_agent_takes_for_a_command(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert "##" not in cleaned


@given(
    st.lists(st.tuples(*[st.text(st.characters(categories=["L", "N", "So"]), max_size=30)] * 3), max_size=5),
    st.integers(min_value=10, max_value=120),
)
def test_a_message_fits_beside_the_names_or_is_whole_below_them(rows: list[tuple[str, ...]], width: int) -> None:
    console = Console(file=StringIO(), width=width, force_terminal=True)
    table = [("ONE", "TWO", "MESSAGE"), *rows]
    lines = Terminal(console, console, unicode=True).table(table[0], [[*map(Cell, row)] for row in rows])
    assert [line.plain for line in lines if line.plain.endswith(" ")] == [], "spaces would make lines of their own"
    names = sum(max(cell_len(row[n]) for row in table) + 3 for n in (0, 1))
    if names + 24 <= width:
        assert len(lines) == len(table)
        assert all(line.cell_len <= width for line in lines)
    else:
        assert {f"  {row[2]}" for row in rows if row[2]} <= {line.plain for line in lines}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (-600, "-10m"),
    ],
)
def test_a_span_is_short(seconds: int, text: str) -> None:
    assert describe(timedelta(seconds=seconds)) == text
    assert describe_left((_NOW + timedelta(seconds=seconds)).isoformat(), _NOW) == text


def test_a_command_is_one_line_on_any_screen() -> None:
    """So that it can be copied."""
    out = StringIO()
    console = Console(file=out, width=20, force_terminal=True)
    Terminal(console, console, unicode=True).write("kubectl apply --server-side -f manifests.yaml")
    assert out.getvalue() == "kubectl apply --server-side -f manifests.yaml\n"


def test_what_a_terminal_cannot_show_is_a_question_mark() -> None:
    stream = TextIOWrapper(BytesIO(), encoding="latin-1")
    Terminal.open({}, stream, stream).say("ok", "caf\u00e9")
    stream.seek(0)
    assert stream.read() == "+ caf?\n"


@pytest.mark.parametrize(("asked", "mark"), [("", "x"), ("1", "✗")])
async def test_the_locale_c_gets_ascii_unless_utf_8_is_asked_for(lonely: Cli, asked: str, mark: str) -> None:
    run = await lonely.run("check", LANG="C", PYTHONUTF8=asked, PULLKEEPER_URL="http://app.example")
    assert run.err.startswith(f"{mark} the app's address must be ")


def test_what_is_not_known_has_a_word() -> None:
    assert (describe_left(None, _NOW), describe_ago(None, _NOW)) == ("-", "never")
    # The app's clock may be behind.
    assert describe_ago((_NOW + timedelta(seconds=3)).isoformat(), _NOW) == "0s ago"


def test_a_cluster_is_shown_as_briefly_as_it_is_unique() -> None:
    ids = [str(ClusterName(*parts)) for parts in (("s", "g", "a"), ("s", "g", "b"), ("s", "h", "b"), ("t", "h", "b"))]
    assert [*display_names([{"cluster": one} for one in ids]).values()] == ["a", "g/b", ids[2], ids[3]]
