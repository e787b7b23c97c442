"""The cost of a long waiting line: `python -m tests.bench.size --waiting 1000 --backends 20`.

As many requests as `--waiting` says wait for a slot; each slot is held for a few turns of the event
loop, and each request that ends is followed by another. The table gives the CPU time of a request,
from its arrival to the release of its slot, and the longest look at the line. The second table
is of moments in which all of them can go on or must be looked at, with the longest turn of the
event loop. All times are CPU time.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

import attrs
import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Listing
from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.backends.waiting import WaitingLine
from ollama_gateway.wire.names import ModelName
from tests.backends.asking import UNUSED
from tests.backends.test_catalog import entry

FEW: Final = 10
"""Waiting requests of the measurement that the others are compared with."""
REQUESTS: Final = 4000
"""Requests of one measurement."""
STARTED_AT_ONCE: Final = 5
"""Requests that arrive in one turn of the event loop."""
HELD_TURNS: Final = 3
"""Turns of the event loop for which a slot is held."""


class Payer:
    """A token bucket that always pays."""

    def pay(self) -> bool:
        """Pay."""
        return True

    def affordable_at(self) -> float:
        """Now."""
        return 0


@attrs.define(eq=False)
class Longest(trio.abc.Instrument):
    """Notes the longest turn of the event loop and the longest look, in ms of CPU time."""

    turn: float = 0.0
    look: float = 0.0
    _began: float = 0.0

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """Begin a turn."""
        self._began = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """End a turn."""
        self.turn = max(self.turn, (time.thread_time() - self._began) * 1000)

    @contextmanager
    def watching(self) -> Iterator[Longest]:
        """Watch for the length of the block."""
        look = WaitingLine._look

        def timed(line: WaitingLine) -> None:
            began = time.thread_time()
            look(line)
            self.look = max(self.look, (time.thread_time() - began) * 1000)

        self._began = time.thread_time()
        trio.lowlevel.add_instrument(self)
        WaitingLine._look = timed  # type: ignore[method-assign, assignment]
        try:
            yield self
        finally:
            WaitingLine._look = look  # type: ignore[method-assign]
            trio.lowlevel.remove_instrument(self)


@attrs.frozen
class Shape:
    """What the waiting requests ask for."""

    name: str
    models: int
    keys: int = 1
    own_models: bool = False
    """Whether each model is on one backend only."""
    tried: bool = False
    """Whether each request has tried one backend before."""


SHAPES: Final = (
    Shape("one model", 1),
    Shape("one model, 50 keys", 1, keys=50),
    Shape("one model, each tried another", 1, keys=50, tried=True),
    Shape("1,000 models", 1000),
    Shape("1,000 models, 50 keys", 1000, keys=50),
    Shape("1,000 models, each tried another", 1000, keys=50, tried=True),
    Shape("each on one backend (10 each)", 1000, keys=50, own_models=True),
)


@attrs.define(eq=False)
class Crowd:
    """Requests that wait, one after the other."""

    shape: Shape
    backends: Backends
    names: list[ModelName]
    left: int = REQUESTS
    _numbers: Iterator[int] = attrs.field(factory=count)

    @classmethod
    def of(cls, shape: Shape, size: int) -> Crowd:
        """Make the backends, of two slots each."""
        backends = Backends.of(
            [Backend(f"b{n}", httpx.URL("http://h"), UNUSED, slots=2) for n in range(size)]
        )
        backends.line.capacity *= 2  # those whose slots are taken over join again at once
        names = [ModelName.parse(f"m{number}:1") for number in range(shape.models)]
        for place, backend in enumerate(backends.all):
            own = names[place::size] if shape.own_models else names
            models = {name.key: entry(name.short) for name in own}
            backends.polled(backend, Listing("0.33.0", models, {}), 0)
        return cls(shape, backends, names)

    def candidates(self) -> Candidates:
        """Return those of the next request."""
        number = next(self._numbers)
        name = self.names[number * 7 % len(self.names)]
        found = Candidates(self.backends, RouteRequest(name, f"k{number % self.shape.keys}"), 1000)
        if self.shape.tried:
            found._tried.add(self.backends.all[number % len(self.backends.all)])
        return found

    async def request_again(self) -> None:
        """Make one request after the other."""
        while self.left > 0:
            self.left -= 1
            slot = await self.candidates().next(Payer())
            assert slot is not None
            for _ in range(HELD_TURNS):
                await trio.lowlevel.checkpoint()
            slot.connected()
            slot.answered(trio.current_time(), is_timed=True)
            slot.release()

    async def run(self, waiting: int) -> None:
        """Make all requests, of which so many wait at any time."""
        async with trio.open_nursery() as nursery:
            for number in range(waiting + sum(backend.slots for backend in self.backends.all)):
                nursery.start_soon(self.request_again)
                if number % STARTED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()


async def _steady(shape: Shape, backends: int, waiting: int) -> tuple[float, float]:
    """Return the CPU time of a request in us, and the longest look in ms."""
    crowd = Crowd.of(shape, backends)
    with Longest().watching() as longest:
        before = time.process_time()
        await crowd.run(waiting)
        spent = time.process_time() - before
    return spent / REQUESTS * 1e6, longest.look


async def _moment(
    shape: Shape, backends: int, waiting: int, change: Callable[[Backends], None]
) -> Longest:
    """Measure a moment in which something changes for all that wait."""
    crowd = Crowd.of(shape, backends)
    for backend in crowd.backends.all:
        backend.in_flight = backend.slots
    async with trio.open_nursery() as requests:
        for number in range(waiting):
            requests.start_soon(crowd.candidates().next, Payer())
            if number % STARTED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        await trio.sleep(0.01)
        with Longest().watching() as longest:
            change(crowd.backends)
            await trio.sleep(0.5)
        requests.cancel_scope.cancel()
    return longest


def _look(backends: Backends) -> None:
    backends.line.dispatch()


def _open(backends: Backends) -> None:
    for backend in backends.all:
        backend.slots = 0
    backends.line.dispatch()


def _poll(backends: Backends) -> None:
    for backend in backends.all:
        backends.polled_running(backend, {"models": [entry("m0:1")]})


async def measure(backends: int, waiting: int) -> None:
    """Print the tables."""
    gc.disable()  # a collection of this program's garbage takes up to 100 ms
    few, many = f"us, {FEW}", f"us, {waiting:,}"
    sys.stdout.write(f"{'waiting for':<36}{few:>10}{many:>12}{'ratio':>8}{'look ms':>9}\n")
    for shape in SHAPES:
        least, _ = await _steady(shape, backends, FEW * backends if shape.own_models else FEW)
        most, look = await _steady(shape, backends, waiting)
        row = f"{least:>10.0f}{most:>12.0f}{most / least:>8.2f}{look:>9.1f}"
        sys.stdout.write(f"{shape.name:<36}{row}\n")
        sys.stdout.flush()
    sys.stdout.write(f"\n{'a change for all that wait':<58}{'turn ms':>8}{'look ms':>9}\n")
    for name, change in (("look at all", _look), ("let all go on", _open), ("polls", _poll)):
        for shape in (SHAPES[0], SHAPES[4]):
            longest = await _moment(shape, backends, waiting, change)
            row = f"{longest.turn:>8.1f}{longest.look:>9.1f}"
            sys.stdout.write(f"{f'{name}: {shape.name}':<58}{row}\n")
