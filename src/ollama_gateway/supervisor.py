"""START HERE: the tree of everything that runs, in its order of shutdown.

    keepers             `build`: stores and what writes to them: closed and drained, not cancelled
      watchers          discovery workers: cancelled when nothing is left to serve
        the servers     the body: the public listener, and the admin listener beside it

Leaving a block stops what is inside it, so the indentation is the order of shutdown. A drain is a
deadline: SIGTERM or SIGINT sets it, a second signal ends the process at once. A watcher that
crashes is started again with growing pauses and never takes the server down.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import trio

from ollama_gateway.build import Gateway, Settings, Transports, Watcher, build
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.listener import bind, listen

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds before a crashed watcher starts again: doubled each time, back to the first after a run
as long as the longest."""
CLOSING: Final = 2.0
"""Seconds after the drain for error events and last bytes."""

log = get_logger("supervisor")


async def supervise(
    settings: Settings,
    *,
    transports: Transports | None = None,
    on_ready: Callable[[Gateway, str], None] = lambda _gateway, _address: None,
) -> None:
    """Run a gateway until it is told to stop; raises AddressTaken, StoreError,
    JournalError, SpendingError, TLSFilesBroken.

    Args:
        settings: valid settings.
        transports: by backend name, in place of TCP; for tests.
        on_ready: called with the gateway and its address once clients can connect.

    """
    public = bind(settings.server.bind.host, settings.server.bind.port)
    admin = bind(settings.server.admin_bind.host, settings.server.admin_bind.port)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with (
            build(settings, transports=transports) as gateway,  # the keepers
            trio.open_nursery() as watchers,
        ):
            watchers.start_soon(_drain_when_told, gateway, signals, settings.server.drain_timeout)
            if gateway.copier is not None:
                await gateway.copier.restore()
            await gateway.pauses.look()
            for name, watch in gateway.watchers.items():
                watchers.start_soon(keep_running, name, watch, gateway.metrics)
            await gateway.discovery.first_round()
            listen([*public, *admin])
            on_ready(gateway, address_of(public))
            async with trio.open_nursery() as servers:
                servers.start_soon(gateway.admin_listener.serve, admin)
                await gateway.listener.serve(public)
                servers.cancel_scope.cancel()
            watchers.cancel_scope.cancel()
    log.info("stopped")


async def _drain_when_told(
    gateway: Gateway, signals: AsyncIterator[int], drain_timeout: float
) -> None:
    async for number in signals:
        if number == signal.SIGHUP:
            continue
        if gateway.admin.is_draining:
            os._exit(1)  # at once: not even a line is logged
        drain(gateway, drain_timeout)
        log.info("draining", seconds=drain_timeout, requests=gateway.app.requests_running)


def drain(gateway: Gateway, seconds: float) -> None:
    """Stop accepting, send away who waits, let streams finish for `seconds`, then end them."""
    gateway.admin.is_draining = True
    gateway.backends.line.close()
    gateway.app.drain(seconds)
    gateway.listener.drain(seconds + CLOSING)


async def keep_running(name: str, watch: Watcher, metrics: Metrics) -> None:
    """Run a watcher for ever, whatever it raises."""
    pause = FIRST_PAUSE
    while True:
        started = trio.current_time()
        try:
            await watch()
        except Exception:
            log.exception("watcher crashed", watcher=name)
        metrics.restarted(name)
        if trio.current_time() - started > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        await trio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def address_of(sockets: Sequence[socket.socket]) -> str:
    """`host:port` of the first socket, for people and for tests that bind port 0."""
    host, port = sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
