"""Clients that leave on real sockets: whatever they wait for, nobody works for them any longer."""

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
    Course,
    Ended,
    asked,
    course,
    in_milliseconds,
    percentile,
    simulator,
    wait_until,
)
from tests.campaign.sizes import Sizes
from tests.campaign.visit import Visit

AT_ONCE: Final = 25
"""Clients that leave in the same instant; all of their hedges can be paid."""
CLOSED_WITHIN: Final = 0.2
MODEL: Final = "m:1"
HANGS: Final = Script(hang_after=0)
HANGS_LATER: Final = Script(hang_after=1)
ALONE: Final = {"GATEWAY_RACE_HEDGE_AFTER": "off"}
BESIDE: Final = {"GATEWAY_RACE_HEDGE_AFTER": "20ms", "GATEWAY_RACE_MAX_HEDGE_RATIO": "1"}


@attrs.frozen
class Window:
    """What a client waits for when it leaves.

    Args:
        script: what befalls each request at each backend.
        backends: how many are at work for it then.
        streams: whether it wants the answer in chunks.
        chunks: whether it has had some.
        settings: of the gateway.

    """

    script: Script
    backends: int = 1
    streams: bool = True
    chunks: bool = False
    settings: Mapping[str, str] = attrs.field(default=ALONE)

    def is_reached(self, on: Course, visits: list[Visit]) -> bool:
        """Whether all of the clients are in it."""
        served = [simulator.in_flight for simulator in on.simulators.values()]
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


async def all_leave(on: Course, visits: list[Visit], is_time: Callable[[], bool]) -> list[Ended]:
    """Let all clients come, and leave when it is time; the rows that are written then."""
    before = len(on.ended)
    async with trio.open_nursery() as nursery:
        for visit in visits:
            nursery.start_soon(visit.run)
        await wait_until(is_time)
        assert len(on.ended) == before
        for visit in visits:
            visit.leave()
    await wait_until(lambda: len(on.ended) == before + len(visits))
    return on.ended[before:]


def batches(on: Course, count: int, *, streams: bool) -> list[list[Visit]]:
    """So many visits, as many together as may leave at once."""
    visits = [on.visit(MODEL, f"{number}", streams=streams) for number in range(count)]
    return [visits[start : start + AT_ONCE] for start in range(0, count, AT_ONCE)]


def check(late: list[float], sizes: Sizes, note: Note) -> None:
    """Tell the times, and judge them in a full run."""
    note(f"{len(late)} ends after the clients left: {in_milliseconds(late)}")
    if sizes.is_timed:
        assert percentile(late, 0.99) <= CLOSED_WITHIN


@pytest.mark.parametrize("waits_for", WINDOWS)
async def test_leaving_closes_the_connections_to_backends(
    waits_for: str, tmp_path: Path, sizes: Sizes, note: Note
) -> None:
    """A client that waits and leaves: its connections to backends are closed in 200 ms (p99).

    Measured from the close of the client's socket to each backend's end seeing the close of its
    own.
    """
    window = WINDOWS[waits_for]
    backends = {name: simulator(Model(MODEL)) for name in ("a", "b")}
    async with course(tmp_path, backends, window.settings) as on:
        for backend in backends.values():
            backend.script(window.script, times=None)
        late: list[float] = []
        for visits in batches(on, sizes.leaving, streams=window.streams):
            records = await all_leave(on, visits, partial(window.is_reached, on, visits))
            assert [record.record.outcome for record in records] == ["client_gone"] * len(visits)
            await wait_until(partial(are_gone, on, visits, window.backends))
            late += [gone_at - visit.closed_at for visit in visits for gone_at in gone(on, visit)]

        assert len(late) == sizes.leaving * window.backends
        assert [backend.in_flight for backend in on.backends] == [0, 0]
        check(late, sizes, note)


def are_gone(on: Course, visits: list[Visit], backends: int) -> bool:
    """Whether nothing is left, and so many backends have noted that each of them left."""
    return on.is_quiet and all(len(gone(on, visit)) == backends for visit in visits)


def gone(on: Course, visit: Visit) -> list[float]:
    """When each backend saw that it was left."""
    seen = [asked(simulator).get(visit.prompt) for simulator in on.simulators.values()]
    return [one.gone_at for one in seen if one is not None and one.gone_at is not None]


@contextlib.asynccontextmanager
async def no_room(on: Course) -> AsyncIterator[None]:
    """Every slot is taken for the length of the block."""
    holders = [on.visit(MODEL, f"holder {name}") for name in on.simulators]
    for backend in on.simulators.values():
        backend.script(HANGS_LATER)
    async with trio.open_nursery() as nursery:
        for holder in holders:
            nursery.start_soon(holder.run)
        await wait_until(lambda: all(holder.data for holder in holders))
        yield
        for holder in holders:
            holder.leave()


def are_in_line(on: Course, visits: list[Visit]) -> bool:
    """Whether so many wait for room."""
    return len(on.gateway.backends.line) == len(visits)


async def test_leaving_the_line(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Who leaves in line is out of it in 200 ms (p99), and no backend is ever asked for them.

    Measured from the first close of those that left together to the end of each request.
    """
    backends = {name: simulator(Model(MODEL)) for name in ("a", "b")}
    async with course(tmp_path, backends, ALONE, slots=1) as on:
        late: list[float] = []
        async with no_room(on):
            for visits in batches(on, sizes.leaving, streams=True):
                records = await all_leave(on, visits, partial(are_in_line, on, visits))
                assert [record.record.outcome for record in records] == ["client_gone"] * len(
                    visits
                )
                assert not any(record.record.attempts for record in records)
                assert are_in_line(on, [])
                left_at = min(visit.closed_at for visit in visits)
                late += [record.at - left_at for record in records]
        await wait_until(lambda: on.is_quiet)
        after = on.visit(MODEL, "after")
        await after.run()

        assert after.is_whole
        prompts = {prompt for backend in backends.values() for prompt in asked(backend)}
        assert prompts == {"holder a", "holder b", "after"}
        assert len(late) == sizes.leaving
        check(late, sizes, note)
