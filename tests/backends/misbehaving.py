"""Scripted backends for the tests of the transport.

A script is a coroutine that plays the backend on one connection. In memory the connection is a
lockstep pair: one call reads the bytes of one write, and a write waits until it is read, so that a
backend that does not read blocks its client as a full socket does.

Both sides must end a conversation. `talking_to` fails if the transport still counts a connection or
has left a stream open, or if a backend still waits for its client to close.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import attrs
import trio
import trio.testing
from anyio.abc import ByteStream

from ollama_gateway.backends.transport import Transport

HOUR = 3600.0


@attrs.define(eq=False)
class Peer:
    """The backend's side of one connection."""

    stream: trio.abc.Stream
    gone: trio.Event = attrs.field(factory=trio.Event)
    """In memory: set when the client has closed, for scripts that do not read."""
    heard: bytearray = attrs.field(factory=bytearray)
    writes: list[int] = attrs.field(factory=list)
    """The size of each read; in memory, of each write of the client."""

    async def hear(self) -> bool:
        """Read once; return False at the end of the client's bytes."""
        data = await self.stream.receive_some()
        self.heard += data
        if data:
            self.writes.append(len(data))
        return bool(data)

    async def hear_request(self) -> None:
        """Read until the request is whole, by its Content-Length."""
        while not self._has_request():
            if not await self.hear():
                return

    async def hear_to_the_end(self) -> None:
        """Read until the client closes."""
        while await self.hear():
            pass

    async def say(self, *parts: bytes) -> None:
        """Write each part by itself."""
        for part in parts:
            await self.stream.send_all(part)

    def reset(self) -> None:
        """Close a real socket so that its client gets a RST after the bytes sent."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    def _has_request(self) -> bool:
        head, blank_line, content = bytes(self.heard).partition(b"\r\n\r\n")
        if not blank_line:
            return False
        _, _, length = head.lower().partition(b"content-length:")
        return len(content) >= int(length.split(b"\r\n")[0] or 0)


Script = Callable[[Peer], Awaitable[None]]


def answers(*parts: bytes) -> Script:
    """Read the request, send the parts, close."""

    async def script(peer: Peer) -> None:
        await peer.hear_request()
        await peer.say(*parts)

    return script


def answers_and_stays(*parts: bytes, every: float = 0) -> Script:
    """Read the request, send a part every `every` seconds, and wait for the client to close."""

    async def script(peer: Peer) -> None:
        await peer.hear_request()
        for part in parts:
            await trio.sleep(every)
            await peer.say(part)
        await peer.hear_to_the_end()

    return script


def refuses_early(*parts: bytes, after_reads: int = 1) -> Script:
    """Read only a part of the request, send the parts, close."""

    async def script(peer: Peer) -> None:
        for _ in range(after_reads):
            await peer.hear()
        await peer.say(*parts)

    return script


async def never_reads(peer: Peer) -> None:
    """Accept, and never read."""
    await peer.gone.wait()


@attrs.define(eq=False)
class Duplex(ByteStream):
    """The client's side of a connection in memory: adapts a Trio stream to AnyIO."""

    _stream: trio.abc.Stream
    _closed: trio.Event

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Read the bytes of one write of the backend."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error
        except trio.ClosedResourceError as error:
            raise anyio.ClosedResourceError from error
        if not data:
            raise anyio.EndOfStream
        return bytes(data)

    async def send(self, item: bytes) -> None:
        """Write, and wait until the backend has read it all."""
        try:
            await self._stream.send_all(item)
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error
        except trio.ClosedResourceError as error:
            raise anyio.ClosedResourceError from error

    async def send_eof(self) -> None:
        """Fail: the gateway never does this."""
        raise AssertionError("a half-close looks like a client that left")

    async def aclose(self) -> None:
        """Close both directions and tell the script."""
        self._closed.set()
        await self._stream.aclose()


@attrs.define(eq=False)
class MemoryBackend:
    """A backend that plays its script on every connection."""

    script: Script
    nursery: trio.Nursery
    peers: list[Peer] = attrs.field(factory=list)

    async def connect(self) -> ByteStream:
        """Open a connection; a checkpoint, as with a real one."""
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.lockstep_stream_pair()
        peer = Peer(theirs)
        self.peers.append(peer)
        self.nursery.start_soon(self._play, peer)
        return Duplex(ours, peer.gone)

    async def _play(self, peer: Peer) -> None:
        async with peer.stream:
            try:
                await self.script(peer)
            except trio.BrokenResourceError:
                await peer.hear_to_the_end()  # the client has closed, so its end must be readable
        await peer.gone.wait()


@asynccontextmanager
async def talking_to(
    script: Script, *, max_head: int = 64 * 1024, most_idle: int = 0
) -> AsyncIterator[tuple[Transport, MemoryBackend]]:
    """Yield a transport and the backend behind it, and check at the end that nothing is left.

    Needs virtual time (the fixture `autojump_clock`), in which a side that never ends fails the
    test after an hour.
    """
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    with trio.fail_after(HOUR):
        async with trio.open_nursery() as nursery:
            backend = MemoryBackend(script, nursery)
            transport = Transport(backend.connect, max_head=max_head, most_idle=most_idle)
            yield transport, backend
            await transport.aclose()
            assert (transport.open_connections, transport.idle_connections) == (0, 0)


@asynccontextmanager
async def listening(
    script: Script, wrap: Callable[[trio.SocketStream], trio.abc.Stream] = lambda stream: stream
) -> AsyncIterator[int]:
    """Play a script on real sockets of this machine; yield the port.

    On leaving, waits for every connection's script to end.
    """

    async def play(stream: trio.SocketStream) -> None:
        try:
            async with wrap(stream) as wrapped:
                await script(Peer(wrapped))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has closed, or the script has closed the socket below TLS

    with trio.fail_after(HOUR):
        async with trio.open_nursery() as playing, trio.open_nursery() as accepting:
            serve = partial(trio.serve_tcp, host="127.0.0.1", handler_nursery=playing)
            listeners: list[trio.SocketListener] = await accepting.start(serve, play, 0)
            yield listeners[0].socket.getsockname()[1]
            accepting.cancel_scope.cancel()
