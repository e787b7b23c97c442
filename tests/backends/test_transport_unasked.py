"""Unexpected bytes of a backend: no client gets them, and they end the trust in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from anyio.abc import SocketAttribute
from trio.testing import MockClock

from ollama_gateway.backends.connecting import tcp
from ollama_gateway.backends.idle import (
    DISTRUST_SECONDS,
    KEEP_SECONDS,
    SETTLE_SECONDS,
    IdleConnections,
)
from ollama_gateway.backends.outgoing import Message
from ollama_gateway.backends.transport import Transport
from tests.backends.asking import OK, post
from tests.backends.conftest import Certificates
from tests.backends.misbehaving import Duplex, Peer, Script, listening, talking_to
from tests.support.certificates import HOST

HI = OK + b"Content-Length: 2\r\n\r\nhi"
SECRET = OK + b"Content-Length: 6\r\n\r\nsecret"


@attrs.define(eq=False)
class Talker:
    """A backend that answers each request alike, and sends extra bytes on demand.

    Args:
        behind: sent in the same write as the answer.

    """

    behind: bytes = b""
    peers: list[Peer] = attrs.field(factory=list)
    requests: list[bytes] = attrs.field(factory=list)

    async def __call__(self, peer: Peer) -> None:
        """Play the backend on one connection."""
        self.peers.append(peer)
        while True:
            peer.heard.clear()
            await peer.hear_request()
            if not peer.heard:
                return
            self.requests.append(bytes(peer.heard))
            await peer.say(HI + self.behind)


async def ask(transport: Transport, owner: str = "") -> bytes:
    """Send one request, and return the body of its answer."""
    incoming = await transport.ask(Message.of(post(), is_once=False), owner)
    parts = []
    while part := await incoming.read():
        parts.append(part)
    return b"".join(parts)


@pytest.fixture(params=["plain", "tls"])
def secured(request: pytest.FixtureRequest, certificates: Certificates) -> Certificates | None:
    """Reach a backend both in plain and over TLS."""
    return certificates if request.param == "tls" else None


@asynccontextmanager
async def reaching(script: Script, certificates: Certificates | None) -> AsyncIterator[Transport]:
    """Make a transport to a backend on real sockets, on the test's clock."""
    wrap: Callable[[trio.SocketStream], trio.abc.Stream] = (
        certificates.wrap if certificates else lambda stream: stream
    )
    client = certificates.client if certificates else None
    context = None if client is None else lambda: client
    async with listening(script, wrap) as port:
        connect = tcp(HOST, port, connect_timeout=60, ssl_context=context)
        transport = Transport(connect, most_idle=4, name="a")
        yield transport
        await transport.aclose()


async def said_more(peer: Peer, extra: bytes) -> None:
    """Send it after the answer before it."""
    await trio.testing.wait_all_tasks_blocked()
    await peer.say(extra)


async def something_came(transport: Transport, at: int = -1) -> None:
    """Wait until an idle connection has something to read."""
    _, _, stream = transport._idle._streams[at]
    await trio.lowlevel.wait_readable(stream.extra(SocketAttribute.raw_socket))  # noqa: S610


