"""Parts of the supervisor that need no process: watchers that crash."""

from __future__ import annotations

import time

import trio
import trio.testing

from ollama_gateway.metrics import Metrics, running
from ollama_gateway.watching import keep_running, watch_lag


async def test_a_crashed_watcher_starts_again_with_growing_pauses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Pauses double up to half a minute, each crash is counted, and nothing else is affected."""
    metrics, starts = Metrics(), []

    async def watch() -> None:
        starts.append(trio.current_time())
        raise RuntimeError("broken")

    with trio.move_on_after(100):
        await keep_running("discovery:a", watch, metrics)

    assert starts == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5]
    assert b'watcher_restarts_total{watcher="discovery:a"} 9.0' in metrics.page()


async def test_a_watcher_that_ran_long_starts_again_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A crash after a long run is followed by the first pause again."""
    starts: list[float] = []

    async def watch() -> None:
        starts.append(trio.current_time())
        await trio.sleep(60)
        raise RuntimeError("broken")

    with trio.move_on_after(200):
        await keep_running("discovery:a", watch, Metrics())

    assert starts == [0, 60.5, 121, 181.5]


async def test_a_loop_that_is_held_is_late() -> None:
    """A task that holds the event loop for a while is seen in the lag."""
    metrics = Metrics()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_lag, metrics)
        await trio.sleep(0.01)
        time.sleep(0.4)  # noqa: ASYNC251 - this is the fault
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()

    cell = metrics.families[running.LAG.name].cells[()]
    assert sum(cell[:-1]) == 1
    assert cell[-1] >= 0.2
