"""Clients that leave on real sockets: no backend goes on working for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from ollama_gateway.simulator import Model, Script
from tests.campaign.conftest import Note
from tests.campaign.racing import (
    Ended,
    RunningGateway,
    chats_seen,
    in_milliseconds,
    percentile,
    running_gateway,
    simulator,
    wait_until,
)
from tests.campaign.sizes import Sizes
from tests.campaign.visit import Visit

AT_ONCE: Final = 25
"""Clients that leave in the same instant; the budget pays for all of their hedges."""
CLOSED_WITHIN: Final = 0.2
MODEL: Final = "m:1"
HANGS: Final = Script(hang_after=0)
HANGS_LATER: Final = Script(hang_after=1)
ALONE: Final = {"GATEWAY_RACE_HEDGE_AFTER": "off"}
BESIDE: Final = {"GATEWAY_RACE_HEDGE_AFTER": "20ms", "GATEWAY_RACE_MAX_HEDGE_RATIO": "1"}


@attrs.frozen
class Window:
    """The state of a request when its client leaves.

    Args:
        script: the script of each request at each backend.
        backends: the number of backends that work for it then.
        streams: whether the answer is streamed.
        chunks: whether the client already has some chunks.
        settings: of the gateway.

    """

    script: Script
    backends: int = 1
    streams: bool = True
    chunks: bool = False
    settings: Mapping[str, str] = attrs.field(default=ALONE)

    def is_reached(self, running: RunningGateway, visits: list[Visit]) -> bool:
        """Return whether all of the clients are in this state."""
        served = [simulator.in_flight for simulator in running.simulators.values()]
        have_chunks = [visit.first_chunk_at < trio.current_time() for visit in visits]
        return sum(served) == len(visits) * self.backends and all(
            has == self.chunks for has in have_chunks
        )


WINDOWS: Final = {
    "the first chunk": Window(HANGS),
    "a hedge": Window(HANGS, backends=2, settings=BESIDE),
    "the rest of a stream": Window(HANGS_LATER, chunks=True),
    "a whole answer": Window(HANGS, streams=False),
}


async def all_leave(
    running: RunningGateway, visits: list[Visit], is_time: Callable[[], bool]
) -> list[Ended]:
    """Send all clients and let them leave in time; return the records written then."""
    before = len(running.ended)
    async with trio.open_nursery() as nursery:
        for visit in visits:
            nursery.start_soon(visit.run)
        await wait_until(is_time)
        assert len(running.ended) == before
        for visit in visits:
            visit.leave()
    await wait_until(lambda: len(running.ended) == before + len(visits))
    return running.ended[before:]


def batches(running: RunningGateway, count: int, *, streams: bool) -> list[list[Visit]]:
    """Return visits in batches of clients that leave together."""
    visits = [running.visit(MODEL, f"{number}", streams=streams) for number in range(count)]
    return [visits[start : start + AT_ONCE] for start in range(0, count, AT_ONCE)]


def check(late: list[float], sizes: Sizes, note: Note) -> None:
    """Print the times, and check them in a full run."""
    note(f"{len(late)} ends after the clients left: {in_milliseconds(late)}")
    if sizes.is_timed:
        assert percentile(late, 0.99) <= CLOSED_WITHIN


@pytest.mark.parametrize("waits_for", WINDOWS)
async def test_leaving_closes_the_connections_to_backends(
    waits_for: str, tmp_path: Path, sizes: Sizes, note: Note
) -> None:
    """When a waiting client leaves, its connections to backends close within 200 ms (p99).

    Measured from the close of the client's socket until each backend sees its connection close.
    """
    window = WINDOWS[waits_for]
    backends = {name: simulator(Model(MODEL)) for name in ("a", "b")}
    async with running_gateway(tmp_path, backends, window.settings) as running:
        for backend in backends.values():
            backend.script(window.script, times=None)
        late: list[float] = []
        for visits in batches(running, sizes.leaving, streams=window.streams):
            records = await all_leave(running, visits, partial(window.is_reached, running, visits))
            assert [record.record.outcome for record in records] == ["client_gone"] * len(visits)
            await wait_until(partial(are_gone, running, visits, window.backends))
            late += [
                gone_at - visit.closed_at for visit in visits for gone_at in gone(running, visit)
            ]

        assert len(late) == sizes.leaving * window.backends
        assert [backend.in_flight for backend in running.backends] == [0, 0]
        check(late, sizes, note)


def are_gone(running: RunningGateway, visits: list[Visit], backends: int) -> bool:
    """Return whether nothing is left, and enough backends have seen each client leave."""
    return running.is_quiet and all(len(gone(running, visit)) == backends for visit in visits)


def gone(running: RunningGateway, visit: Visit) -> list[float]:
    """Return when each backend saw its connection close."""
    seen = [chats_seen(simulator).get(visit.prompt) for simulator in running.simulators.values()]
    return [one.gone_at for one in seen if one is not None and one.gone_at is not None]


@contextlib.asynccontextmanager
async def no_room(running: RunningGateway) -> AsyncIterator[None]:
    """Take every slot for the length of the block."""
    holders = [running.visit(MODEL, f"holder {name}") for name in running.simulators]
    for backend in running.simulators.values():
        backend.script(HANGS_LATER)
    async with trio.open_nursery() as nursery:
        for holder in holders:
            nursery.start_soon(holder.run)
        await wait_until(lambda: all(holder.data for holder in holders))
        yield
        for holder in holders:
            holder.leave()


def are_in_line(running: RunningGateway, visits: list[Visit]) -> bool:
    """Return whether this many requests wait for room."""
    return len(running.gateway.backends.line) == len(visits)


async def test_leaving_the_line(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """A client that leaves the line is out of it within 200 ms (p99), and no backend is asked.

    Measured from the first close among those that left together to the end of each request.
    """
    backends = {name: simulator(Model(MODEL)) for name in ("a", "b")}
    async with running_gateway(tmp_path, backends, ALONE, slots=1) as running:
        late: list[float] = []
        async with no_room(running):
            for visits in batches(running, sizes.leaving, streams=True):
                records = await all_leave(running, visits, partial(are_in_line, running, visits))
                assert [record.record.outcome for record in records] == ["client_gone"] * len(
                    visits
                )
                assert not any(record.record.attempts for record in records)
                assert are_in_line(running, [])
                left_at = min(visit.closed_at for visit in visits)
                late += [record.at - left_at for record in records]
        await wait_until(lambda: running.is_quiet)
        after = running.visit(MODEL, "after")
        await after.run()

        assert after.is_whole
        prompts = {prompt for backend in backends.values() for prompt in chats_seen(backend)}
        assert prompts == {"holder a", "holder b", "after"}
        assert len(late) == sizes.leaving
        check(late, sizes, note)
