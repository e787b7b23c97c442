"""One client connection: hypercorn's Trio `TCPServer`, made to end safely in every case.

It keeps these rules:

* An error here reaches no other connection: anything but a cancellation ends this connection and
  is logged.
* Reading never stops while a response is pending (see `protocol.py`), so a client that leaves is
  seen at once, and the application gets its `http.disconnect`.
* Every wait has a deadline: the request head, the idle time, each write. The deadlines are set on
  the scope of the pending read and moved when the state changes; they are not tasks.
* A connection that has sent everything ends with a half-close, and over TLS with a close_notify
  first. If the client still sends, the connection reads on for a short time (it lingers);
  otherwise the kernel answers the unread bytes with a reset, which can overtake the answer.
* A cut response never looks complete: TLS sends no close_notify, and where only the close marks
  the end of a response (HTTP/1.0), the connection is reset.
* An application cannot hold the connection by not reading: nothing waits until it has read.
* Every connection ends in `aclose_forcefully`: a graceful close under cancellation would leave the
  socket open and the client waiting.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Any, Final, cast

import anyio
import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from ollama_gateway import keepalive
from ollama_gateway.errors import RequestTimeout
from ollama_gateway.http.app_tasks import AppTasks, ASGIApp
from ollama_gateway.http.protocol import EarlyErrorRenderer, Protocol
from ollama_gateway.http.tls import ServerTLSStream
from ollama_gateway.log import get_logger
from ollama_gateway.reasons import Reason

MAX_RECEIVE: Final = 65536
MAX_SEND: Final = 65536
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

log = get_logger("connection")


@attrs.frozen
class ConnectionLimits:
    """Time and memory that one connection may use, in seconds and bytes.

    The idle timeout is above the 90 s after which Go's clients (the `ollama` CLI) drop an idle
    connection, so that the client is the side that closes. Lingering is long because many clients
    send a whole body before they read that it was refused.
    """

    head_timeout: float = 10.0
    idle_timeout: float = 120.0
    write_timeout: float = keepalive.WRITE_TIMEOUT
    linger_timeout: float = 1.0
    linger_longest: float = 30.0
    linger_bytes: int = 64 * 1024 * 1024
    read_ahead: int = 256 * 1024
    disconnect_grace: float = 5.0
    """How long an application may take to end after its client has left."""


class ClientConnection(TCPServer):
    """One accepted stream, from the first byte to the close. Call `run()` once."""

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream | ServerTLSStream,
        render_early_error: EarlyErrorRenderer,
        limits: ConnectionLimits,
        turn: anyio.Lock,
    ) -> None:
        super().__init__(
            cast("Any", app), config, context, ConnectionState({}), cast("Any", stream)
        )
        self.stream: trio.SocketStream | ServerTLSStream = stream  # type: ignore[assignment]
        self._tasks = AppTasks()
        self.http = Protocol(
            cast("Any", self.app),
            self.config,
            cast("Any", self.context),
            cast("Any", self._tasks),
            (
                parse_socket_addr(stream.socket.family, stream.socket.getpeername()),
                parse_socket_addr(stream.socket.family, stream.socket.getsockname()),
            ),
            self.protocol_send,
            render_early_error,
            turn,
        )
        self._tasks.http = self.http
        self.http.ssl = isinstance(stream, ServerTLSStream)  # the scheme that applications see
        self._limits = limits
        self._reading = trio.CancelScope()
        self._deadline = trio.current_time() + limits.head_timeout
        self._finished = False

    async def run(self) -> None:
        """Serve requests until either side ends the connection; raises nothing but Cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                await self._serve(nursery)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("connection broke")
        except* Exception as errors:
            log.exception("connection failed", exc_info=errors)
        finally:
            if self.http.response_is_cut and self.http.end_is_close:
                self._reset_on_close()
            await trio.aclose_forcefully(self.stream)
            self.http.break_cycles()

    async def _serve(self, nursery: trio.Nursery) -> None:
        self._tasks._nursery = nursery  # noqa: SLF001 - hypercorn opens it in __aenter__
        await self._read()
        ending = nursery.cancel_scope
        ending.deadline = trio.current_time() + self._limits.disconnect_grace
        await self.http.handle(Closed())
        if self._finished:
            ending.deadline += self._limits.linger_longest
            await self._close_gracefully()
            ending.deadline = trio.current_time() + self._limits.disconnect_grace

    async def _read(self) -> None:
        while not self._finished:
            with trio.CancelScope(deadline=self._deadline) as self._reading:
                while await self._read_some():
                    pass
                return
            if trio.current_time() >= self._deadline:
                await self._time_is_up()

    async def _read_some(self) -> bool:
        """Read once and hand the bytes on.

        Returns False if either side has ended the connection; a half-close by the client counts.
        """
        try:
            data = await self._received()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if not data:
            return False
        is_first = self.http.is_between_requests
        self.http.receive(data)
        await self.http.advance()
        if is_first and self.http.is_idle:
            self._set_deadline(self._limits.head_timeout)
        if self.http.response_is_pending:
            return self.http.unread <= self._limits.read_ahead
        await self.http.request_stream.wait_for_room()
        return not self._finished

    async def _received(self) -> bytes:
        """Read once; a plain socket is read only when it is readable, so no read is in vain."""
        if isinstance(self.stream, ServerTLSStream):
            return bytes(await self.stream.receive_some(MAX_RECEIVE))
        while True:
            await trio.lowlevel.wait_readable(self.stream.socket)
            with suppress(BlockingIOError):
                return os.read(self.stream.socket.fileno(), MAX_RECEIVE)

    async def _time_is_up(self) -> None:
        if self._finished:
            return
        if self.http.is_between_requests:
            self._finished = True
        elif self.http.is_idle:
            await self.http.refuse(RequestTimeout(reason=Reason.SLOW_HEAD))
        else:
            self._set_deadline(float("inf"))  # the request has deadlines of its own

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = trio.current_time() + seconds
        # A later deadline is applied only when the earlier one expires: most never matter.
        if self._deadline < self._reading.deadline:  # noqa: PLR1730 - each assignment costs time
            self._reading.deadline = self._deadline

    async def protocol_send(self, event: Event) -> None:
        """Take an event from hypercorn: bytes, the end of the connection, or a change to idle."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            self._finish()
        elif isinstance(event, Updated) and event.idle:
            early = not self.http.is_between_requests
            self._set_deadline(self._limits.head_timeout if early else self._limits.idle_timeout)
        else:
            self._set_deadline(float("inf"))

    async def _write(self, data: bytes) -> None:
        unsent = self._write_at_once(memoryview(data))
        if not unsent:
            return
        try:
            async with self.send_lock:
                await self._send_in_parts(unsent)
        except trio.Cancelled:
            self._reset_on_close()  # a part may have been sent: nothing after it would make sense
            self._finish()
            raise
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._reset_on_close()
            self._finish()
            await self.http.handle(Closed())

    def _write_at_once(self, data: memoryview) -> memoryview:
        """Give the kernel as much as it takes without waiting; return the bytes it did not take.

        Nearly always it takes all: then a write needs no lock, no deadline and no checkpoint.
        Errors are left to the next write.
        """
        if self._finished or self.send_lock.locked() or isinstance(self.stream, ServerTLSStream):
            return data
        try:
            return data[os.write(self.stream.socket.fileno(), data) :]
        except OSError:
            return data

    async def _send_in_parts(self, data: memoryview) -> None:
        """Send in parts, each with the full write timeout: a slow reader is not a dead one."""
        for start in range(0, 0 if self._finished else len(data), MAX_SEND):
            with trio.fail_after(self._limits.write_timeout):
                await self.stream.send_all(data[start : start + MAX_SEND])

    def _reset_on_close(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    def drain(self, grace: float) -> None:
        """Close if no request is under way; otherwise the answer will say `Connection: close`.

        Args:
            grace: seconds that a new connection has to send its first request.

        """
        if self.http.is_between_requests:
            self._set_deadline(0 if self.http.keep_alive_requests else grace)

    def _finish(self) -> None:
        self._finished = True
        self.http.stop()
        self._reading.cancel()

    async def _close_gracefully(self) -> None:
        """Half-close, and read on if a close would reset the connection before the peer has read.

        A cut response gets no half-close: it must not look complete.
        """
        if self.http.response_is_cut:
            return
        with trio.move_on_after(self._limits.linger_timeout) as silence:
            await self._linger(silence, trio.current_time() + self._limits.linger_longest)

    async def _linger(self, silence: trio.CancelScope, latest: float) -> None:
        try:
            await self.stream.send_eof()
            left = self._limits.linger_bytes if self.http.client_still_sends else 0
            while left > 0 and (data := await self.stream.receive_some(MAX_RECEIVE)):
                left -= len(data)
                silence.deadline = min(trio.current_time() + self._limits.linger_timeout, latest)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the peer has closed too
