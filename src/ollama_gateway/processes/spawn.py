"""Starts a serving process, and hands it its settings and sockets.

The process is a new interpreter (`processes/child.py`), not a fork: threads, locks and an event
loop do not survive a fork. It inherits three kinds of sockets:

* the public listening sockets, which all processes share. A free process accepts, and connections
  that wait to be accepted outlive any one process. (With SO_REUSEPORT each process would have a
  queue of its own, lost when it ends, and a hash would send clients to busy and free processes
  alike.)
* its own admin listener, a socket in a directory that only this user can enter.
* its *control socket*, one end of a socket pair. The parent sends the assignment over it, with the
  settings as the parent has read them: they are on no command line, in no environment and in no
  file. The process says once that it serves clients; after that the parent may send it other
  settings (`processes/orders.py`). The end of the control socket means drain, so no process
  outlives its parent, however the parent ends.
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

from ollama_gateway.processes.orders import ControlEnded, ControlSocket, Order, ordered
from ollama_gateway.settings import Settings
from ollama_gateway.supervisor import Sockets

MODULE: Final = "ollama_gateway.processes.child"
READY: Final = b"."
ORDER_SECONDS: Final = 10.0
"""Seconds in which a process must answer an order."""
REAP_SECONDS: Final = 5.0
"""Seconds to wait for a killed process; in an uninterruptible wait it ends later."""


@attrs.frozen
class Assignment:
    """The settings and sockets of one process."""

    number: int
    """From 0."""
    settings: Settings
    """With this process's share of the limits."""
    public: tuple[int, ...]
    """Descriptors of the public sockets."""
    admin: int
    """Descriptor of its admin listener."""

    def sockets(self) -> Sockets:
        """Open the sockets, in the child."""
        public = [socket.socket(fileno=number) for number in self.public]
        return Sockets(public, [socket.socket(fileno=self.admin)])


@attrs.define(eq=False)
class SpawnedProcess:
    """A process, as its parent sees it."""

    number: int
    path: Path
    """The socket of its admin listener."""
    _process: trio.Process
    _control: ControlSocket

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def wait_ready(self) -> bool:
        """Wait until it serves clients; return False if it ends first."""
        try:
            return await self._control.receive() == READY
        except ControlEnded:
            return False

    async def order(self, order: Order) -> str | None:
        """Give an order; return why it cannot obey, empty if it did, None if it does not answer.

        Raises ControlEnded if it has ended or drains.
        """
        return await ordered(self._control, order, ORDER_SECONDS)

    async def wait(self) -> int:
        """Wait for its end; return its exit code, or minus the signal that ended it."""
        return await self._process.wait()

    def drain(self) -> None:
        """Tell it to drain; further calls do nothing."""
        self._control.stream.socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()


@asynccontextmanager
async def running_process(
    number: int, settings: Settings, public: Sequence[socket.socket], path: Path
) -> AsyncIterator[SpawnedProcess]:
    """Run a process for the length of the block; kill it at the end if it still runs.

    Args:
        number: the process's number, from 0.
        settings: its own settings.
        public: the public sockets.
        path: the socket of its admin listener, to be created.

    Raises:
        OSError: the system has no process, no file or no memory for it.

    """
    ours, theirs = socket.socketpair()
    with ExitStack() as lifetime:
        lifetime.callback(path.unlink, missing_ok=True)
        control = ControlSocket.of(ours)
        async with control.stream as control_socket:
            with theirs, _listening(path) as admin, ExitStack() as copies:
                # The parent may close its own sockets at any time, when it drains.
                shared = [copies.enter_context(sock.dup()) for sock in public]
                numbers = tuple(sock.fileno() for sock in shared)
                assignment = Assignment(number, settings, numbers, admin.fileno())
                process = await _open(assignment, theirs)
            try:
                await _hand_over(assignment, control_socket)
                yield SpawnedProcess(number, path, process, control)
            finally:
                process.kill()
                with trio.move_on_after(REAP_SECONDS, shield=True):
                    await process.wait()


async def _open(assignment: Assignment, control_socket: socket.socket) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", MODULE, str(assignment.number), str(control_socket.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=[control_socket.fileno(), assignment.admin, *assignment.public],
        process_group=0,  # Ctrl-C on a terminal goes to the parent only, which drains this process
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
        return  # the process has ended, which the parent will see


def receive_assignment(control_socket: socket.socket) -> Assignment | None:
    """Read the assignment, in the child, blocking; return None if the parent has ended."""
    with control_socket.makefile("rb") as file:
        try:
            # It comes from the parent, over a descriptor that no other process has.
            return cast("Assignment", pickle.load(file))  # noqa: S301
        except (EOFError, pickle.UnpicklingError):
            return None
