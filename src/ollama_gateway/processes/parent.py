"""`server.processes`: the parent of the processes that serve. No client's byte passes through it.

    signals         the first tells all processes to drain, a second ends them at once
    admin listener  answers for all of them (`processes/admin.py`)
      processes     the body: each is started again when it ends, with growing pauses

A process that ends before it has ever served ends the whole start: what is wrong is most likely
wrong for good, and nobody relies on the gateway yet. One that has served once is started again for
ever. The parent ends when all processes have; who does not drain in time is killed.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from typing import Final, Protocol

import attrs
import trio

from ollama_gateway.build import (
    ADMIN_BODIES,
    ADMIN_CONNECTIONS,
    ADMIN_SETTINGS,
    admin_gate,
)
from ollama_gateway.http.listener import Listener
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.processes import spawn
from ollama_gateway.processes.admin import Member, MergedAdmin, Roster
from ollama_gateway.processes.shares import share_of
from ollama_gateway.server.app import App
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.settings import Settings
from ollama_gateway.supervisor import Sockets, address_of

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds before an ended process is started again: doubled each time."""
LONG_LIFE: Final = 60.0
"""Seconds of life after which the next pause is the first one again."""
OVERTIME: Final = 20.0
"""Seconds beyond `drain_timeout` after which a process that still runs is killed: it has 2 for
farewells, and each of its stores a few to be closed."""

log = get_logger("processes")


class ProcessesFailed(Exception):
    """The processes could not be started, or did not end well; one line for the operator."""


class Process(Protocol):
    """A process as its parent needs it; `spawn.Process`."""

    @property
    def pid(self) -> int:
        """Its id at the system."""
        ...

    @property
    def path(self) -> Path:
        """Where its admin listener is."""
        ...

    async def wait_ready(self) -> bool:
        """Wait until it serves; False where it ends before."""
        ...

    async def wait(self) -> int:
        """Wait for its end: its exit code, or minus the signal that ended it."""
        ...

    def drain(self) -> None:
        """Tell it to end in its time."""
        ...


Start = Callable[[int, int], AbstractAsyncContextManager[Process]]
"""Starts a process for the length of a block, by its number and how often that was started."""


@attrs.define(eq=False)
class Parent:
    """Keeps processes running until told to drain; `run()` returns when all have ended."""

    start: Start
    count: int
    drain_timeout: float
    public: Sequence[socket] = ()
    """The clients' sockets."""
    on_ready: Callable[[], None] = lambda: None
    """Called once, when all serve."""
    roster: Roster = attrs.field(factory=Roster, init=False)
    failure: str | None = attrs.field(default=None, init=False)
    """What went wrong first."""
    _running: dict[int, Process] = attrs.field(factory=dict, init=False)
    _have_served: set[int] = attrs.field(factory=set, init=False)
    _told: trio.Event = attrs.field(factory=trio.Event, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def run(self) -> None:
        """Run all processes; after a drain no longer than its time."""
        with self._scope:
            async with trio.open_nursery() as processes:
                for number in range(self.count):
                    processes.start_soon(self._keep, number)
        if self._scope.cancelled_caught:
            self._fail("processes had to be killed")

    def drain(self) -> None:
        """Tell all to end; none is started again. The second time they end at once."""
        if self._told.is_set():
            self._scope.cancel()
            return
        log.info("draining", seconds=self.drain_timeout, processes=len(self._running))
        self.roster.is_draining = True
        self._told.set()
        self._scope.deadline = trio.current_time() + self.drain_timeout + OVERTIME
        for sock in self.public:
            sock.close()  # the processes have it too: who closes it last refuses new clients
        for process in self._running.values():
            process.drain()

    async def _keep(self, number: int) -> None:
        pause = FIRST_PAUSE
        while not self._told.is_set():
            began = trio.current_time()
            code = await self._live(number)
            if self._told.is_set():
                return
            if number not in self._have_served:
                self._fail(f"process {number} could not start ({_said(code)})")
                self.drain()
                return
            if trio.current_time() - began > LONG_LIFE:
                pause = FIRST_PAUSE
            log.error("process ended", process=number, code=code, again_in=pause)
            with trio.move_on_after(pause):
                await self._told.wait()
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _live(self, number: int) -> int | None:
        """One life of a process: its exit code, None where the system did not let it begin."""
        try:
            async with self.start(number, self.roster.starts[number]) as process:
                member = Member(number, process.pid, process.path)
                self.roster.add(member)
                self._running[number] = process
                try:
                    return await self._watch(process, member)
                finally:
                    del self._running[number]
                    self.roster.remove(member)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("process not started", process=number, reason=reason)
            return None

    async def _watch(self, process: Process, member: Member) -> int:
        if self._told.is_set():
            process.drain()
        if await process.wait_ready():
            member.serves = True
            self._has_served(member.number)
        code = await process.wait()
        if code and self._told.is_set() and member.serves:
            self._fail(f"process {member.number} did not drain (exit code {code})")
        return code

    def _has_served(self, number: int) -> None:
        is_last = number not in self._have_served and len(self._have_served) == self.count - 1
        self._have_served.add(number)
        if is_last:
            self.on_ready()

    def _fail(self, failure: str) -> None:
        self.failure = self.failure or failure


def _said(code: int | None) -> str:
    return "the system has no room for it" if code is None else f"exit code {code}"


async def serve_with_processes(
    settings: Settings, *, on_ready: Callable[[str], None] = lambda _address: None
) -> None:
    """Run the processes of the settings until told to stop; raises AddressTaken, ProcessesFailed.

    Args:
        settings: valid settings, with more than one process.
        on_ready: called with the clients' address once all processes serve.

    """
    sockets = Sockets.of(settings)
    address = address_of(sockets.public)
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        _private_directory() as directory,
    ):
        parent = Parent(
            partial(_started, settings, sockets.public, directory),
            settings.server.processes,
            settings.server.drain_timeout,
            sockets.public,
            partial(on_ready, address),
        )
        async with trio.open_nursery() as running:
            running.start_soon(_drain_when_told, parent, signals)
            running.start_soon(_admin_listener(settings, parent.roster).serve, sockets.admin)
            await parent.run()
            running.cancel_scope.cancel()
    log.info("stopped")
    if parent.failure is not None:
        raise ProcessesFailed(parent.failure)


@contextmanager
def _private_directory() -> Iterator[Path]:
    """A directory that only this user can enter, for the length of the block."""
    try:
        made = tempfile.TemporaryDirectory(prefix="ollama-gateway-")
    except OSError as error:
        raise ProcessesFailed(f"no temporary directory: {error.strerror}") from error
    with made as path:
        yield Path(path)


def _started(
    settings: Settings, public: Sequence[socket], directory: Path, number: int, start: int
) -> AbstractAsyncContextManager[Process]:
    share = share_of(settings, number)
    return spawn.started(number, share, public, directory / f"{number}.{start}")


def _admin_listener(settings: Settings, roster: Roster) -> Listener:
    metrics = Metrics()
    admin = MergedAdmin(roster, admin_gate(settings.server), metrics)
    app = App(admin.routes(), BodyBudget(ADMIN_BODIES, ADMIN_BODIES), metrics)
    return Listener(app, app.refusal, ADMIN_CONNECTIONS, settings=ADMIN_SETTINGS)


async def _drain_when_told(parent: Parent, signals: AsyncIterator[int]) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            parent.drain()
