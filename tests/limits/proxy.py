"""A connection to Redis that can fail, between a gateway and a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import attrs
from anyio.abc import SocketStream

from tests.smoke.fleet import free_port
from tests.support.redis_server import RedisServer


@attrs.define(eq=False)
class Proxy:
    """A proxy before Redis that can fail; it runs in the test's own loop."""

    target: int
    port: int
    is_passable: bool = True
    """Whether connections are accepted and kept."""
    delay: float = 0.0
    """Seconds by which replies are delayed."""
    garble: bytes | None = None
    """Sent instead of every reply; empty bytes end the connection."""
    cut_after: bytes | None = None
    """The next requests with these bytes are passed on; their connections end without the reply."""
    tries: int = 1
    """How many of them; the store tries twice if Redis answered lately."""
    passing: float = 0.0
    """Share of that reply that is still sent: 0.5 is a half."""
    cuts: int = 0
    passes_one: bytes | None = None
    """Each connection passes one reply with these bytes, and ends before the second."""
    keep: bytes | None = None
    """The next request with these bytes is kept here, and its connection stays silent..."""
    ends_kept: bool = False
    """... or ends."""
    kept: list[bytes] = attrs.field(factory=list)
    swallows: bool = False
    """Whether requests are read and thrown away."""
    swallowed: int = 0

    @property
    def url(self) -> str:
        """Its address as a URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self, client: SocketStream) -> None:
        """Relay one connection until either side, or a fault, ends it."""
        async with client:
            with suppress(OSError):
                async with await anyio.connect_tcp("127.0.0.1", self.target) as upstream:
                    await self._carry(client, upstream)

    async def _carry(self, client: SocketStream, upstream: SocketStream) -> None:
        doomed = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def run(one_way: Callable[..., Awaitable[None]]) -> None:
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    await one_way(client, upstream, doomed)
                tasks.cancel_scope.cancel()

            tasks.start_soon(run, self._requests)
            tasks.start_soon(run, self._replies)

    async def _requests(
        self, client: SocketStream, upstream: SocketStream, doomed: anyio.Event
    ) -> None:
        while self.is_passable:
            request = await client.receive()
            if self.cut_after is not None and self.cut_after in request:
                self.tries -= 1
                if self.tries == 0:
                    self.cut_after, self.tries = None, 1
                doomed.set()
            if self.keep is not None and self.keep in request:
                self.keep = None
                self.kept.append(request)
                if self.ends_kept:
                    return
                continue
            if self.swallows:
                self.swallowed += 1
                continue
            await upstream.send(request)

    async def _replies(
        self, client: SocketStream, upstream: SocketStream, doomed: anyio.Event
    ) -> None:
        passed = 0
        while self.is_passable:
            reply = await upstream.receive()
            await anyio.sleep(self.delay)
            if self.passes_one is not None and self.passes_one in reply:
                passed += 1
                if passed > 1:
                    self.cuts += 1
                    return
            if doomed.is_set():
                self.cuts += 1
                await client.send(reply[: int(len(reply) * self.passing)])
                return
            if self.garble == b"":
                return
            if self.is_passable:
                await client.send(reply if self.garble is None else self.garble)

    async def deliver(self) -> None:
        """Send Redis the kept requests, in their order, and wait until it has run them."""
        async with await anyio.connect_tcp("127.0.0.1", self.target) as upstream:
            for request in self.kept:
                await upstream.send(request)
                await upstream.receive()
        self.kept.clear()


@asynccontextmanager
async def proxy_to(server: RedisServer) -> AsyncIterator[Proxy]:
    """Run a proxy before a server, for the length of the block."""
    proxy = Proxy(server.port, free_port())
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=proxy.port) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()
