"""Our own accept loop around `ClientConnection`.

hypercorn's worker puts every connection in the nursery of the server, so one bad request ends them
all. Here each connection contains its own errors, and this loop does three things more: it caps
connections, waits when the process is out of file descriptors, and drains.

A drain has three steps: accept the whole backlog, close the sockets, then close idle connections
while the others answer the requests that they have. The caller sets its deadline.

Several processes may share a socket. Then the process with the fewest connections accepts first:
the others wait up to a few milliseconds before each few connections. One at a time would be fairer,
but a burst then waits for as many turns of the event loop as it has connections. A process that is
full waits longer before it turns a client away, so that a process with room can accept the client.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final
from wsgiref.handlers import format_date_time

import anyio
import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from ollama_gateway.certificates import RenewedContext
from ollama_gateway.errors import BadRequest, TooManyConnections
from ollama_gateway.http.app_tasks import ASGIApp
from ollama_gateway.http.binding import BACKLOG, listen
from ollama_gateway.http.connection import ClientConnection, ConnectionLimits
from ollama_gateway.http.connection_counts import ConnectionCounts
from ollama_gateway.http.protocol import EarlyErrorRenderer
from ollama_gateway.http.tls import ServerTLSStream
from ollama_gateway.log import get_logger
from ollama_gateway.reasons import Reason

ACCEPTS_PER_TURN: Final = 8
"""Connections accepted in one turn of the event loop: a millisecond of work."""
HEAD_LIMIT: Final = 32 * 1024
"""Bytes of a request line and headers; nginx has four buffers of 8 KiB."""
FIRST_REQUEST_GRACE: Final = 1.0
"""Seconds that a connection from the backlog has for its first request while draining."""
OUT_OF_FILES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

OUT_OF_FILES_PAUSE: Final = 0.1
"""Seconds to wait for a free file descriptor; trio.serve_listeners waits as long."""
ACCEPT_DELAY: Final = 0.001
"""Seconds that each open connection makes a process wait before it accepts from a shared socket;
less than the resolution of the system's timers would be no wait."""
MAX_ACCEPT_DELAY: Final = 0.004
ACCEPT_DELAY_WHEN_FULL: Final = 0.1
"""Seconds that other processes have to accept a client before a full one turns it away."""

StartConnection = Callable[
    [Callable[[ClientConnection, str], Awaitable[None]], ClientConnection, str], None
]

log = get_logger("listener")


def _worker_context() -> WorkerContext:
    return WorkerContext(max_requests=None)


class _Config(Config):
    """hypercorn's configuration, which formats the `Date` header once a second."""

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:  # noqa: ARG002
        """Return the headers of every answer: `Date` (RFC 9110, 6.6.1)."""
        return [(b"date", _date(int(time.time())))]


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return format_date_time(second).encode("ascii")


def hypercorn_config() -> Config:
    """Return the configuration that hypercorn's classes read; we replace everything else."""
    config = _Config()
    config.h11_max_incomplete_size = HEAD_LIMIT
    config.keep_alive_max_requests = 1_000_000_000
    config.errorlog = None
    config.accesslog = None
    return config


