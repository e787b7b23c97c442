"""Opens connections to backends: TCP, and TLS on top of it for `https`.

A machine accepts a connection within milliseconds or not at all, so connecting has a deadline of
its own, the only one in the transport. When the deadline passes or the caller is cancelled, a
half-open connection is closed here; a returned stream belongs to the caller.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from ollama_gateway.backends.plain import PlainStream, Wrapping
from ollama_gateway.keepalive import keep_alive
from ollama_gateway.tls_faults import tls_fault

if TYPE_CHECKING:
    from ollama_gateway.backends.transport import Connect

REFUSED: Final = "refused"
UNREACHABLE: Final = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL}


def connect_fault(error: BaseException) -> str | None:
    """Return the gateway's words for why no connection was made, or None if there are none.

    Args:
        error: with the causes that the returned function of `tcp` raised.

    """
    if fault := tls_fault(error):
        return fault
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror | UnicodeError):
            return "unknown host"
        if isinstance(cause, ConnectionRefusedError):
            return REFUSED
        if isinstance(cause, OSError) and cause.errno in UNREACHABLE:
            return "no route to the host"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all its causes: AnyIO groups those of several addresses."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__


def tcp(
    host: str,
    port: int,
    *,
    connect_timeout: float,
    ssl_context: Callable[[], ssl.SSLContext] | None = None,
) -> Connect:
    """Return a function that connects to `host`: a name, or an IP address without brackets.

    The addresses of a name are tried as RFC 6555 says, and AnyIO sets TCP_NODELAY. A name is looked
    up in a thread of Trio's default limiter (40): a resolver that hangs holds one thread for each
    attempt until it gives up, even if the attempt was abandoned. Addresses need no thread and no
    tasks.

    Args:
        host: also the name that the certificate must have.
        port: 1 to 65535.
        connect_timeout: seconds for the look-up, the connection and the TLS handshake together.
        ssl_context: for an `https` backend, returns the context of the next connection. By default
            Python takes a cut connection for a proper end; that option is removed from it.

    Raises:
        TimeoutError, OSError, UnicodeError, anyio.BrokenResourceError: from the returned function;
            the transport turns them into `httpx.ConnectTimeout` and `httpx.ConnectError`.

    """
    addresses = _literal(host, port)

    async def connect() -> ByteStream:
        with anyio.fail_after(connect_timeout):
            if addresses:
                stream = await _connected(*addresses[0])
            else:
                stream = await anyio.connect_tcp(host, port)
            keep_alive(stream.extra(SocketAttribute.raw_socket))  # noqa: S610 - not Django's
            if ssl_context is None:
                return PlainStream(stream)
            return await _secured(stream, host, ssl_context())

    return connect


def _literal(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Return the socket address of an IP address, without a look-up; nothing for a name."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


async def _connected(family: socket.AddressFamily, address: tuple[Any, ...]) -> SocketStream:
    """Connect to a single address.

    AnyIO starts tasks to try several addresses at once; they took an eighth of the CPU that begins
    a stream on a new connection.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            sock.connect(address)
        await anyio.wait_writable(sock)
        _check(sock)
        return await SocketStream.from_socket(sock)
    except BaseException:
        sock.close()
        raise


def _check(sock: socket.socket) -> None:
    """Raise OSError if connecting has failed (connect(2), EINPROGRESS)."""
    if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))


class _SilencedOnCancel(Wrapping):
    """The TCP stream below TLS: after a cancelled write, it drops all further writes.

    A backend may answer in the middle of an upload, which is then cancelled. AnyIO treats a TLS
    stream with a cancelled write as broken. Indeed nothing more can be sent on it; but the answer
    can still be read, if the write seems to succeed. The cancellation is not lost: it is raised at
    the writer's next checkpoint.
    """

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream)
        self._is_silenced = False

    async def send(self, item: bytes) -> None:
        if self._is_silenced:
            return
        try:
            await self._stream.send(item)
        except anyio.get_cancelled_exc_class():
            self._is_silenced = True

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)


class BackendTLSStream(Wrapping):
    """A connection over TLS, which can be checked before it is used again."""

    def __init__(self, stream: TLSStream) -> None:
        super().__init__(stream)
        self._secure = stream.extra(TLSAttribute.ssl_object)  # noqa: S610 - not Django's
        self._found = b""

    def is_quiet(self) -> bool:
        """Return True if there is nothing to read, neither on the socket nor decrypted already.

        TLS's own messages, such as a new session ticket, count as something to read.
        """
        try:
            self._found += self._secure.read(1)
        except ssl.SSLWantReadError:
            return not self._found and super().is_quiet()
        except ssl.SSLError:  # it has ended
            return False
        return False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Read available bytes, waiting for them."""
        if self._found:
            found, self._found = self._found, b""
            return found
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        """Write all."""
        await self._stream.send(item)


async def _secured(stream: ByteStream, host: str, ssl_context: ssl.SSLContext) -> ByteStream:
    ssl_context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    try:
        secure = await TLSStream.wrap(
            _SilencedOnCancel(stream),
            hostname=host,
            ssl_context=ssl_context,
            standard_compatible=True,
        )
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return BackendTLSStream(secure)
