"""Watchers: periodic work that runs as long as the gateway serves, whatever becomes of it.

A watcher that crashes starts again after a growing pause. Each backend has some, for as long as it
is one of the backends: a reload starts those of a new backend, and those of a removed one end when
its last attempt has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.backends.touching import Touches
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics

FIRST_RESTART_PAUSE: Final = 0.5
MAX_RESTART_PAUSE: Final = 30.0
"""Seconds before a crashed watcher starts again: doubled after each crash, and reset by a run that
is longer than the longest pause."""

LAG_PAUSE: Final = 0.1
"""Seconds between two looks at how late the event loop is."""

Watcher = Callable[[], Awaitable[None]]

log = get_logger("supervisor")


async def keep_running(name: str, watch: Watcher, metrics: Metrics) -> None:
    """Run a watcher for ever: log each crash, pause, and start it again."""
    pause = FIRST_RESTART_PAUSE
    while True:
        started = trio.current_time()
        try:
            await watch()
        except Exception:
            log.exception("watcher crashed", watcher=name)
        metrics.restarted(name)
        if trio.current_time() - started > MAX_RESTART_PAUSE:
            pause = FIRST_RESTART_PAUSE
        await trio.sleep(pause)
        pause = min(pause * 2, MAX_RESTART_PAUSE)


async def watch_lag(metrics: Metrics) -> None:
    """Record how late the event loop is, until cancelled."""
    while True:
        due = trio.current_time() + LAG_PAUSE
        await trio.sleep_until(due)
        metrics.lag(trio.current_time() - due)


async def watch_backends(discovery: BackendDiscovery, touches: Touches, metrics: Metrics) -> None:
    """Keep the watchers of all backends running, until cancelled."""
    backends, watched = discovery.backends, set[Backend]()
    async with trio.open_nursery() as nursery:
        while True:
            for backend in backends.all:
                if backend not in watched:
                    nursery.start_soon(_watch, backend, discovery, touches, metrics)
            watched = set(backends.all)
            await backends.replaced.wait()


async def _watch(
    backend: Backend, discovery: BackendDiscovery, touches: Touches, metrics: Metrics
) -> None:
    """Watch a backend until it is removed and idle, then close its idle connections."""
    backends = discovery.backends
    watches = {
        "discovery": discovery.watch,
        "running": discovery.watch_running,
        "touches": touches.watch,
    }
    async with trio.open_nursery() as watchers:
        for name, watch in watches.items():
            run = partial(watch, backend)
            watchers.start_soon(keep_running, f"{name}:{backend.name}", run, metrics)
        while backend in backends.all:
            await backends.replaced.wait()
        await backend.wait_idle()
        watchers.cancel_scope.cancel()
    await backend.transport.retire()
