"""Work on what may be large, in turns: no thread, for JSON holds the interpreter there as well.

Whoever has such work does some milliseconds of it in one turn of the event loop, then lets a few
turns pass, which nearly always are short: a request takes two dozen of them. All such work together
does no more than one of it would: how many there are makes none of the others wait longer.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Final, TypeVar

import anyio
import anyio.lowlevel

from ollama_gateway.wire.large import Steps

T = TypeVar("T")

TURN_SECONDS: Final = 0.002
"""Seconds of such work in one turn of the event loop; the last step of a turn may take 5 ms."""
TURNS_OF_OTHERS: Final = 4


async def in_turns(work: Steps[T]) -> T:
    """The result of the work; raises what it raises. What has no second step is done at once."""
    try:
        next(work)
        while True:
            async with _one_at_a_time():
                for _ in range(TURNS_OF_OTHERS):
                    await anyio.lowlevel.checkpoint()
                _take_turn(work)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what the generator returns


def run_through(work: Steps[T]) -> T:
    """The same in a thread, which others may interrupt between two steps."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the generator returns


def _take_turn(work: Steps[object]) -> None:
    until = time.perf_counter() + TURN_SECONDS
    next(work)
    while time.perf_counter() < until:
        next(work)


@cache
def _one_at_a_time() -> anyio.Lock:
    return anyio.Lock()
