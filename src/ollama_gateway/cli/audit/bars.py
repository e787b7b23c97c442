"""Draws the attempts of a request as bars: when each began, when it answered, when it ended.

Attempts that ran side by side stand below each other, so that a hedge shows. A bar has two parts:
the wait for the first chunk, and the answer.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.cells import cell_len

from ollama_gateway.ledger.document import Document
from ollama_gateway.printable import printable
from ollama_gateway.reasons import Reason

SHORTEST: Final = 16
"""Characters of an axis at least; a line may then be wider than the terminal."""
LONGEST_NAME: Final = 24
"""Characters of a name that stands beside its bar; a longer one has a line of its own."""


class Marks(NamedTuple):
    """The characters of a bar."""

    waiting: str
    answering: str


BLOCKS: Final = Marks("▒", "█")
PLAIN: Final = Marks("-", "#")


def attempt_bars(document: Document, width: int, marks: Marks) -> list[str]:
    """Return the lines, no wider than `width`; none if there is nothing to draw.

    Args:
        document: of a record that was read and checked.
        width: characters of a line.
        marks: the characters that the output has.

    """
    attempts, whole = document["attempts"], _end(document)
    if not attempts or whole <= 0:
        return []
    names = [_name(attempt) for attempt in attempts]
    results = [_result(attempt) for attempt in attempts]
    beside = max(cell_len(name) for name in [*names, ""] if cell_len(name) <= LONGEST_NAME)
    room = max(SHORTEST, width - beside - max(map(len, results)) - 4)
    lines = [_axis(beside, room, whole)]
    for attempt, name, result in zip(attempts, names, results, strict=True):
        if cell_len(name) > beside:
            lines.append(name)
            name = ""  # noqa: PLW2901 - it stands above
        bar = _bar(attempt, whole, room, marks)
        lines.append(f"{name}{' ' * (beside - cell_len(name))} |{bar}| {result}")
    return lines


def _end(document: Document) -> float:
    """Return the last moment of a request that is known, in ms after it arrived."""
    found = [document["duration_ms"] or 0]
    for attempt in document["attempts"]:
        found += [attempt[name] or 0 for name in ("started_ms", "first_chunk_ms", "ended_ms")]
    return float(max(found))


def _name(attempt: Document) -> str:
    name = printable(attempt["backend"] or "-")
    return f"{name} (hedge)" if attempt["hedge"] else name


def _result(attempt: Document) -> str:
    reason = attempt["reason"]
    if reason == Reason.LOST_TO_HEDGE:
        return "too slow"
    if reason is not None:
        return "failed"
    return "answered" if _has_won(attempt) else "cancelled"


def _has_won(attempt: Document) -> bool:
    return (
        attempt["first_chunk_ms"] is not None
        and attempt["ended_ms"] is None
        and attempt["reason"] is None
    )


def _axis(beside: int, room: int, whole: float) -> str:
    end = f"{whole:,.0f} ms"
    return f"{'':{beside}}  0{end:>{room - 1}}"


def _bar(attempt: Document, whole: float, room: int, marks: Marks) -> str:
    """Return the bar of an attempt, padded to `room`; every attempt has at least one mark."""
    began = _place(attempt["started_ms"] or 0, whole, room - 1)
    ended = attempt["ended_ms"]
    if ended is None:  # of an answer, the end of the request; else unknown, as of older records
        ended = whole if _has_won(attempt) else 0
    last = max(_place(ended, whole, room), began + 1)
    first = attempt["first_chunk_ms"]
    answer = last if first is None else min(max(_place(first, whole, room), began), last - 1)
    bar = " " * began + marks.waiting * (answer - began) + marks.answering * (last - answer)
    return f"{bar:{room}}"


def _place(moment: float, whole: float, room: int) -> int:
    return min(round(moment / whole * room), room)
