"""Real sockets of this machine on the real clock, except for the black hole; no test waits."""

from __future__ import annotations

import errno
import itertools
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from anyio.abc import SocketAttribute

from ollama_gateway.backends.connecting import REFUSED, connect_fault, tcp
from ollama_gateway.backends.transport import Transport
from tests.backends.asking import CHUNKED, MIB, OK, chunk, fetch, is_cancelled_at, post
from tests.backends.conftest import Certificates
from tests.backends.misbehaving import Peer, answers, answers_and_stays, listening
from tests.support.certificates import HOST

if TYPE_CHECKING:
    from trio.testing import MockClock

REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"


def transport_to(port: int, ssl_context: ssl.SSLContext | None = None) -> Transport:
    """Make a transport with a deadline that no test reaches."""
    context = None if ssl_context is None else lambda: ssl_context
    return Transport(tcp(HOST, port, connect_timeout=60, ssl_context=context))


async def test_stream_without_delay() -> None:
    """An answer streams through a real socket that does not delay small writes."""
    async with listening(answers(CHUNKED + chunk(b"hi"), b"0\r\n\r\n")) as port:
        connect = tcp(HOST, port, connect_timeout=60)
        stream = await connect()
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - no Django
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        await stream.aclose()

        assert await fetch(Transport(connect), post()) == (200, [b"hi"])


async def test_by_name() -> None:
    """A host given by name is looked up."""
    async with listening(answers(OK + b"\r\nhi")) as port:
        transport = Transport(tcp("localhost", port, connect_timeout=60))

        assert await fetch(transport, post()) == (200, [b"hi"])


@pytest.mark.parametrize("host", [HOST, "a" * 64 + ".invalid"])
async def test_nobody_there(host: str) -> None:
    """A refused connection and an impossible name raise the same error."""
    with socket.socket() as bound:  # and not listening
        bound.bind((HOST, 0))
        transport = Transport(tcp(host, bound.getsockname()[1], connect_timeout=60))
        with pytest.raises(httpx.ConnectError, match=r"^cannot connect to the backend$"):
            await transport.handle_async_request(post())

    assert transport.open_connections == 0


async def reset_at_once(peer: Peer) -> None:
    """Reset the connection instead of answering."""
    await peer.hear_request()
    peer.reset()


async def reset_in_a_chunk(peer: Peer) -> None:
    """Reset the connection after half of a chunk."""
    await peer.hear_request()
    await peer.say(CHUNKED + b"5\r\nhi")
    peer.reset()


async def test_reset_before_the_head() -> None:
    """A reset in place of an answer is a read error."""
    async with listening(reset_at_once) as port:
        transport = transport_to(port)
        with pytest.raises(httpx.ReadError, match=r"^the connection to the backend broke$"):
            await transport.handle_async_request(post())
        assert transport.open_connections == 0


async def test_reset_in_a_chunk() -> None:
    """Bytes before a reset are returned; then it is a read error."""
    async with listening(reset_in_a_chunk) as port:
        transport = transport_to(port)
        response = await transport.handle_async_request(post())
        body = aiter(response.stream)  # type: ignore[arg-type]
        assert await anext(body) == b"hi"
        with pytest.raises(httpx.ReadError):
            await anext(body)
        assert transport.open_connections == 0


async def refuse_unread(peer: Peer) -> None:
    """Answer and close without reading the request, which makes the kernel send a reset."""
    await peer.say(REFUSAL)


@pytest.mark.parametrize("size", [13, 8 * MIB])
async def test_refused_unread(size: int) -> None:
    """An answer is used although the connection broke while the request was written."""
    async with listening(refuse_unread) as port:
        assert await fetch(transport_to(port), post(b"x" * size)) == (413, [b"big"])


