"""Tables for terminals of any width, as plain text."""

from __future__ import annotations

import re
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ollama_gateway.cli.table import Column, Row, layout_of

COLUMNS = (
    Column("name"),
    Column("url"),
    Column("slots", 2, is_number=True),
    Column("state", 1),
    Column("why", 3, is_prose=True),
)
ROWS: list[Row] = [
    ("gpu-1", "http://10.0.0.5:11434", "4", "up", "-"),
    ("東京-2", "http://[2001:db8::7348]:11434", "10", "down", "down: no connection in time"),
    ("Zoe\u0308", "http://gpu", "0", "up", "priority 1, warm, 0 of 4 slots busy"),
    ("no", "http://gpu", "0", "up", "-"),
]
LONG: Row = ("workstation", f"https://{'a' * 40}.example/ollama", "1", "up", "priority 2")


def laid_out(rows: list[Row], width: int | None) -> str:
    """Return the whole table."""
    layout = layout_of(COLUMNS, rows, width)
    head = layout.head()
    lines = [*([] if head is None else [head]), *chain.from_iterable(map(layout.lines, rows))]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("width", "rows", "expected"),
    [
        (
            100,
            ROWS,
            """\
name    url                            slots  state  why
gpu-1   http://10.0.0.5:11434              4  up     -
東京-2  http://[2001:db8::7348]:11434     10  down   down: no connection in time
Zoe\u0308     http://gpu                         0  up     priority 1, warm, 0 of 4 slots busy
no      http://gpu                         0  up     -""",
        ),
        (
            78,
            ROWS,
            """\
name    url                            slots  state  why
gpu-1   http://10.0.0.5:11434              4  up     -
東京-2  http://[2001:db8::7348]:11434     10  down   down: no connection in
                                                     time
Zoe\u0308     http://gpu                         0  up     priority 1, warm, 0 of 4
                                                     slots busy
no      http://gpu                         0  up     -""",
        ),
        (
            44,
            ROWS,
            """\
name    url                            state
gpu-1   http://10.0.0.5:11434          up
東京-2  http://[2001:db8::7348]:11434  down
Zoe\u0308     http://gpu                     up
no      http://gpu                     up""",
        ),
        (
            60,
            [*ROWS, LONG],
            """\
name    url                            slots  state
gpu-1   http://10.0.0.5:11434              4  up
東京-2  http://[2001:db8::7348]:11434     10  down
Zoe\u0308     http://gpu                         0  up
no      http://gpu                         0  up
workstation
  url:
  https://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example/ollama
  slots: 1  state: up  why: priority 2""",
        ),
        (
            30,
            ROWS[:2],
            """\
gpu-1
  url: http://10.0.0.5:11434
  slots: 4  state: up
東京-2
  url:
  http://[2001:db8::7348]:11434
  slots: 10  state: down
  why: down: no connection in
  time""",
        ),
    ],
    ids=["all", "prose is broken", "fewer columns", "one block", "all blocks"],
)
def test_a_table_at_each_width(width: int, rows: list[Row], expected: str) -> None:
    """Prose is broken first, then columns are left out, and then records become blocks."""
    assert laid_out(rows, width) == expected


def test_a_pipe_gets_everything() -> None:
    """Without a width each record is one line with all columns, as wide as they are."""
    head, *lines = laid_out([*ROWS, LONG], None).splitlines()

    assert head.split() == ["name", "url", "slots", "state", "why"]
    assert [re.split("  +", line) for line in lines] == [list(row) for row in [*ROWS, LONG]]


def test_columns_that_are_missing_are_named() -> None:
    """The least important ones are left out, whatever their place; blocks have all."""
    assert layout_of(COLUMNS, ROWS, 100).left_out == []
    assert layout_of(COLUMNS, ROWS, 60).left_out == ["why"]
    assert layout_of(COLUMNS, ROWS, 44).left_out == ["slots", "why"]
    assert layout_of(COLUMNS, ROWS[:2], 30).left_out == []


def test_a_later_row_takes_the_layout_of_the_first_ones() -> None:
    """A later row that is too long is a block; in a pipe it stays a line."""
    assert layout_of(COLUMNS, ROWS, 60).lines(LONG)[0] == "workstation"
    assert len(layout_of(COLUMNS, ROWS, None).lines(LONG)) == 1


def test_a_table_without_rows_has_its_head() -> None:
    """The names of the columns are there, as many as fit."""
    assert layout_of(COLUMNS, [], None).head() == "name  url  slots  state  why"
    assert layout_of(COLUMNS, [], 20).head() == "name  url  state"


CELLS = st.text(
    st.characters(categories=("L", "M", "N", "P", "S", "Zs")).filter(str.isprintable), max_size=40
)


@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS, CELLS), max_size=6),
    st.integers(min_value=20, max_value=150),
)
def test_nothing_is_ever_cut(rows: list[Row], width: int) -> None:
    """Whatever the cells and the width, a name and a URL stand whole in one line of their row."""
    layout = layout_of(COLUMNS, rows, width)
    for row in rows:
        lines = layout.lines(row)
        for cell in row[:2]:
            assert cell == "-" or any(cell.rstrip() in line for line in lines)
        if layout.fits(row):
            assert all(cell_len(line) <= width for line in lines)


@given(st.lists(CELLS, min_size=1, max_size=6))
def test_columns_stand_below_each_other(names: list[str]) -> None:
    """Wide characters and combining marks do not move the next column."""
    rows = [(name, "u") for name in names]
    layout = layout_of(COLUMNS[:2], rows, None)
    begins = {cell_len(line.removesuffix("u")) for row in rows for line in layout.lines(row)}

    assert begins == {max(4, *map(cell_len, names)) + 2}
