"""How a connection to a backend is opened: TCP, and TLS on top of it where the backend has it.

Whether a machine answers at all is known within milliseconds, or never, so this is the one place
upstream that has a deadline of its own. The rule: what is half open when the deadline strikes or
the caller is cancelled is closed here; a stream that is returned belongs to the caller.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import anyio
from anyio.streams.tls import TLSStream

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from ollama_gateway.backends.transport import Connect


def tcp(
    host: str, port: int, *, connect_timeout: float, ssl_context: ssl.SSLContext | None = None
) -> Connect:
    """Say how to reach `host`, a name or an IPv4 or IPv6 address without brackets.

    A name with several addresses is tried as RFC 6555 says. AnyIO sets TCP_NODELAY. A name is
    looked up in a thread of Trio's default limiter (40): a resolver that hangs holds one of them
    for each attempt until it gives up, however early the attempt itself was abandoned. Addresses
    need no thread.

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

    async def connect() -> ByteStream:
        with anyio.fail_after(connect_timeout):
            stream = await anyio.connect_tcp(host, port)
            if ssl_context is None:
                return stream
            return await _secured(stream, host, ssl_context)

    return connect


async def _secured(stream: ByteStream, host: str, ssl_context: ssl.SSLContext) -> ByteStream:
    try:
        return await TLSStream.wrap(
            stream, hostname=host, ssl_context=ssl_context, standard_compatible=True
        )
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
