"""The parent of several processes: restarts and its own end, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.processes.parent import Parent

pytestmark = pytest.mark.virtual_time


@attrs.define(eq=False)
class Life:
    """A fake process: its actions, and when they happen, in seconds from its start."""

    ready: float = 1
    """When it serves."""
    ends: float = 1e6
    """When it ends by itself."""
    code: int = 0
    drains_for: float = 2
    """Seconds from the drain to its end."""
    told_at: float | None = None
    pid: int = 1
    path: Path = Path("nowhere")
    _end: float = attrs.field(factory=trio.current_time)
    _told: trio.Event = attrs.field(factory=trio.Event)

    async def wait_ready(self) -> bool:
        """Serve, unless it ends first."""
        ready, self._end = self._end + self.ready, self._end + self.ends
        await self._pass(ready)
        return trio.current_time() >= ready

    async def wait(self) -> int:
        """Run until its end."""
        await self._pass(self._end)
        return self.code

    def drain(self) -> None:
        """End within its time."""
        self.told_at = trio.current_time()
        self._end = min(self._end, trio.current_time() + self.drains_for)
        self._told.set()

    async def _pass(self, moment: float) -> None:
        """Wait for a moment, or for its end."""
        with trio.move_on_at(min(moment, self._end)):
            await self._told.wait()
        await trio.sleep_until(min(moment, self._end))


@attrs.define(eq=False)
class Lives:
    """The fake process of each start; the last one is used again for all later starts."""

    lives: dict[int, Sequence[Callable[[], Life]]]
    """By process number."""
    starts: list[tuple[float, int]] = attrs.field(factory=list)
    """When each was started, and which one it was."""
    ends: list[tuple[float, int]] = attrs.field(factory=list)
    running: list[Life] = attrs.field(factory=list)

    @asynccontextmanager
    async def start(self, number: int, start: int) -> AsyncIterator[Life]:
        """Start the next fake process."""
        self.starts.append((trio.current_time(), number))
        lives = self.lives[number]
        life = lives[min(start, len(lives) - 1)]()
        self.running.append(life)
        try:
            yield life
        finally:
            self.ends.append((trio.current_time(), number))

    @property
    def times(self) -> list[float]:
        """When each process was started."""
        return [round(time, 6) for time, _ in self.starts]


def healthy() -> Life:
    """Make a process that serves."""
    return Life()


def parent_of(lives: Lives) -> Parent:
    """Make the parent of these processes, with 30 s for a drain."""
    return Parent(lives.start, len(lives.lives), lambda: 30)


async def test_an_ended_process_starts_again_with_growing_pauses() -> None:
    """Pauses double from 0.1 s up to 5 s; the other processes go on."""
    lives = Lives({0: [lambda: Life(ready=1, ends=2)], 1: [healthy]})
    parent = parent_of(lives)

    with trio.move_on_after(30):
        await parent.run()

    of_first = [round(time, 6) for time, number in lives.starts if number == 0]
    assert of_first == [0, 2.1, 4.3, 6.7, 9.5, 13.1, 18.3, 25.3]
    assert parent.roster.restarts == {0: 7, 1: 0}


async def test_a_long_life_makes_the_next_pause_short() -> None:
    """After more than a minute of running the next pause is the first one again."""
    short, long = (lambda: Life(ends=2)), (lambda: Life(ends=61))
    lives = Lives({0: [short, short, long, healthy]})

    with trio.move_on_after(200):
        await parent_of(lives).run()

    assert lives.times == [0, 2.1, 4.3, 65.4]


async def test_a_process_that_cannot_start_ends_the_start() -> None:
    """The others drain at once, and the failure names the process and its exit code."""
    lives = Lives({0: [healthy], 1: [lambda: Life(ready=9, ends=3, code=1)]})
    parent = parent_of(lives)

    await parent.run()

    assert parent.failure == "process 1 could not start (exit code 1)"
    assert lives.ends == [(3, 1), (5, 0)]
    assert len(lives.starts) == 2


async def test_one_that_has_served_is_started_for_ever() -> None:
    """A later failure to start may pass: here the fourth try succeeds."""
    hopeless = [lambda: Life(ready=9, ends=1, code=1)] * 2
    lives = Lives({0: [lambda: Life(ends=2), *hopeless, healthy]})
    parent = parent_of(lives)

    with trio.move_on_after(60):
        await parent.run()

    assert lives.times == [0, 2.1, 3.3, 4.7]
    assert parent.failure is None


async def test_a_system_without_room_is_asked_again() -> None:
    """If the system cannot start a process, the parent tries again."""
    refused = iter([False, True, True, False])

    @asynccontextmanager
    async def start(number: int, start: int) -> AsyncIterator[Life]:
        if next(refused):
            raise OSError(11, "Resource temporarily unavailable")
        yield Life(ends=2)

    parent = Parent(start, 1, lambda: 30)
    with trio.move_on_after(2.8):
        await parent.run()

    assert next(refused, None) is None
    assert parent.roster.restarts == {0: 1}


async def test_ready_is_when_all_serve() -> None:
    """`on_ready` is called once: when the slowest process serves, and not after a restart."""
    told: list[float] = []
    lives = Lives({0: [lambda: Life(ready=1, ends=2)], 1: [lambda: Life(ready=4)]})
    parent = parent_of(lives)
    parent.on_ready = lambda: told.append(trio.current_time())

    with trio.move_on_after(20):
        await parent.run()

    assert told == [4]


async def drained(lives: Lives, *at: float) -> tuple[Parent, float]:
    """Run a parent that is drained at these times; return when it ended."""
    parent = parent_of(lives)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent.run)
        for time in at:
            await trio.sleep_until(trio.current_time() + time)
            parent.drain()
    return parent, trio.current_time()


async def test_a_drain_tells_all_and_waits() -> None:
    """All processes drain at the same moment, none restarts, and the slowest is waited for."""
    lives = Lives({0: [healthy], 1: [lambda: Life(drains_for=29)], 2: [lambda: Life(ends=9.95)]})

    parent, ended = await drained(lives, 10)

    assert [life.told_at for life in lives.running] in (
        [10, 10, None],
        [10, None, 10],
        [None, 10, 10],
    )
    assert (ended, parent.failure) == (39, None)
    assert len(lives.starts) == 3
    assert parent.roster.is_draining


async def test_one_that_ends_badly_is_reported() -> None:
    """A bad exit code of a draining process is the parent's failure."""
    lives = Lives({0: [healthy], 1: [lambda: Life(code=3)]})

    parent, _ = await drained(lives, 10)

    assert parent.failure == "process 1 did not drain (exit code 3)"


async def test_one_that_was_starting_may_end_as_it_likes() -> None:
    """A process that was still starting had no clients, so its exit code does not count."""
    lives = Lives({0: [healthy], 1: [lambda: Life(ready=99, code=-15)]})

    parent, ended = await drained(lives, 10)

    assert (ended, parent.failure) == (12, None)


async def test_one_that_does_not_drain_is_killed() -> None:
    """A process is killed after the time for the drain and for its stores."""
    lives = Lives({0: [healthy], 1: [lambda: Life(drains_for=999)]})

    parent, ended = await drained(lives, 10)

    assert (ended, parent.failure) == (10 + 30 + 20, "processes had to be killed")


async def test_a_second_word_ends_all_at_once() -> None:
    """A second drain kills all processes."""
    lives = Lives({0: [healthy], 1: [lambda: Life(drains_for=25)]})

    parent, ended = await drained(lives, 10, 1)

    assert (ended, parent.failure) == (11, "processes had to be killed")
