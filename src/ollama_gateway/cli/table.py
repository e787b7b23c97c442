"""Lay out rows for a terminal of any width: plain functions from cells to lines.

No cell is ever cut. Where the width does not suffice, prose is broken at its blanks and commas, and
then columns are left out, the least important first. The columns of rank 0 are always there: ids,
names, URLs. A row whose cells of rank 0 are too long for the table becomes a block: all its cells
with the names of their columns, on as many lines as they need. If more than a quarter of the rows
are so long, all rows are blocks.

A layout is made from the rows that are known, and takes further ones: a row that is too long for it
becomes a block too. Without a width, as for a pipe, there are all columns, and a long cell moves
the rest of its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import attrs
from rich.cells import cell_len

Row = tuple[str, ...]
"""The cells of one record, printable, one for each column."""

MIN_PROSE: Final = 24
"""Characters that a column of prose gets at least."""
MIN_SHARE: Final = 0.75
"""The share of rows that fit, from which on there is a table."""
NOTHING: Final = "-"
"""The cell of a value that there is none of; blocks leave it out."""
_GAP: Final = "  "
_PART: Final = re.compile(r"[^ ,]*[ ,]*")
"""A piece of prose that is never broken."""


@attrs.frozen
class Column:
    """A column of a table."""

    name: str
    rank: int = 0
    """0 is in every table; of the others, a narrow terminal gets those of the lowest ranks."""
    is_number: bool = False
    """Numbers are aligned to the right."""
    is_prose: bool = False
    """Prose, and lists with commas, may take several lines of a narrow column."""


@attrs.frozen
class Layout:
    """Which columns a table has, and how wide they are."""

    columns: tuple[Column, ...]
    widths: tuple[int | None, ...]
    """By column; None if it is left out."""
    width: int | None
    """Characters of a line; None: unlimited."""
    is_table: bool = True
    """False if all rows are blocks."""

    @property
    def left_out(self) -> list[str]:
        """The names of the columns that the table lacks."""
        pairs = zip(self.columns, self.widths, strict=True)
        return [column.name for column, width in pairs if width is None and self.is_table]

    @property
    def length(self) -> int:
        """The characters of a line of the table."""
        return _length([width for width in self.widths if width is not None])

    def head(self) -> str | None:
        """Return the line with the names of the columns; None if all rows are blocks."""
        return self._line([column.name for column in self.columns]) if self.is_table else None

    def fits(self, row: Row) -> bool:
        """Whether a row is a line of the table."""
        needs = zip(row, self.columns, self.widths, strict=True)
        return self.is_table and (
            self.width is None
            or all(width is None or _need(cell, col) <= width for cell, col, width in needs)
        )

    def lines(self, row: Row) -> list[str]:
        """Return the lines of a row."""
        if not self.fits(row):
            return self._block(row)
        stacks = [
            broken(cell, width or 0) if column.is_prose and self.width is not None else [cell]
            for cell, column, width in zip(row, self.columns, self.widths, strict=True)
        ]
        height = max(
            len(lines)
            for lines, width in zip(stacks, self.widths, strict=True)
            if width is not None
        )
        padded = (lines + [""] * (height - len(lines)) for lines in stacks)
        return [self._line(cells) for cells in zip(*padded, strict=False)]  # shortest: `height`

    def _line(self, cells: Sequence[str]) -> str:
        shown = (
            _aligned(cell, column, width)
            for cell, column, width in zip(cells, self.columns, self.widths, strict=True)
            if width is not None
        )
        return _GAP.join(shown).rstrip()

    def _block(self, row: Row) -> list[str]:
        """Return the first cell and then `name: cell` for the others, as many as fit a line."""
        width = math.inf if self.width is None else self.width
        lines = [row[0]]
        for cell, column in list(zip(row, self.columns, strict=True))[1:]:
            item = f"{column.name}: {cell}"
            if cell == NOTHING:
                continue
            if cell_len(lines[-1] + _GAP + item) <= width:
                lines[-1] += _GAP + item
            else:
                lines += [_GAP + part for part in _parts(column, cell, width - len(_GAP))]
        return lines


def _parts(column: Column, cell: str, width: float) -> list[str]:
    """Return the lines of one cell in a block, with the name of its column."""
    item = f"{column.name}: {cell}"
    if column.is_prose:
        return broken(item, width)
    return [item] if cell_len(item) <= width else [f"{column.name}:", cell]


def layout_of(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> Layout:
    """Return the layout of a table with these rows, for lines of `width` characters."""
    if width is None:
        natural = (_natural(column, i, rows) for i, column in enumerate(columns))
        return Layout(tuple(columns), tuple(natural), None)
    short = _short_rows(columns, rows, width)
    if len(short) < MIN_SHARE * len(rows):
        return Layout(tuple(columns), (None,) * len(columns), width, is_table=False)
    needs = [_needed(column, i, short) for i, column in enumerate(columns)]
    chosen = _chosen(columns, needs, width)
    spare = width - _length([needs[i] for i in chosen])
    widths: list[int | None] = [None] * len(columns)
    for i in chosen:
        growth = min(spare, _natural(columns[i], i, short) - needs[i])
        widths[i], spare = needs[i] + growth, spare - growth
    return Layout(tuple(columns), tuple(widths), width)


def _short_rows(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Row]:
    """Return the shortest rows, as many as can stand in one table with all columns of rank 0."""
    always = [(i, column) for i, column in enumerate(columns) if column.rank == 0]
    widths = [_need(column.name, column) for _, column in always]
    short: list[Row] = []
    needs = [([_need(row[i], column) for i, column in always], row) for row in rows]
    for need, row in sorted(needs, key=lambda pair: sum(pair[0])):
        widths = list(map(max, widths, need))
        if _length(widths) > width:
            break
        short.append(row)
    return short


def _chosen(columns: Sequence[Column], needs: Sequence[int], width: int) -> list[int]:
    """Return the places of the columns that fit, in the order of the table."""
    chosen = [i for i, column in enumerate(columns) if column.rank == 0]
    for i in sorted(range(len(columns)), key=lambda i: columns[i].rank):
        if i not in chosen and _length([needs[j] for j in [*chosen, i]]) <= width:
            chosen.append(i)
    return sorted(chosen)


def _natural(column: Column, place: int, rows: Sequence[Row]) -> int:
    return _widest(cell_len, column, place, rows)


def _needed(column: Column, place: int, rows: Sequence[Row]) -> int:
    return _widest(partial(_need, column=column), column, place, rows)


def _widest(measure: Callable[[str], int], column: Column, place: int, rows: Iterable[Row]) -> int:
    return max(map(measure, [column.name, *(row[place] for row in rows)]))


def _need(cell: str, column: Column) -> int:
    """Return the characters that a cell needs at least."""
    length = cell_len(cell)
    if not column.is_prose or length <= MIN_PROSE:
        return length
    return max(MIN_PROSE, *(cell_len(part.rstrip()) for part in _PART.findall(cell)))


def _length(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _aligned(cell: str, column: Column, width: int) -> str:
    blanks = " " * (width - cell_len(cell))  # none for a cell that is longer
    return blanks + cell if column.is_number else cell + blanks


def broken(text: str, width: float) -> list[str]:
    """Break text at blanks and behind commas into lines of `width`; a longer part stays whole."""
    lines = [""]
    for part in _PART.findall(text):
        if lines[-1] and cell_len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]
