"""How a process that serves is started: what it is handed, and what ties it to its parent.

It is a fresh interpreter (`processes/child.py`), not a fork: threads, locks and an event loop do
not survive one. It inherits three kinds of sockets:

* the clients' listening sockets, which all processes share. Who is free accepts, and what waits to
  be accepted is lost with nobody's end. (With SO_REUSEPORT each process would have a queue of its
  own, which dies with it, and clients would be dealt out by a hash, to busy and free alike.)
* its own admin listener, a socket in a directory that only this user can enter.
* the *tether*, one end of a socket pair. Down it comes the assignment, with the settings as the
  parent read them: they are on no command line, in no environment and in no file, and what has
  changed since makes no difference. Up it goes one byte, once clients are served. Its end is the
  word to drain, so no process outlives its parent, however that one ends.
"""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, cast

import attrs
import trio

from ollama_gateway.settings import Settings
from ollama_gateway.supervisor import Sockets

MODULE: Final = "ollama_gateway.processes.child"
READY: Final = b"."
REAP_SECONDS: Final = 5.0
"""Seconds for a killed process to be gone: one in an uninterruptible wait can take its time."""


@attrs.frozen
class Assignment:
    """What a process is to do."""

    number: int
    """From 0; which of the processes it is."""
    settings: Settings
    """Its own share of what is shared."""
    public: tuple[int, ...]
    """Descriptors of the clients' sockets."""
    admin: int
    """Descriptor of its admin listener."""

    def sockets(self) -> Sockets:
        """The sockets, as the process has them."""
        public = [socket.socket(fileno=number) for number in self.public]
        return Sockets(public, [socket.socket(fileno=self.admin)])


@attrs.define(eq=False)
class SpawnedProcess:
    """A process as its parent has it."""

    number: int
    path: Path
    """Where its admin listener is."""
    _process: trio.Process
    _control_socket: trio.SocketStream

    @property
    def pid(self) -> int:
        """Its id at the system."""
        return self._process.pid

    async def wait_ready(self) -> bool:
        """Wait until it serves clients; False where it ends before."""
        try:
            return await self._control_socket.receive_some(1) == READY
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False

    async def wait(self) -> int:
        """Wait for its end: its exit code, or minus the signal that ended it."""
        return await self._process.wait()

    def drain(self) -> None:
        """Tell it to end in its time; again is no error."""
        self._control_socket.socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


@asynccontextmanager
async def spawned(
    number: int, settings: Settings, public: Sequence[socket.socket], path: Path
) -> AsyncIterator[SpawnedProcess]:
    """A process for the length of the block; killed at its end if it still runs.

    Args:
        number: which one it is.
        settings: its own.
        public: the clients' sockets.
        path: where its admin listener is to be; nothing is there yet.

    Raises:
        OSError: the system has no process, no file or no memory for it.

    """
    ours, theirs = socket.socketpair()
    with ExitStack() as lifetime:
        lifetime.callback(path.unlink, missing_ok=True)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as control_socket:
            with theirs, _listening(path) as admin, ExitStack() as copies:
                # The parent closes its own when it is told to drain, at any moment.
                shared = [copies.enter_context(sock.dup()) for sock in public]
                numbers = tuple(sock.fileno() for sock in shared)
                assignment = Assignment(number, settings, numbers, admin.fileno())
                process = await _open(assignment, theirs)
            try:
                await _hand_over(assignment, control_socket)
                yield SpawnedProcess(number, path, process, control_socket)
            finally:
                process.kill()
                with trio.move_on_after(REAP_SECONDS, shield=True):
                    await process.wait()


async def _open(assignment: Assignment, control_socket: socket.socket) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", MODULE, str(assignment.number), str(control_socket.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=[control_socket.fileno(), assignment.admin, *assignment.public],
        process_group=0,  # a terminal's Ctrl-C is for the parent, which passes it on
    )


def _listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    sock.bind(str(path))
    return sock


async def _hand_over(assignment: Assignment, control_socket: trio.SocketStream) -> None:
    try:
        await control_socket.send_all(pickle.dumps(assignment))
    except trio.BrokenResourceError:
        return  # it has ended already, which its parent will see


def receive_assignment(control_socket: socket.socket) -> Assignment | None:
    """The assignment, in the process; None where the parent has ended before. Blocking."""
    with control_socket.makefile("rb") as file:
        try:
            # From our own parent, over a descriptor that nobody else has.
            return cast("Assignment", pickle.load(file))  # noqa: S301
        except (EOFError, pickle.UnpicklingError):
            return None


async def wait_for_drain(control_socket: socket.socket) -> None:
    """Wait, in the process, for the tether's end: after the assignment nothing else comes."""
    await trio.lowlevel.wait_readable(control_socket)
