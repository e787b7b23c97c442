"""How a connection to a backend is opened: TCP, and TLS on top of it where the backend has it.

Whether a machine answers at all is known within milliseconds, or never, so this is the one place
upstream that has a deadline of its own. The rule: what is half open when the deadline strikes or
the caller is cancelled is closed here; a stream that is returned belongs to the caller.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from ollama_gateway.backends.plain import PlainStream, Wrapping
from ollama_gateway.keepalive import keep_alive

if TYPE_CHECKING:
    from ollama_gateway.backends.transport import Connect


CERTIFICATE_FAULTS: Final = {
    10: "its certificate has expired",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}
"""By OpenSSL's number (x509_vfy.h); every other one is a certificate that nobody vouches for."""


ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not accept the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the client certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it does not accept the client certificate",
}
"""What a backend says of us, by OpenSSL's name (sslerr.h); with TLS 1.2 less than with 1.3."""


def tls_fault(error: BaseException | None) -> str | None:
    """What TLS did not like, in words of ours, where it is behind an error."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return CERTIFICATE_FAULTS.get(error.verify_code, "its certificate is not trusted")
        if isinstance(error, ssl.SSLError):
            return ALERTS.get(error.reason, "it does not speak TLS as it should")
        error = error.__cause__
    return None


def tcp(
    host: str, port: int, *, connect_timeout: float, ssl_context: ssl.SSLContext | None = None
) -> Connect:
    """Say how to reach `host`, a name or an IPv4 or IPv6 address without brackets.

    A name with several addresses is tried as RFC 6555 says. AnyIO sets TCP_NODELAY. A name is
    looked up in a thread of Trio's default limiter (40): a resolver that hangs holds one of them
    for each attempt until it gives up, however early the attempt itself was abandoned. Addresses
    need no thread, and no tasks.

    Args:
        host: also the name that the certificate must carry.
        port: 1 to 65535.
        connect_timeout: seconds for the look-up, the connection and the TLS handshake together.
        ssl_context: given for an `https` backend. Python lets a context take a cut connection
            for an end; that option is taken out of it here.

    Raises:
        TimeoutError, OSError, UnicodeError, anyio.BrokenResourceError: from the function that is
            returned; the transport makes them `httpx.ConnectTimeout` and `httpx.ConnectError`.

    """
    if ssl_context is not None:
        ssl_context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF

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
            return await _secured(stream, host, ssl_context)

    return connect


def _literal(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """The socket's address where `host` is one, and needs no look-up; empty where it is a name."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


async def _connected(family: socket.AddressFamily, address: tuple[Any, ...]) -> SocketStream:
    """A connection to the one address there is.

    AnyIO would try several beside each other, in tasks; that was an eighth of what it takes to
    begin a stream on a new connection.
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
    """Raise OSError where connecting has failed (connect(2), EINPROGRESS)."""
    if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))


class _SilencedOnCancel(Wrapping):
    """The connection as TLS sees it: once a write was cancelled, it takes what is said for sent.

    A backend may answer in the middle of an upload, which is cancelled then. AnyIO takes a TLS
    stream with a cancelled write for broken, rightly: nothing can be said on it any more. What the
    backend says can still be read, and that is all that is wanted. The cancellation itself is not
    lost: it is raised at the writer's next checkpoint.
    """

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream)
        self._is_quiet = False

    async def send(self, item: bytes) -> None:
        if self._is_quiet:
            return
        try:
            await self._stream.send(item)
        except anyio.get_cancelled_exc_class():
            self._is_quiet = True

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)


class BackendTLSStream(Wrapping):
    """A connection over TLS, which can be looked at before it is used again."""

    def __init__(self, stream: TLSStream) -> None:
        super().__init__(stream)
        self._secure = stream.extra(TLSAttribute.ssl_object)  # noqa: S610 - not Django's
        self._found = b""

    def is_quiet(self) -> bool:
        """Whether nothing is to be read, of what TLS was given already too.

        What TLS says among its own, as a new session's ticket, makes it not quiet.
        """
        try:
            self._found += self._secure.read(1)
        except ssl.SSLWantReadError:
            return not self._found and super().is_quiet()
        except ssl.SSLError:  # it has ended
            return False
        return False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What there is, once there is something."""
        if self._found:
            found, self._found = self._found, b""
            return found
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        """Write all of it."""
        await self._stream.send(item)


async def _secured(stream: ByteStream, host: str, ssl_context: ssl.SSLContext) -> ByteStream:
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
