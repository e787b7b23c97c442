"""After any events, no request waits that could go on."""

from __future__ import annotations

import random

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.backends.catalog import Listing
from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.errors import Unavailable
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.names import ModelName
from tests.backends.test_catalog import entry
from tests.backends.test_preferring import Payer
from tests.flow.racing import Track

MODELS = [ModelName.parse(name) for name in ("m:1", "n:1", "x:cloud")]
FAULTS = [BackendFault.UNREACHABLE, BackendFault.BROKEN, BackendFault.FULL]


@attrs.define(eq=False)
class Fleet:
    """Backends, requests in line, and slots, which change by chance."""

    track: Track
    chance: random.Random
    nursery: trio.Nursery
    waiting: list[Candidates] = attrs.field(factory=list)
    slots: list[Slot] = attrs.field(factory=list)

    def request(self) -> None:
        """Send a request for some model, which may prefer a backend for a while."""
        backends, now = self.track.backends, trio.current_time()
        route = RouteRequest(self.chance.choice(MODELS), self.chance.choice("kl"))
        preferred = self.chance.choice([None, None, *backends.all])
        candidates = Candidates(backends, route, 100, preferred, now + self.chance.choice([1, 9]))
        self.nursery.start_soon(self._wait, candidates)

    async def _wait(self, candidates: Candidates) -> None:
        self.waiting.append(candidates)
        try:
            slot = await candidates.next(Payer())
        except Unavailable:
            slot = None
        self.waiting.remove(candidates)
        if slot is not None:
            self.slots.append(slot)

    def end(self) -> None:
        """Let a request end, well or not; one that failed tries its next backend."""
        if not self.slots:
            return
        slot = self.slots.pop(self.chance.randrange(len(self.slots)))
        now = trio.current_time()
        if self.chance.random() < 0.5:
            slot.connected()
            slot.answered(now, is_timed=True)
        else:
            slot.failed(self.chance.choice(FAULTS), Reason.CONNECTION_BROKEN, now)
        slot.release()
        slot.release_probe()

    def change(self) -> None:
        """Pause, resume, poll or lose a backend."""
        backends, now = self.track.backends, trio.current_time()
        backend = self.chance.choice(backends.all)
        match self.chance.randrange(4):
            case 0:
                backends.pause({b.name for b in backends.all if self.chance.random() < 0.3})
            case 1:
                listed = {m.key: entry(m.short) for m in MODELS if self.chance.random() < 0.6}
                backends.polled(backend, Listing("0.33.0", listed, {}), now)
            case 2:
                backends.failed(backend, "no answer")
            case _:
                backends.lost(backend, self.chance.choice(MODELS))

    def forgotten(self) -> list[Candidates]:
        """Return the requests in line that could go on."""
        now = trio.current_time()
        found = []
        for candidates in self.waiting:
            eligible = candidates._eligible(now)
            if not eligible or any(evaluation.has_room for evaluation in eligible):
                found.append(candidates)
        return found


@pytest.mark.parametrize("seed", range(40))
async def test_no_request_waits_that_could_go_on(autojump_clock: object, seed: int) -> None:
    """Whatever ends, fails, leaves, comes back or passes with time, none is left behind."""
    async with trio.open_nursery() as nursery:
        fleet = Fleet(Track("a", "b", "c", slots=1), random.Random(seed), nursery)  # noqa: S311 - chance, no secret
        for _ in range(120):
            kind = fleet.chance.choices(["request", "end", "change", "time"], [4, 3, 1, 2])[0]
            if kind == "time":
                await trio.sleep(fleet.chance.choice([0.5, 1, 3, 10]))
            else:
                getattr(fleet, kind)()
            await trio.testing.wait_all_tasks_blocked()

            assert fleet.forgotten() == []
        nursery.cancel_scope.cancel()