@pytest.mark.parametrize("extra", [SECRET, b"\r\n", b"x", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_what_comes_behind_an_answer_is_not_the_next_one(
    mock_clock: MockClock, secured: Certificates | None, extra: bytes
) -> None:
    """Extra bytes of any kind are dropped, and no connection is kept afterwards."""
    talker = Talker()
    async with reaching(talker, secured) as transport:
        assert await ask(transport) == b"hi"
        await said_more(talker.peers[0], extra)
        await something_came(transport)
        mock_clock.jump(SETTLE_SECONDS)
        for _ in range(2):
            assert await ask(transport) == b"hi"
            assert transport.idle_connections == 0
        assert b"Connection: close" in talker.requests[-1]


async def test_what_comes_before_it_may_be_used_is_not_read(mock_clock: MockClock) -> None:
    """Bytes that arrive during the pause are found, at the latest when the connection is closed."""
    talker = Talker()
    async with reaching(talker, None) as transport:
        assert await ask(transport) == b"hi"
        for _ in range(3):
            assert await ask(transport) == b"hi"
        assert len(talker.peers) == 4
        await said_more(talker.peers[0], SECRET)
        await something_came(transport, at=0)
        mock_clock.jump(SETTLE_SECONDS)
        assert await ask(transport) == b"hi"
        assert transport.idle_connections == 4
        mock_clock.jump(KEEP_SECONDS + 1)
        assert await ask(transport) == b"hi"
        assert transport.idle_connections == 0


@pytest.mark.parametrize("extra", [SECRET, b"x"])
async def test_what_came_with_the_answer_is_seen(
    mock_clock: MockClock, secured: Certificates | None, extra: bytes
) -> None:
    """Extra bytes in the same read are found, and those in a further TLS record of that read."""
    talker, connections = Talker(), 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.hear_request()
        if secured:
            await _in_one_write(peer, HI, extra)
        else:
            await peer.say(HI + extra)
        await talker(peer)

    async with reaching(script, secured) as transport:
        assert await ask(transport) == b"hi"
        mock_clock.jump(SETTLE_SECONDS)
        for _ in range(2):
            assert await ask(transport) == b"hi"
            assert transport.idle_connections == 0
        assert connections == 3


async def _in_one_write(peer: Peer, *parts: bytes) -> None:
    """Write TLS records so that one read of the socket returns all of them."""
    assert isinstance(peer.stream, trio.SSLStream)
    await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")  # with the held back end of the handshake
    for part in parts:
        peer.stream._ssl_object.write(part)
    await peer.stream.transport_stream.send_all(peer.stream._outgoing.read())


async def test_an_end_is_no_reason_for_distrust(
    mock_clock: MockClock, secured: Certificates | None
) -> None:
    """Backends close idle connections, with close_notify too: the next connection is kept."""

    async def script(peer: Peer) -> None:
        await peer.hear_request()
        await peer.say(HI)

    async with reaching(script, secured) as transport:
        for _ in range(3):
            assert await ask(transport) == b"hi"
            await something_came(transport)
            mock_clock.jump(SETTLE_SECONDS)
        assert transport.idle_connections == 1


async def test_a_key_never_gets_a_connection_of_another_one(mock_clock: MockClock) -> None:
    """Bytes that arrive while an answer is awaited never come from another key's request."""
    talker = Talker()
    async with reaching(talker, None) as transport:
        for owner in ("alice", "bob", "alice", "bob", ""):
            assert await ask(transport, owner) == b"hi"
            mock_clock.jump(SETTLE_SECONDS)
        assert len(talker.peers) == 3


async def test_distrust_passes(mock_clock: MockClock) -> None:
    """After ten minutes without extra bytes connections are kept again."""
    talker = Talker(behind=SECRET)
    async with reaching(talker, None) as transport:
        assert await ask(transport) == b"hi"
        mock_clock.jump(DISTRUST_SECONDS - 1)
        assert await ask(transport) == b"hi"
        talker.behind = b""
        mock_clock.jump(DISTRUST_SECONDS - 1)
        assert await ask(transport) == b"hi"
        assert transport.idle_connections == 0
        mock_clock.jump(1)
        assert await ask(transport) == b"hi"
        assert transport.idle_connections == 1


async def test_one_that_says_too_much_costs_all_that_are_kept(autojump_clock: MockClock) -> None:
    """Extra bytes on one connection close all idle connections of the backend."""
    talker = Talker()
    async with talking_to(talker, most_idle=4) as (transport, _):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask, transport)
        assert transport.idle_connections == 3
        talker.behind = b"!"
        await ask(transport)
        assert transport.idle_connections == 0


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 204 No Content\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"]
)
async def test_an_answer_without_a_body_that_nobody_reads(
    autojump_clock: MockClock, head: bytes
) -> None:
    """Bytes after its head count as extra bytes, whether or not the answer is read."""

    async def script(peer: Peer) -> None:
        await peer.hear_request()
        await peer.say(head + SECRET)
        await peer.hear_to_the_end()

    async with talking_to(script, most_idle=4) as (transport, _):
        incoming = await transport.ask(Message.of(post(), is_once=False))
        await incoming.aclose()
        assert transport.idle_connections == 0


async def test_which_is_taken_and_which_goes() -> None:
    """The usable one used last is taken; the oldest is closed, or under load the newest."""
    idle = IdleConnections(most=2)
    one, two, three = (Duplex(trio.testing.memory_stream_pair()[0], trio.Event()) for _ in "abc")
    idle.keep(one, "a", 0)
    idle.keep(two, "a", 0.05)
    assert idle.take("a", 0.05) is None
    assert idle.take("b", 1) is None
    idle.keep(three, "a", 0.06)
    assert idle.expired(0.07) is three  # the others can be used sooner
    idle.keep(three, "b", 0.11)
    assert idle.expired(0.11) is one
    assert idle.expired(0.11) is None
    assert idle.take("a", 1) is two
    assert idle.expired(0.11 + KEEP_SECONDS) is None
    assert idle.expired(0.12 + KEEP_SECONDS) is three