@attrs.define(eq=False)
class Listener:
    """Serves `app` on bound sockets until it is drained.

    `serve()` returns when every connection has ended after a drain, or when the drain's deadline
    has passed and the remaining connections are closed.
    """

    app: ASGIApp
    render_early_error: EarlyErrorRenderer
    max_connections: int
    limits: ConnectionLimits = attrs.field(factory=ConnectionLimits)
    certificate: RenewedContext | None = None
    """If set, the listener speaks TLS only."""
    is_shared: bool = False
    """Whether other processes accept from the same sockets."""
    connection_counts: ConnectionCounts = attrs.field()
    """How many of the connections one address may have."""
    settings: tuple[str, str] = ("server.max_connections", "server.max_connections_per_address")
    """The settings that cap all connections, and those of one address; for the log."""
    connections: set[ClientConnection] = attrs.field(factory=set, init=False)
    _config: Config = attrs.field(factory=hypercorn_config, init=False)
    _context: WorkerContext = attrs.field(factory=_worker_context, init=False)
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _draining: trio.Event = attrs.field(factory=trio.Event, init=False)

    @connection_counts.default
    def _default_counts(self) -> ConnectionCounts:
        return ConnectionCounts.of(self.max_connections)

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Accept and serve until `drain`, then until its deadline; raises AddressTaken."""
        listen(sockets)
        with contextlib.ExitStack() as ends, self._scope:
            for sock in sockets:
                ends.callback(sock.close)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    for sock in sockets:
                        accepting.start_soon(self._accept, sock, connections.start_soon)
                    await self._draining.wait()
                    await self._context.terminated.set()
                    accepting.cancel_scope.cancel()
                for sock in sockets:
                    self._take_the_rest(sock, connections.start_soon)
                    sock.close()
                for connection in self.connections:
                    connection.drain(FIRST_REQUEST_GRACE)

    def drain(self, seconds: float) -> None:
        """Stop accepting once the backlog is empty; cancel the connections left after `seconds`."""
        self._draining.set()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + seconds)

    async def _accept(self, sock: socket.socket, start: StartConnection) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            if self.is_shared:
                await trio.sleep(self._accept_delay())
            try:
                for _ in range(ACCEPTS_PER_TURN):
                    if not self._take(sock, start):
                        break
            except OSError as error:
                log.warning("cannot accept", reason=error.strerror)
                await trio.sleep(OUT_OF_FILES_PAUSE)

    def _accept_delay(self) -> float:
        if len(self.connections) >= self.max_connections:
            return ACCEPT_DELAY_WHEN_FULL
        return min(len(self.connections) * ACCEPT_DELAY, MAX_ACCEPT_DELAY)

    def _take_the_rest(self, sock: socket.socket, start: StartConnection) -> None:
        with contextlib.suppress(OSError):
            for _ in range(BACKLOG):
                if not self._take(sock, start):
                    return

    def _take(self, sock: socket.socket, start: StartConnection) -> bool:
        """Accept one waiting client; return False if none waits.

        Raises OSError when the process can open no more files.
        """
        try:
            client, address = sock.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in OUT_OF_FILES:
                raise
            return True  # this client has left already (accept(2): ECONNABORTED and similar errors)
        peer = address[0] if isinstance(address, tuple) else ""  # a Unix socket has no address
        if len(self.connections) >= self.max_connections:
            self._turn_away(client, TooManyConnections(self.settings[0]))
        elif self.connection_counts.is_full(peer):
            self._turn_away(client, TooManyConnections(self.settings[1], peer))
        else:
            self._admit(client, peer, start)
        return True

    def _admit(self, client: socket.socket, peer: str, start: StartConnection) -> None:
        """Start a connection, and count it at once: the cap and a drain must see it in any case."""
        try:
            connection = ClientConnection(
                self.app,
                self._config,
                self._context,
                self._stream(client),
                self.render_early_error,
                self.limits,
                self._turn,
            )
        except OSError:  # the client left after `accept`
            client.close()
            return
        self.connections.add(connection)
        start(self._serve, connection, self.connection_counts.enter(peer))

    def _stream(self, client: socket.socket) -> trio.SocketStream | ServerTLSStream:
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(client))
        if self.certificate is None:
            return plain
        return ServerTLSStream(plain, self.certificate.context(), self._refuse_handshake)

    def _refuse_handshake(self) -> None:
        """Count and log a failed handshake; no answer could be sent."""
        self.render_early_error(BadRequest("the TLS handshake failed", reason=Reason.TLS_HANDSHAKE))

    async def _serve(self, connection: ClientConnection, client: str) -> None:
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self.connection_counts.leave(client)

    def _turn_away(self, client: socket.socket, error: TooManyConnections) -> None:
        """Answer 503 and close, without a task: a flood of clients must cost next to nothing.

        Over TLS, only close: a handshake would cost more than a request.
        """
        headers, body = self.render_early_error(error)
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        with client:
            if self.certificate is not None:
                return
            client.setblocking(False)  # noqa: FBT003 - the standard library's signature
            with contextlib.suppress(OSError):  # the client has left, or has sent nothing yet
                client.send(b"HTTP/1.1 503 \r\nconnection: close\r\n%s\r\n%s" % (head, body))
                client.shutdown(socket.SHUT_WR)
                client.recv(HEAD_LIMIT)  # unread bytes would turn the close into a reset
