"""START HERE: the tree of everything that runs, in its order of shutdown.

    services            `build`: the stores and their writers; drained and closed, never cancelled
      watchers          discovery and other periodic work; cancelled once the servers have stopped
        servers         the public listener and the admin listener

Leaving a block stops everything inside it, so the indentation is the order of shutdown. A drain is
a deadline: the first SIGTERM or SIGINT sets it, the second ends the process at once. A watcher that
crashes starts again after a growing pause and never takes the servers down.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Final

import attrs
import trio

from ollama_gateway.build import Gateway, build
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.http.binding import AddressTaken, bind, listen
from ollama_gateway.http.sockets import handed_over
from ollama_gateway.keys.key import StoreError
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.limits.usage_file import SpendingError
from ollama_gateway.log import get_logger
from ollama_gateway.log_output import LineWriter
from ollama_gateway.processes.reaper import reap_as_init
from ollama_gateway.reloading import Notifying, Reloading, SettingsSource, watch_settings
from ollama_gateway.settings import Settings
from ollama_gateway.systemd import notify_stopping
from ollama_gateway.watching import keep_running

LAST_BYTES_SECONDS: Final = 2.0
"""Seconds after the drain in which streams get their error events and last bytes."""
OBJECTS_BETWEEN_COLLECTIONS: Final = 5_000
"""About 100 KB of them; one request makes more than Python's default of 700."""
STOP_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}
CANNOT_START: Final = (AddressTaken, JournalError, SpendingError, StoreError, TLSFilesBroken)
"""Errors that keep a gateway with valid settings from starting; each message is one line."""
LOG_DRAIN_SECONDS: Final = 1.0
"""Seconds to write the last log lines."""
SIGNALS: Final = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGCHLD)
"""SIGHUP reloads the settings; where nothing can read them again, it is ignored."""

log = get_logger("supervisor")


@attrs.frozen
class Sockets:
    """The bound sockets of one gateway."""

    public: Sequence[socket.socket]
    """For clients."""
    admin: Sequence[socket.socket]
    """For operators."""

    @classmethod
    def of(cls, settings: Settings) -> Sockets:
        """Bind the addresses of the settings, or take inherited sockets; raises AddressTaken."""
        server = settings.server
        public = handed_over(os.environ) or bind(server.bind.host, server.bind.port)
        return cls(public, bind(server.admin_bind.host, server.admin_bind.port))


async def _for_ever(_gateway: Gateway) -> None:
    await trio.sleep_forever()


async def supervise(
    settings: Settings,
    *,
    sockets: Sockets | None = None,
    until: Callable[[Gateway], Awaitable[None]] = _for_ever,
    on_ready: Callable[[Gateway, str], None] = lambda _gateway, _address: None,
    signals: Collection[signal.Signals] = SIGNALS,
    source: SettingsSource | None = None,
    has_parent: bool = False,
) -> None:
    """Run a gateway until a signal or `until` drains it.

    Args:
        settings: valid settings.
        sockets: replace the addresses of the settings.
        until: called with the gateway, returns when it should drain; signals drain it too.
        on_ready: called with the gateway and its address once clients can connect.
        signals: the signals that it handles.
        source: for reloads; without it there are none.
        has_parent: whether only a parent, which has checked who asks, can reach the admin listener.

    Raises:
        AddressTaken, StoreError, JournalError, SpendingError, TLSFilesBroken: it cannot start.

    """
    sockets = sockets or Sockets.of(settings)
    with trio.open_signal_receiver(*signals) as received:
        async with (
            build(settings, has_parent=has_parent) as gateway,  # the services
            trio.open_nursery() as watchers,
        ):
            reloader = None
            if source is not None:
                reloading = Reloading(gateway, source)
                reloader = Notifying(reloading, lambda: gateway.admin.state.is_draining)
                gateway.offer_reload(reloader)
                watchers.start_soon(watch_settings, source.watched, reloader)
            watchers.start_soon(_handle_signals, gateway, received, reloader)
            watchers.start_soon(_drain_after, until, gateway)
            if gateway.copier is not None:
                await gateway.copier.restore()
            await gateway.pauses.look()
            for name, watch in gateway.watchers.items():
                watchers.start_soon(keep_running, name, watch, gateway.parts.metrics)
            await gateway.parts.discovery.first_round()
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
    """Call `run`; return False, after one log line, if the gateway cannot start.

    Args:
        run: returns when the gateway has stopped.
        writer: writes the log lines; drained at the end.
        cannot_start: errors that one line explains, besides `CANNOT_START`.

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
        writer.drain(LOG_DRAIN_SECONDS)
    return not has_failed


async def _handle_signals(
    gateway: Gateway, signals: AsyncIterator[int], reloader: Notifying | None
) -> None:
    has_begun = False
    async with trio.open_nursery() as reloads:
        async for number in signals:
            if number == signal.SIGCHLD:
                reap_as_init()
            if number == signal.SIGHUP and reloader is not None:
                reloads.start_soon(reloader.reload_for_signal)
            if number not in STOP_SIGNALS:
                continue
            if has_begun:
                os._exit(1)  # at once, without even a log line
            has_begun = True
            _begin_to_drain(gateway)


async def _drain_after(until: Callable[[Gateway], Awaitable[None]], gateway: Gateway) -> None:
    await until(gateway)
    _begin_to_drain(gateway)


def _begin_to_drain(gateway: Gateway) -> None:
    """Drain and log it, once: the parent and a signal may both ask for it."""
    if gateway.admin.state.is_draining:
        return
    seconds = gateway.settings.server.drain_timeout
    notify_stopping()
    drain(gateway, seconds)
    log.info("draining", seconds=seconds, requests=gateway.app.requests_running)


def drain(gateway: Gateway, seconds: float) -> None:
    """Stop accepting, reject waiting requests, give streams `seconds` to finish, then end them."""
    gateway.admin.state.is_draining = True
    gateway.backends.line.close()
    gateway.app.drain(seconds)
    gateway.listener.drain(seconds + LAST_BYTES_SECONDS)


def freeze_loaded_objects() -> None:
    """Exempt all present objects from garbage collection, and collect less often.

    Modules and settings live to the end, and each full collection spent 0.1 s on them, in which
    nothing else ran. A request leaves few cycles. Both together took 7 % of the CPU of 300 streams
    that start at once. Call it when the process is ready, if it does nothing but serve.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


def address_of(sockets: Sequence[socket.socket]) -> str:
    """Return `host:port` of the first socket, for people and for tests that bind port 0."""
    host, port = sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
