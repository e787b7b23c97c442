"""Reload: read the settings again and put them in force, whole or not at all.

Reading and preparing block, so they happen in a thread, and change nothing. Whatever fails there,
the configuration in force goes on, as it does if who asked for the reload leaves. Then `adopt` puts
the new one in force in one step, and nothing interrupts that. Reloads come one after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import attrs

from ollama_gateway.build import Gateway
from ollama_gateway.certificates import TLSFilesBroken, stamp_of
from ollama_gateway.configuration import Configuration
from ollama_gateway.control.config import config_document
from ollama_gateway.log import get_logger
from ollama_gateway.server.reload_handlers import Reloader, ReloadFailed, ReloadReport
from ollama_gateway.settings import Loaded, Settings, SettingsError
from ollama_gateway.settings.changes import Change, changes
from ollama_gateway.settings.places import located
from ollama_gateway.storage.batcher import Runner, in_thread
from ollama_gateway.systemd import reload_notified

ReadSettings = Callable[[], Loaded]
"""Reads the settings again; blocks, raises SettingsError."""

R = TypeVar("R")

WATCH_SECONDS: Final = 2.0
ADOPT_SECONDS: Final = 10.0
"""Seconds to poll new backends, which gives up by itself, and to close replaced connections."""
DRAINING: Final = "the gateway is draining"


@attrs.frozen
class SettingsSource:
    """How the settings are read again, and what else follows from other ones."""

    read: ReadSettings
    on_change: Callable[[Settings], None] = lambda _settings: None
    """Called when other settings are in force: the log is no part of the gateway."""
    watched: Path | None = None
    """A file whose changes reload the settings."""
    loaded: Loaded | None = None
    """The settings with which the gateway starts, and where each comes from."""

    def known(self, settings: Settings) -> Loaded:
        """Return what is known of the settings with which the gateway starts."""
        return self.loaded or Loaded(settings, settings.source)


log = get_logger("reload")


def compared(read: ReadSettings, old: Settings) -> tuple[Loaded, list[Change]]:
    """Read the settings and compare them with those in force; blocks. Raises ReloadFailed."""
    try:
        loaded = read()
    except SettingsError as error:
        raise ReloadFailed(located(error.problems, error.source)) from None
    return loaded, changes(old, loaded.settings)


def accepted(read: ReadSettings, old: Settings) -> tuple[Loaded, list[Change]]:
    """Read the settings and compare them with those in force; blocks.

    Raises:
        ReloadFailed: they are wrong, or a change needs a restart.

    """
    loaded, found = compared(read, old)
    refused = [f"{change.path}: needs a restart" for change in found if change.needs_restart]
    if refused:
        raise ReloadFailed(located(refused, loaded.source))
    return loaded, found


async def attempted(work: Callable[[], R], runner: Runner) -> R:
    """Do a part of a reload that changes nothing; raises ReloadFailed, whatever fails."""
    try:
        return await runner(work)
    except ReloadFailed:
        raise
    except TLSFilesBroken as error:
        raise ReloadFailed([str(error)]) from None
    except Exception as error:
        log.exception("reload failed")
        raise ReloadFailed([f"{type(error).__name__}: the log has the details"]) from error


def report(found: Sequence[Change]) -> list[dict[str, Any]]:
    """Return changes as `/reload` shows them."""
    return [{"path": c.path, "before": c.before, "after": c.after} for c in found]


async def difference(
    read: ReadSettings, old: Settings, runner: Runner
) -> Sequence[Mapping[str, Any]]:
    """Return what a reload would change; raises ReloadFailed."""
    _, found = await attempted(partial(compared, read, old), runner)
    return [attrs.asdict(change) for change in found]


@attrs.define(eq=False)
class Notifying:
    """A reloader that reloads once at a time, and tells systemd when it begins and ends."""

    reloader: Reloader
    is_draining: Callable[[], bool] = lambda: False
    """Whether the gateway drains: then nothing is left to reload."""
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)

    async def reload(self) -> ReloadReport:
        """Reload, and raise as the reloader does."""
        async with self._turn:
            if self.is_draining():
                refusal = ReloadFailed([DRAINING])
                log_failure(refusal)
                raise refusal
            with reload_notified():
                return await self.reloader.reload()

    def in_force(self) -> Mapping[str, Any]:
        """Return the settings in force."""
        return self.reloader.in_force()

    async def difference(self) -> Sequence[Mapping[str, Any]]:
        """Return what a reload would change."""
        return await self.reloader.difference()

    async def reload_for_signal(self) -> None:
        """Reload for a signal, whose sender reads the outcome in the log."""
        with suppress(ReloadFailed):
            await self.reload()


async def watch_settings(
    path: Path | None, notifying: Notifying, runner: Runner = in_thread
) -> None:
    """Reload whenever a file changes, without end; do nothing if there is none to watch.

    It is looked at every two seconds: what tells of changes misses them on bind mounts, and after
    a rename. A file that is half written makes a reload that fails, and the next change another.
    """
    if path is None:
        return
    before = await runner(partial(stamp_of, path))
    while True:
        await anyio.sleep(WATCH_SECONDS)
        now = await runner(partial(stamp_of, path))
        if now != before:
            before = now
            await notifying.reload_for_signal()


def log_failure(error: ReloadFailed) -> None:
    """Log why a reload has changed nothing."""
    log.error("reload failed; the settings in force stay", problems=error.problems)


def log_success(found: Sequence[Change]) -> None:
    """Log what a reload has changed."""
    log.info("reloaded", changes=[change.path for change in found])


@attrs.define(eq=False)
class Reloading:
    """Reloads one process's gateway; `Notifying` lets one reload run at a time."""

    gateway: Gateway
    source: SettingsSource
    runner: Runner = in_thread
    _loaded: Loaded | None = attrs.field(default=None, init=False)
    """The settings in force; None before the first reload."""

    async def reload(self) -> ReloadReport:
        """Put the settings in force as they are now; raises ReloadFailed and changes nothing."""
        try:
            loaded, configuration, found = await attempted(self._prepare, self.runner)
        except ReloadFailed as error:
            self.gateway.parts.metrics.reloaded(None)
            log_failure(error)
            raise
        with anyio.move_on_after(ADOPT_SECONDS, shield=True):
            await self.gateway.adopt(configuration)
        self._loaded = loaded
        self.source.on_change(loaded.settings)
        self.gateway.parts.metrics.reloaded(time.time())
        log_success(found)
        return ReloadReport(report(found), loaded.warnings)

    def in_force(self) -> Mapping[str, Any]:
        """Return the settings in force."""
        return config_document(self._loaded or self.source.known(self.gateway.settings))

    async def difference(self) -> Sequence[Mapping[str, Any]]:
        """Return what a reload would change; raises ReloadFailed."""
        return await difference(self.source.read, self.gateway.settings, self.runner)

    def _prepare(self) -> tuple[Loaded, Configuration, Sequence[Change]]:
        loaded, found = accepted(self.source.read, self.gateway.settings)
        return loaded, self.gateway.prepare(loaded.settings), found
