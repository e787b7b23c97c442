"""The parent of several serving processes (`server.processes`). It handles no client's bytes.

    signals         the first drains all processes, the second ends them at once
    admin listener  answers for all processes (`processes/admin.py`)
      processes     each is restarted when it ends, after a growing pause

If a process ends before it has ever served, the whole start fails: the cause is most likely
permanent, and no client relies on the gateway yet. A process that has served once is always
restarted. The parent ends when all processes have ended, and kills those that do not drain in time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from socket import socket
from typing import Final, Protocol

import attrs
import trio

from ollama_gateway.log import get_logger
from ollama_gateway.processes.admin import Roster, RosterMember

FIRST_RESPAWN_PAUSE: Final = 0.1
MAX_RESPAWN_PAUSE: Final = 5.0
"""Seconds before an ended process is restarted: doubled each time."""
STABLE_SECONDS: Final = 60.0
"""Seconds of running after which the next pause is the first again."""
KILL_MARGIN_SECONDS: Final = 20.0
"""Seconds beyond `drain_timeout` after which a process is killed: it needs 2 for the last bytes of
streams, and a few to close each store."""
ORPHAN_SECONDS: Final = 1.0
"""Seconds that ended orphans are left before they are reaped."""

log = get_logger("processes")


class ChildProcess(Protocol):
    """A process, as its parent sees it; see `spawn.SpawnedProcess`."""

    @property
    def pid(self) -> int:
        """Process id."""
        ...

    @property
    def path(self) -> Path:
        """The socket of its admin listener."""
        ...

    async def wait_ready(self) -> bool:
        """Wait until it serves; return False if it ends first."""
        ...

    async def wait(self) -> int:
        """Wait for its end; return its exit code, or minus the signal that ended it."""
        ...

    def drain(self) -> None:
        """Tell it to drain."""
        ...


StartProcess = Callable[[int, int], AbstractAsyncContextManager[ChildProcess]]
"""Starts a process for the length of a block, given its number and the count of earlier starts."""


async def _nothing(_number: int) -> None:
    """Do nothing about a process that serves."""


@attrs.define(eq=False)
class Parent:
    """Keeps processes running until `drain`; `run` returns when all have ended."""

    start: StartProcess
    count: int
    drain_timeout: Callable[[], float]
    """Returns the seconds that a drain may take."""
    public: Sequence[socket] = ()
    """The clients' sockets."""
    on_ready: Callable[[], None] = lambda: None
    """Called once, when all serve."""
    on_serving: Callable[[int], Awaitable[None]] = _nothing
    """Called with the number of each process that serves."""
    roster: Roster = attrs.field(factory=Roster, init=False)
    failure: str | None = attrs.field(default=None, init=False)
    """The first failure."""
    _running: dict[int, ChildProcess] = attrs.field(factory=dict, init=False)
    _have_served: set[int] = attrs.field(factory=set, init=False)
    _draining: trio.Event = attrs.field(factory=trio.Event, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def run(self) -> None:
        """Run all processes until a drain has ended them, at the latest by its deadline."""
        with self._scope:
            async with trio.open_nursery() as processes:
                for number in range(self.count):
                    processes.start_soon(self._keep_running, number)
        if self._scope.cancelled_caught:
            self._fail("processes had to be killed")

    def drain(self) -> None:
        """Drain all processes and restart none; a second call ends them at once."""
        if self._draining.is_set():
            self._scope.cancel()
            return
        seconds = self.drain_timeout()
        log.info("draining", seconds=seconds, processes=len(self._running))
        self.roster.is_draining = True
        self._draining.set()
        self._scope.deadline = trio.current_time() + seconds + KILL_MARGIN_SECONDS
        for sock in self.public:
            sock.close()  # new clients are refused once the processes have closed it too
        for process in self._running.values():
            process.drain()

    async def _keep_running(self, number: int) -> None:
        pause = FIRST_RESPAWN_PAUSE
        while not self._draining.is_set():
            began = trio.current_time()
            code = await self._run_once(number)
            if self._draining.is_set():
                return
            if number not in self._have_served:
                self._fail(f"process {number} could not start ({_exit_text(code)})")
                self.drain()
                return
            if trio.current_time() - began > STABLE_SECONDS:
                pause = FIRST_RESPAWN_PAUSE
            log.error("process ended", process=number, code=code, again_in=pause)
            with trio.move_on_after(pause):
                await self._draining.wait()
            pause = min(pause * 2, MAX_RESPAWN_PAUSE)

    async def _run_once(self, number: int) -> int | None:
        """Run a process once; return its exit code, or None if the system could not start it."""
        try:
            async with self.start(number, self.roster.starts[number]) as process:
                member = RosterMember(number, process.pid, process.path)
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

    async def _watch(self, process: ChildProcess, member: RosterMember) -> int:
        if self._draining.is_set():
            process.drain()
        if await process.wait_ready():
            await self.on_serving(member.number)
            member.serves = True
            self._has_served(member.number)
        code = await process.wait()
        if code and self._draining.is_set() and member.serves:
            self._fail(f"process {member.number} did not drain (exit code {code})")
        return code

    def _has_served(self, number: int) -> None:
        is_last = number not in self._have_served and len(self._have_served) == self.count - 1
        self._have_served.add(number)
        if is_last:
            self.on_ready()

    def _fail(self, failure: str) -> None:
        self.failure = self.failure or failure


def _exit_text(code: int | None) -> str:
    return "the system lacks resources for it" if code is None else f"exit code {code}"
