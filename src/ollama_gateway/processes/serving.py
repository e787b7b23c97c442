"""Run several serving processes: their parent, its admin listener, reloads and signals."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from socket import socket
from typing import Final

import trio

from ollama_gateway.build_listeners import admin_access, admin_certificate_of, admin_listener
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.keys.location import location_of
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.processes import spawn
from ollama_gateway.processes.admin import MergedAdmin, Roster
from ollama_gateway.processes.parent import Parent
from ollama_gateway.processes.reaper import reap_as_init
from ollama_gateway.processes.shared_settings import SharedSettings
from ollama_gateway.processes.shares import share_of
from ollama_gateway.reloading import Notifying, SettingsSource, watch_settings
from ollama_gateway.server.admin_checks import AdminChecks, open_admin_checks
from ollama_gateway.server.app import AppConfig
from ollama_gateway.server.reload_handlers import Reloader
from ollama_gateway.server.routes import Routes
from ollama_gateway.settings import Settings
from ollama_gateway.supervisor import Sockets, address_of
from ollama_gateway.systemd import notify_stopping

ORPHAN_SECONDS: Final = 1.0
"""Seconds that ended orphans are left before they are reaped."""

log = get_logger("processes")


class ProcessesFailed(Exception):
    """The processes could not start, or did not end well; one line for the operator."""


async def serve_with_processes(
    settings: Settings,
    source: SettingsSource,
    *,
    on_ready: Callable[[str], None] = lambda _address: None,
) -> None:
    """Run the processes of the settings until a signal; raises AddressTaken, ProcessesFailed.

    Args:
        settings: valid settings, with more than one process.
        source: for reloads.
        on_ready: called with the public address once all processes serve.

    """
    sockets, metrics = Sockets.of(settings), Metrics()
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        _private_directory() as directory,
    ):
        shared = SharedSettings(settings, source, metrics)
        parent = Parent(
            start=partial(_running_process, shared, sockets.public, directory),
            count=settings.server.processes,
            drain_timeout=lambda: shared.settings.server.drain_timeout,
            public=sockets.public,
            on_ready=partial(on_ready, address_of(sockets.public)),
            on_serving=shared.serves,
        )
        reloader = Notifying(shared, lambda: parent.roster.is_draining)
        async with _open_checks(settings) as checks, trio.open_nursery() as running:
            routes = partial(_admin_routes, parent.roster, metrics, reloader, checks)
            certificate = admin_certificate_of(settings.server)
            app, listener = admin_listener(routes(settings), metrics, certificate)

            def changed(new: Settings) -> None:
                app.config = AppConfig(routes(new))
                with suppress(TLSFilesBroken):  # they were good a moment ago; the old one stays
                    listener.certificate = admin_certificate_of(new.server)

            shared.on_change = changed
            running.start_soon(_handle_signals, parent, reloader, signals)
            running.start_soon(_reap_orphans, parent.roster)
            running.start_soon(watch_settings, source.watched, reloader)
            running.start_soon(listener.serve, sockets.admin)
            await parent.run()
            running.cancel_scope.cancel()
    log.info("stopped")
    if parent.failure is not None:
        raise ProcessesFailed(parent.failure)


def _open_checks(settings: Settings) -> AbstractAsyncContextManager[AdminChecks]:
    directory, url = settings.storage.data_dir, settings.storage.database_url
    return open_admin_checks(location_of(directory, url.reveal() if url else None), directory)


@contextmanager
def _private_directory() -> Iterator[Path]:
    """Make a directory that only this user can enter, for the length of the block."""
    try:
        made = tempfile.TemporaryDirectory(prefix="ollama-gateway-")
    except OSError as error:
        raise ProcessesFailed(f"no temporary directory: {error.strerror}") from error
    with made as path:
        yield Path(path)


@asynccontextmanager
async def _running_process(
    shared: SharedSettings, public: Sequence[socket], directory: Path, number: int, start: int
) -> AsyncIterator[spawn.SpawnedProcess]:
    settings, path = shared.settings, directory / f"{number}.{start}"
    share = share_of(settings, number)
    async with spawn.running_process(number, share, public, path) as process:
        with shared.started(process, settings):
            yield process


def _admin_routes(
    roster: Roster, metrics: Metrics, reloader: Reloader, checks: AdminChecks, settings: Settings
) -> Routes:
    access = admin_access(settings.server, checks)
    return MergedAdmin(roster, access, metrics, reloader).routes()


async def _reap_orphans(roster: Roster) -> None:
    """As the first process of a container, reap orphans without end.

    It does so a little after the signal, by when the roster has each process that was started.
    """
    with trio.open_signal_receiver(signal.SIGCHLD) as ends:
        async for _ in ends:
            await trio.sleep(ORPHAN_SECONDS)
            reap_as_init({member.pid for member in roster.members.values()})


async def _handle_signals(parent: Parent, reloader: Notifying, signals: AsyncIterator[int]) -> None:
    async with trio.open_nursery() as reloads:
        async for number in signals:
            if number == signal.SIGHUP:
                reloads.start_soon(reloader.reload_for_signal)
            else:
                notify_stopping()
                parent.drain()
