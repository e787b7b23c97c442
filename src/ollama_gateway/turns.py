"""Run long work on the event loop in short turns, since a thread would not help.

Python's json keeps the interpreter in a thread as well. So long work takes some milliseconds in one
turn of the event loop, and then lets a few turns pass for other tasks; a request takes about two
dozen turns, nearly all of them short. Only one piece of long work runs at a time, so other tasks
wait no longer however many there are.
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
"""Seconds of long work in one turn; the last step of a turn may take 5 ms."""
TURNS_OF_OTHERS: Final = 4
"""Turns of the event loop between two turns of long work."""


async def in_turns(work: Steps[T]) -> T:
    """Run the work and return its result; work of one step runs at once, without waiting."""
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
    """Run the work in a thread and return its result; threads may switch between steps."""
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
