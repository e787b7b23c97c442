"""Print for commands: lines and tables for people, aligned columns for pipes, JSON for programs.

Commands print in no other way (tests/test_house.py), so that no text of a backend, a client or a
file controls the terminal. A caller makes each foreign text in a line `printable`; quoting the
whole line here is only the last safeguard.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from typing import Final

import typer
from rich.cells import cell_len

from ollama_gateway.cli.lines import exit_with, print_csv, print_json, print_lines, say, say_over
from ollama_gateway.cli.table import NOTHING, Column, Layout, Row, broken, layout_of
from ollama_gateway.printable import printable

__all__ = [
    "TablePrinter",
    "confirm",
    "count_of",
    "exit_with",
    "human_size",
    "is_terminal",
    "print_csv",
    "print_json",
    "print_lines",
    "print_table",
    "say",
    "say_over",
    "shows_blocks",
    "terminal_width",
]

_MAX_BAR: Final = 24
"""Characters of the longest bar."""


def confirm(question: str) -> None:
    """Ask on the terminal and end the command with code 1 for a no; without one, with code 2."""
    if not sys.stdin.isatty():
        exit_with(2, f"{printable(question)} No terminal to answer on: add --yes")
    typer.confirm(printable(question), abort=True, err=True)


def is_terminal() -> bool:
    """Whether people see stdout and stderr, so that hints are worth a line."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def shows_blocks() -> bool:
    """Whether stdout is a terminal whose encoding has block characters."""
    try:
        "█▒".encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Return the characters of a line of the terminal; 80 where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 80


def count_of(count: int, noun: str) -> str:
    """Return `1 model`, `2 models`, `1,000 models`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def human_size(size: int | None) -> str:
    """Return bytes as `ollama list` shows them: `397 MB`, `18.6 GB`; `-` for None."""
    if size is None:
        return NOTHING
    if size < 10**9:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**9:,.1f} GB"


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    bars: Sequence[int | None] | None = None,
    piped_head: bool = True,
    wide: bool = False,
) -> None:
    """Print a table, on a terminal as its width allows (`table.py`).

    Args:
        columns: the columns.
        rows: the cells.
        bars: for each row, the amount that a bar behind it shows; None: no bar.
        piped_head: whether the head is printed when stdout is not a terminal.
        wide: print all columns on a narrow terminal too.

    """
    table = TablePrinter(columns, rows, wide=wide)
    if piped_head or sys.stdout.isatty():
        table.print_head()
    for row, bar in zip(rows, _bars(table.layout, bars or [None] * len(rows)), strict=True):
        table.print_row(row, bar)
    table.print_hint()


class TablePrinter:
    """Prints a table row by row; its layout comes from the first rows."""

    def __init__(self, columns: Sequence[Column], first: Sequence[Row], *, wide: bool) -> None:
        is_narrow = sys.stdout.isatty() and not wide
        width = shutil.get_terminal_size().columns if is_narrow else None
        self.layout = layout_of(columns, [_printable(row) for row in first], width)

    def print_head(self) -> None:
        """Print the names of the columns."""
        if head := self.layout.head():
            typer.echo(typer.style(head, bold=True))  # on a terminal only: echo sees to it

    def print_row(self, row: Row, bar: str = "") -> None:
        """Print the cells of one record."""
        cells = _printable(row)
        lines = self.layout.lines(cells)
        if bar and self.layout.fits(cells):
            lines[0] += " " * (self.layout.length + 2 - cell_len(lines[0])) + bar
        for line in lines:
            say(line)

    def print_hint(self) -> None:
        """Say on the terminal which columns are missing."""
        if missing := self.layout.left_out:
            hint = f"(not shown: {', '.join(missing)}; --wide shows all)"
            for line in broken(hint, self.layout.width or math.inf):
                say(line, err=True)


def _printable(row: Row) -> Row:
    return tuple(map(printable, row))


def _bars(layout: Layout, amounts: Sequence[int | None]) -> list[str]:
    """Return bars for the rest of the lines; the largest amount has the longest."""
    most = max(filter(None, amounts), default=0)
    room = _MAX_BAR if layout.width is None else min(_MAX_BAR, layout.width - layout.length - 2)
    mark = "█" if shows_blocks() else "#"
    return [mark * -(-max(room, 0) * amount // most) if amount else "" for amount in amounts]