async def test_upload_and_stream_over_tls(certificates: Certificates) -> None:
    """A large body goes out, and the answer comes in, over TLS."""
    seen = 0

    async def script(peer: Peer) -> None:
        nonlocal seen
        await peer.hear_request()
        seen = len(peer.heard)
        await peer.say(CHUNKED + chunk(b"hi"), b"0\r\n\r\n")

    async with listening(script, certificates.wrap) as port:
        transport = transport_to(port, certificates.client)
        assert await fetch(transport, post(b"x" * 8 * MIB)) == (200, [b"hi"])

    assert seen > 8 * MIB


async def test_end_over_tls(certificates: Certificates) -> None:
    """A body that ends with its connection is complete after a TLS close_notify."""
    async with listening(answers(OK + b"\r\nhi"), certificates.wrap) as port:
        transport = transport_to(port, certificates.client)
        assert await fetch(transport, post()) == (200, [b"hi"])


async def test_cut_over_tls(certificates: Certificates) -> None:
    """Without close_notify such a body is cut short."""

    async def cut(peer: Peer) -> None:
        await peer.hear_request()
        await peer.say(OK + b"\r\nhi")
        assert isinstance(peer.stream, trio.SSLStream)
        await trio.aclose_forcefully(peer.stream.transport_stream)

    async with listening(cut, certificates.wrap) as port:
        transport = transport_to(port, certificates.client)
        with pytest.raises(httpx.ReadError):
            await fetch(transport, post())
        assert transport.open_connections == 0


async def test_tls_where_the_backend_has_none() -> None:
    """Connecting to a plain server by an https address fails."""

    async def speak_plain(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.hear_to_the_end()

    async with listening(speak_plain) as port:
        transport = transport_to(port, ssl.create_default_context())
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(post())
        assert transport.open_connections == 0


async def test_no_tls_where_the_backend_has_it(certificates: Certificates) -> None:
    """A TLS server answers plain HTTP with an alert, which is not HTTP."""
    async with listening(answers(OK + b"\r\n"), certificates.wrap) as port:
        with pytest.raises(httpx.RemoteProtocolError):
            await transport_to(port).handle_async_request(post())


async def test_certificate_of_a_stranger(certificates: Certificates) -> None:
    """Connecting to a server with an untrusted certificate fails."""
    async with listening(answers(OK + b"\r\n"), certificates.wrap) as port:
        transport = transport_to(port, ssl.create_default_context())
        with pytest.raises(httpx.ConnectError) as caught:
            await transport.handle_async_request(post())

    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_handshake_that_never_ends(autojump_clock: MockClock) -> None:
    """The connect timeout covers the TLS handshake."""
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        context = ssl.create_default_context()
        transport = Transport(tcp(HOST, port, connect_timeout=2, ssl_context=lambda: context))
        with pytest.raises(
            httpx.ConnectTimeout, match=r"^connecting to the backend took too long$"
        ):
            await transport.handle_async_request(post())

    assert autojump_clock.current_time() == pytest.approx(2)
    assert transport.open_connections == 0


@pytest.mark.parametrize("size", [13, MIB])
async def test_cancelled_at_every_step_over_tls(certificates: Certificates, size: int) -> None:
    """A cancellation in the handshake or later leaves no connection open."""
    script = answers_and_stays(CHUNKED + chunk(b"a"), chunk(b"b"), b"0\r\n\r\n")
    async with listening(script, certificates.wrap) as port:
        transport = transport_to(port, certificates.client)
        for step in itertools.count(1):
            cancelled = await is_cancelled_at(step, transport, post(b"x" * size))
            assert transport.open_connections == 0
            if not cancelled:
                break


def test_why_there_is_no_connection() -> None:
    """An unknown host, a missing route and a refusal differ, of one address or several."""
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "no")
    several, wrapped = ExceptionGroup("all failed", [refused, OSError("x")]), OSError("failed")
    wrapped.__cause__ = several

    assert connect_fault(refused) == connect_fault(wrapped) == REFUSED
    assert connect_fault(socket.gaierror(socket.EAI_NONAME, "x")) == "unknown host"
    assert connect_fault(OSError(errno.ENETUNREACH, "x")) == "no route to the host"
    assert connect_fault(OSError("x")) is None
