"""START HERE: the tree of everything that runs, in its order of shutdown.

    keepers             `build`: stores and what writes to them: closed and drained, not cancelled
      watchers          discovery workers: cancelled when nothing is left to serve
        the servers     the body: the public listener, and the admin listener beside it

Leaving a block stops what is inside it, so the indentation is the order of shutdown. A drain is a
deadline: SIGTERM or SIGINT sets it, a second signal ends the process at once. A watcher that
crashes is started again with growing pauses and never takes the server down.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from ollama_gateway.build import Gateway, Watcher, build
from ollama_gateway.build_backends import Transports
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.http.listener import AddressTaken, bind, listen
from ollama_gateway.http.sockets import handed_over
from ollama_gateway.keys.key import StoreError
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.limits.spending_file import SpendingError
from ollama_gateway.log import LineWriter, get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.processes.reaper import reap_as_init
from ollama_gateway.settings import Settings

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds before a crashed watcher starts again: doubled each time, back to the first after a run
as long as the longest."""
CLOSING: Final = 2.0
"""Seconds after the drain for error events and last bytes."""
OBJECTS_BETWEEN_COLLECTIONS: Final = 5_000
"""Some 100 KB; Python's own 700 are half a request's."""
STOPPING: Final = {signal.SIGTERM, signal.SIGINT}
CANNOT_START: Final = (AddressTaken, JournalError, SpendingError, StoreError, TLSFilesBroken)
"""What keeps a gateway with valid settings from starting; each message is one line."""
LAST_LINES: Final = 1.0
"""Seconds for the last log lines to be written."""
SIGNALS: Final = (*STOPPING, signal.SIGHUP, signal.SIGCHLD)

log = get_logger("supervisor")


@attrs.frozen
class Sockets:
    """What a gateway listens on, bound."""

    public: Sequence[socket.socket]
    """For clients."""
    admin: Sequence[socket.socket]
    """For operators."""

    @classmethod
    def of(cls, settings: Settings) -> Sockets:
        """The sockets of the settings; raises AddressTaken."""
        server = settings.server
        public = handed_over(os.environ) or bind(server.bind.host, server.bind.port)
        return cls(public, bind(server.admin_bind.host, server.admin_bind.port))


async def supervise(
    settings: Settings,
    *,
    sockets: Sockets | None = None,
    until: Callable[[], Awaitable[None]] = trio.sleep_forever,
    transports: Transports | None = None,
    on_ready: Callable[[Gateway, str], None] = lambda _gateway, _address: None,
) -> None:
    """Run a gateway until it is told to stop; raises AddressTaken, StoreError,
    JournalError, SpendingError, TLSFilesBroken.

    Args:
        settings: valid settings.
        sockets: to listen on, in place of the settings' addresses.
        until: returns when it is to drain, beside the signals.
        transports: by backend name, in place of TCP; for tests.
        on_ready: called with the gateway and its address once clients can connect.

    """
    sockets, drain_timeout = sockets or Sockets.of(settings), settings.server.drain_timeout
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with (
            build(settings, transports=transports) as gateway,  # the keepers
            trio.open_nursery() as watchers,
        ):
            watchers.start_soon(_drain_when_told, gateway, signals, drain_timeout)
            watchers.start_soon(_drain_after, until, gateway, drain_timeout)
            if gateway.copier is not None:
                await gateway.copier.restore()
            await gateway.pauses.look()
            for name, watch in gateway.watchers.items():
                watchers.start_soon(keep_running, name, watch, gateway.metrics)
            await gateway.discovery.first_round()
            listen([*sockets.public, *sockets.admin])
            on_ready(gateway, address_of(sockets.public))
            async with trio.open_nursery() as servers:
                servers.start_soon(gateway.admin_listener.serve, sockets.admin)
                await gateway.listener.serve(sockets.public)
                servers.cancel_scope.cancel()
            watchers.cancel_scope.cancel()
    log.info("stopped")


def run_to_the_end(
    run: Callable[[], None], writer: LineWriter, *cannot_start: type[Exception]
) -> bool:
    """Run `run`; log one line and return False if the gateway cannot start.

    Args:
        run: runs until the gateway has stopped.
        writer: of log lines; drained at the end.
        cannot_start: further errors, beside `CANNOT_START`, that one line explains.

    """
    try:
        run()
    except* CANNOT_START + cannot_start as errors:
        for error in errors.exceptions:
            get_logger("serve").error("cannot serve", reason=str(error))
        has_failed = True
    else:
        has_failed = False
    finally:
        writer.drain(LAST_LINES)
    return not has_failed


async def _drain_when_told(
    gateway: Gateway, signals: AsyncIterator[int], drain_timeout: float
) -> None:
    is_second = False
    async for number in signals:
        if number == signal.SIGCHLD:
            reap_as_init()
        if number not in STOPPING:
            continue
        if is_second:
            os._exit(1)  # at once: not even a line is logged
        is_second = True
        _begin_to_drain(gateway, drain_timeout)


async def _drain_after(
    until: Callable[[], Awaitable[None]], gateway: Gateway, drain_timeout: float
) -> None:
    await until()
    _begin_to_drain(gateway, drain_timeout)


def _begin_to_drain(gateway: Gateway, seconds: float) -> None:
    """Drain, once: a parent's word and the system's signal may come for one and the same end."""
    if gateway.admin.is_draining:
        return
    drain(gateway, seconds)
    log.info("draining", seconds=seconds, requests=gateway.app.requests_running)


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


def spare_what_is_loaded() -> None:
    """Let the garbage collector leave alone what is there at the start: it stays to the end.

    A full collection went through all of it, and for 0.1 s nothing else ran. In between it looks
    less often for cycles, which what serves a request has few of. Together that was 7 % of the CPU
    of 300 streams started at once. For a process that does nothing else, once it is ready.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


def address_of(sockets: Sequence[socket.socket]) -> str:
    """`host:port` of the first socket, for people and for tests that bind port 0."""
    host, port = sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
