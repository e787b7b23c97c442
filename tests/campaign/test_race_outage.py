"""All backends fail at full load, and the gateway does not multiply their requests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import trio

from ollama_gateway.flow.hedging import RETRIES_A_SECOND, RETRIES_SAVED, RETRY_RATIO
from ollama_gateway.simulator import Model, Script
from tests.campaign.conftest import Note
from tests.campaign.racing import RunningGateway, running_gateway, simulator, wait_until
from tests.campaign.sizes import Sizes
from tests.campaign.visit import Visit

CLIENTS: Final = 30
"""Clients; each sends its next request as soon as it has its answer."""
WARM_UP: Final = 1.0
"""Seconds in which the first failovers are free and saved retries are spent."""
MODEL: Final = "m:1"


async def load(running: RunningGateway, seconds: float, numbers: Iterator[int]) -> list[Visit]:
    """Send requests for some seconds, and return once all are answered."""
    visits: list[Visit] = []
    until = trio.current_time() + seconds

    async def ask() -> None:
        while trio.current_time() < until:
            visits.append(visit := running.visit(MODEL, f"{next(numbers)}"))
            await visit.run()

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(ask)
    await wait_until(lambda: running.is_quiet)
    return visits


def attempts(running: RunningGateway) -> int:
    """Return the number of requests that the backends got."""
    return sum(simulator.figures.requests for simulator in running.simulators.values())


async def test_an_outage_is_not_multiplied(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Three failing backends get at most 1.1 attempts a request, and 10 a second more.

    Counted at the backends after a second of warm-up at full load. A gateway with few requests can
    save ten retries; the small run, which may be slow, adds them.
    """
    backends = {name: simulator(Model(MODEL)) for name in ("a", "b", "c")}
    for backend in backends.values():
        backend.script(Script(status=500), times=None)
    async with running_gateway(tmp_path, backends, {}) as running:
        numbers, began = count(), trio.current_time() + WARM_UP
        warming = await load(running, WARM_UP, numbers)
        before = attempts(running)
        visits = await load(running, sizes.outage, numbers)
        made, seconds = attempts(running) - before, trio.current_time() - began

        assert {visit.status for visit in warming + visits} == {500}
        assert not any(visit.is_broken for visit in warming + visits)
        note(f"{len(warming)} requests in the warm-up made {before} attempts")
        note(f"{len(visits)} requests in {seconds:.1f} s made {made} attempts")
        saved = 1 if sizes.is_timed else RETRIES_SAVED
        paid = RETRY_RATIO * len(visits) + RETRIES_A_SECOND * seconds + saved
        note(f"{made - len(visits)} retries, {paid:.0f} allowed")
        assert made <= len(visits) + paid
