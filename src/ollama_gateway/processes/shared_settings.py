"""Reload of several processes: the parent reads the settings, then all processes use them or none.

First every process prepares them. If one cannot, nothing changes anywhere. Then every process that
starts gets these settings, and those that run are ordered to use them. A process that ends or
drains meanwhile is no obstacle, as its successor starts with the new settings. One that does not
answer is killed, for the same reason. No cancellation comes between the first order and the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol

import anyio
import attrs

from ollama_gateway.control.config import config_document
from ollama_gateway.metrics import Metrics
from ollama_gateway.processes.orders import Commit, ControlEnded, Order, Prepare
from ollama_gateway.processes.shares import share_of
from ollama_gateway.reloading import (
    SettingsSource,
    accepted,
    attempted,
    difference,
    log_failure,
    log_success,
    report,
)
from ollama_gateway.server.reload_handlers import ReloadFailed, ReloadReport
from ollama_gateway.settings import Loaded, Settings
from ollama_gateway.storage.batcher import Runner, in_thread

ORDERS_SECONDS: Final = 30.0
"""Seconds for both steps: more than processes take that answer late to each."""


class Orderly(Protocol):
    """A process that takes orders; see `spawn.SpawnedProcess`."""

    @property
    def number(self) -> int:
        """From 0."""
        ...

    async def order(self, order: Order) -> str | None:
        """Give an order; return why it cannot obey, empty if it did, None if it does not answer.

        Raises ControlEnded if it has ended or drains.
        """
        ...

    def kill(self) -> None:
        """Kill it."""
        ...


@attrs.define(eq=False)
class SharedSettings:
    """The settings with which processes start, and their change in all processes or in none."""

    settings: Settings
    source: SettingsSource
    metrics: Metrics
    on_change: Callable[[Settings], None] = lambda _settings: None
    """Called when other settings are in force, before the one of the source."""
    runner: Runner = in_thread
    _started: dict[int, tuple[Orderly, Settings]] = attrs.field(factory=dict, init=False)
    """Each running process, and the settings with which it started, by its number."""
    _serving: set[Orderly] = attrs.field(factory=set, init=False)
    """The processes that take orders."""
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)
    _loaded: Loaded | None = attrs.field(default=None, init=False)
    """The settings in force; None before the first reload."""

    @contextmanager
    def started(self, process: Orderly, settings: Settings) -> Iterator[None]:
        """Know a process, which starts with these settings, for the length of the block."""
        self._started[process.number] = process, settings
        try:
            yield
        finally:
            del self._started[process.number]
            self._serving.discard(process)

    async def serves(self, number: int) -> None:
        """Let a process that serves take orders, the first for what changed since its start."""
        async with self._turn:
            if number not in self._started:
                return  # it has ended meanwhile
            process, settings = self._started[number]
            if settings is not self.settings and not await self._catches_up(process):
                return
            self._serving.add(process)

    async def _catches_up(self, process: Orderly) -> bool:
        """Let a process use the present settings; kill it if it cannot."""
        prepare = Prepare(share_of(self.settings, process.number))
        with suppress(ControlEnded):
            if await process.order(prepare) == "" and await process.order(Commit()) == "":
                return True
            process.kill()
        return False

    async def reload(self) -> ReloadReport:
        """Put the settings in force as they are now; raises ReloadFailed and changes nothing."""
        async with self._turn:
            try:
                read = partial(accepted, self.source.read, self.settings)
                loaded, found = await attempted(read, self.runner)
                with anyio.move_on_after(ORDERS_SECONDS, shield=True):
                    await self._prepare(loaded.settings)
                    self.settings, self._loaded = loaded.settings, loaded
                    await self._order_all(lambda _: Commit())
            except ReloadFailed as error:
                self.metrics.reloaded(None)
                log_failure(error)
                raise
            self.on_change(loaded.settings)
            self.source.on_change(loaded.settings)
            self.metrics.reloaded(time.time())
            log_success(found)
            return ReloadReport(report(found), loaded.warnings)

    def in_force(self) -> Mapping[str, Any]:
        """Return the settings in force."""
        return config_document(self._loaded or self.source.known(self.settings))

    async def difference(self) -> Sequence[Mapping[str, Any]]:
        """Return what a reload would change; raises ReloadFailed."""
        return await difference(self.source.read, self.settings, self.runner)

    async def _prepare(self, settings: Settings) -> None:
        """Let all processes prepare settings; raises ReloadFailed if one cannot."""
        answers = await self._order_all(lambda process: Prepare(share_of(settings, process.number)))
        if problems := sorted({answer for answer in answers if answer}):
            raise ReloadFailed(problems)

    async def _order_all(self, order_for: Callable[[Orderly], Order]) -> list[str]:
        """Give all processes an order; return the answers, and kill those that give none."""
        answers: list[str] = []

        async def ask(process: Orderly) -> None:
            try:
                answer = await process.order(order_for(process))
            except ControlEnded:
                self._serving.discard(process)
                return
            if answer is None:
                self._serving.discard(process)
                process.kill()
            else:
                answers.append(answer)

        async with anyio.create_task_group() as tasks:
            for process in list(self._serving):
                tasks.start_soon(ask, process)
        return answers
