"""Many races on real sockets leave nothing behind."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Final

import attrs
import trio

from ollama_gateway.simulator import Model, Script, Simulator
from tests.campaign.conftest import Note
from tests.campaign.racing import RunningGateway, running_gateway, simulator, wait_until
from tests.campaign.sizes import Sizes
from tests.campaign.visit import PATH, Visit

LANES: Final = 5
"""Lanes for each kind: races that run at once, each with a model of its own."""
SETTINGS: Final = {"GATEWAY_RACE_HEDGE_AFTER": "50ms", "GATEWAY_RACE_MAX_HEDGE_RATIO": "1"}
HANGS: Final = Script(hang_after=0)
HANGS_LATER: Final = Script(hang_after=1)
FAILS: Final = Script(status=500)
RESETS: Final = Script(cut_after=0, reset=True)
BREAKS: Final = Script(cut_after=1)
SOON: Final = (0.0, 0.1)
"""Seconds until a client leaves, least and most: before the hedge, or after it."""


@attrs.frozen
class Kind:
    """One kind of race.

    Args:
        name: the first part of its models' names.
        first: the script of the backend that is asked first.
        second: the script of the other backend.
        outcome: the outcome in its audit record.
        status: the status that the client gets.
        leaves: when the client leaves: `soon`, at the `first chunk`, or never.

    """

    name: str
    first: Script
    second: Script = attrs.field(default=Script())
    outcome: str = "completed"
    status: int = 200
    leaves: str = ""


KINDS: Final = (
    Kind("hedged", HANGS),
    Kind("failed-over", FAILS),
    Kind("reset", RESETS),
    Kind("failed", FAILS, FAILS, "upstream_failed", 500),
    Kind("broken-off", BREAKS, BREAKS, "upstream_failed"),
    Kind("left-soon", HANGS, HANGS, "client_gone", 0, "soon"),
    Kind("left", HANGS_LATER, HANGS_LATER, "client_gone", leaves="first chunk"),
    Kind("left-a-hedge", HANGS, HANGS_LATER, "client_gone", leaves="first chunk"),
)


@attrs.define(eq=False)
class Lane:
    """Races of one kind, one after the other.

    The first backend fails in most of them, and three failures in a row would open its breaker. So
    after every second race it gives a whole answer, for which there is no race.
    """

    running: RunningGateway
    kind: Kind
    model: str
    races: list[Visit] = attrs.field(factory=list)
    whole: list[Visit] = attrs.field(factory=list)

    def script(self, first: Simulator, second: Simulator) -> None:
        """Give both backends their scripts for the next race."""
        first.script(self.kind.first, model=self.model, path=PATH, times=None)
        second.script(self.kind.second, model=self.model, path=PATH, times=None)

    async def run(self, count: int) -> None:
        """Run a number of races."""
        random_ = random.Random(self.model)  # noqa: S311 - to be repeatable
        for number in range(count):
            race = self.running.visit(self.model, f"{self.model} {number}")
            race.leaves_at_first = self.kind.leaves == "first chunk"
            if self.kind.leaves == "soon":
                race.stays = random_.uniform(*SOON)
            self.races.append(race)
            await race.run()
            if number % 2:
                whole = self.running.visit(self.model, "whole", streams=False)
                whole.path = "/api/generate"
                self.whole.append(whole)
                await whole.run()


async def run(lanes: list[Lane], count: int) -> None:
    """Run a number of races in each lane, all lanes at once."""
    async with trio.open_nursery() as nursery:
        for lane in lanes:
            nursery.start_soon(lane.run, count)


def check(running: RunningGateway, lanes: list[Lane], sizes: Sizes) -> None:
    """Assert that each race ended as its kind does."""
    for lane in lanes:
        assert {race.status for race in lane.races} == {lane.kind.status}, lane.kind
        assert all(whole.is_whole for whole in lane.whole), lane.kind
    attempted = [{a.backend for a in e.record.attempts} for e in running.ended if e.record.attempts]
    assert all("first" in names for names in attempted), "a breaker opened"
    seen: Counter[tuple[str, str]] = Counter(
        (e.record.model or "", e.record.outcome) for e in running.ended if e.record.endpoint == PATH
    )
    raced = Counter({(lane.model, lane.kind.outcome): len(lane.races) for lane in lanes})
    # A client that leaves before the key lookup has no record; that needs luck or a slow machine.
    hasty = {(lane.model, lane.kind.outcome) for lane in lanes if lane.kind.leaves == "soon"}
    assert seen <= raced
    assert set(raced - seen) <= hasty
    if sizes.is_timed:
        assert sum((raced - seen).values()) <= sum(raced[each] for each in hasty) / 4


async def test_races_leave_nothing(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """After races of every kind no file, task, connection or slot is left."""
    names = {f"{kind.name}-{lane}:1": kind for kind in KINDS for lane in range(LANES)}
    first, second = (simulator(*map(Model, names)) for _ in range(2))
    async with running_gateway(tmp_path, {"first": first, "second": second}, SETTINGS) as running:
        lanes = [Lane(running, kind, name) for name, kind in names.items()]
        for lane in lanes:
            lane.script(first, second)
        await run(lanes, 2)
        await wait_until(lambda: running.is_quiet)
        await running.gateway.backends.aclose()  # kept connections have their own bound
        before = running.resources

        began = trio.current_time()
        await run(lanes, sizes.mixed // len(lanes))
        seconds = trio.current_time() - began
        await wait_until(lambda: running.is_quiet)
        await running.gateway.backends.aclose()
        with contextlib.suppress(trio.TooSlowError):
            await wait_until(lambda: running.resources == before)

        assert running.resources == before
        check(running, lanes, sizes)
        contested = sum(len(ended.record.attempts) > 1 for ended in running.ended)
        note(f"{sizes.mixed} races in {seconds:.1f} s, {contested} with two attempts")
        note(f"left before and after them: {before}")
