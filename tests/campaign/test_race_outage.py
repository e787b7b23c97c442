"""All backends fail at full load: the gateway does not multiply what they get."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import trio

from ollama_gateway.flow.hedging import RETRIES_A_SECOND, RETRIES_SAVED, RETRY_RATIO
from ollama_gateway.simulator import Model, Script
from tests.campaign.conftest import Note
from tests.campaign.racing import Course, course, simulator, wait_until
from tests.campaign.sizes import Sizes
from tests.campaign.visit import Visit

CLIENTS: Final = 30
"""Each asks again as soon as it has its answer."""
WARM_UP: Final = 1.0
"""Seconds in which the failovers of those that came first are free, and saved retries are spent."""
MODEL: Final = "m:1"


async def load(on: Course, seconds: float, numbers: Iterator[int]) -> list[Visit]:
    """Ask for so long; returns when all are answered."""
    visits: list[Visit] = []
    until = trio.current_time() + seconds

    async def ask() -> None:
        while trio.current_time() < until:
            visits.append(visit := on.visit(MODEL, f"{next(numbers)}"))
            await visit.run()

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(ask)
    await wait_until(lambda: on.is_quiet)
    return visits


def attempts(on: Course) -> int:
    """Requests that the backends got."""
    return sum(simulator.figures.requests for simulator in on.simulators.values())


async def test_an_outage_is_not_multiplied(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Three backends that only fail get at most 1.1 attempts a request and 10 a second more.

    Counted at the backends after a warm-up of a second at full load. Ten retries can be saved up by
    whoever has asked for little: that is added in the small run, which may be as slow as it likes.
    """
    backends = {name: simulator(Model(MODEL)) for name in ("a", "b", "c")}
    for backend in backends.values():
        backend.script(Script(status=500), times=None)
    async with course(tmp_path, backends, {}) as on:
        numbers, began = count(), trio.current_time() + WARM_UP
        warming = await load(on, WARM_UP, numbers)
        before = attempts(on)
        visits = await load(on, sizes.outage, numbers)
        made, seconds = attempts(on) - before, trio.current_time() - began

        assert {visit.status for visit in warming + visits} == {500}
        assert not any(visit.is_broken for visit in warming + visits)
        note(f"{len(warming)} requests in the warm-up made {before} attempts")
        note(f"{len(visits)} requests in {seconds:.1f} s made {made} attempts")
        saved = 1 if sizes.is_timed else RETRIES_SAVED
        paid = RETRY_RATIO * len(visits) + RETRIES_A_SECOND * seconds + saved
        note(f"{made - len(visits)} retries, {paid:.0f} allowed")
        assert made <= len(visits) + paid
