"""Run a listener on real sockets, and applications to put behind it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing

from ollama_gateway.errors import GatewayError, Unauthorized
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import Endpoint, dialect_of
from ollama_gateway.http.app_tasks import ASGIApp
from ollama_gateway.http.binding import bind
from ollama_gateway.http.connection import ConnectionLimits
from ollama_gateway.http.listener import Listener
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.app import App as Gateway
from ollama_gateway.server.app import AppConfig, error_response
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.routes import Route, Routes
from tests.support.patience import HANGS, PATIENCE, until

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def render_early_error(error: GatewayError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Render the gateway's error response, without counting or logging."""
    headers, body = error_response(error, dialect_of("/"), "id")
    return [*headers, (b"content-length", b"%d" % len(body))], body


@attrs.define
class Peer:
    """A listener under test, and how to reach it."""

    listener: Listener
    port: int
    idle_tasks: int
    """Tasks that live while there is no client: the test's own and the listener's."""
    has_ended: trio.Event
    """Set when `serve()` has returned."""
    refused: list[GatewayError]
    """The errors of clients that were refused before any request was understood."""

    async def connect(self) -> trio.SocketStream:
        """Open a new client connection."""
        with trio.fail_after(PATIENCE):
            return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes and read until the other side ends; a reset counts as an end."""
        async with await self.connect() as stream:
            with trio.fail_after(PATIENCE):
                with contextlib.suppress(trio.BrokenResourceError):
                    # The listener may end the connection before it has read all.
                    await stream.send_all(data)
                return await read_to_end(stream)

    async def read_to_end(self, stream: trio.abc.ReceiveStream) -> bytes:
        """Read as `read_to_end` does."""
        return await read_to_end(stream)

    async def is_serving(self) -> bool:
        """Return True if a plain request on a new connection is answered."""
        answer = await self.exchange(PLAIN_REQUEST)
        return answer.startswith(b"HTTP/1.1 200 ")

    async def wait_until_quiet(self) -> None:
        """Wait until no connection and no task of a connection is left."""
        await until(
            lambda: (
                not self.listener.connections
                and trio.lowlevel.current_statistics().tasks_living <= self.idle_tasks
            )
        )


async def read_until(stream: trio.abc.ReceiveStream, text: bytes) -> bytes:
    """Read until these bytes have come."""
    data = b""
    while text not in data:
        more = await stream.receive_some()
        assert more, data
        data += more
    return data


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to the end; a reset is shown as `<reset>`."""
    data = b""
    try:
        while chunk := await stream.receive_some():
            data += chunk
    except trio.BrokenResourceError:
        data += b"<reset>"
    return data


async def _serve(listener: Listener, sockets: list[socket.socket], has_ended: trio.Event) -> None:
    await listener.serve(sockets)
    has_ended.set()


@asynccontextmanager
async def serving(
    app: ASGIApp, limits: ConnectionLimits | None = None, max_connections: int = 1000
) -> AsyncIterator[Peer]:
    """Run a listener on a free port for the length of the block."""
    refused: list[GatewayError] = []

    def render(error: GatewayError) -> tuple[list[tuple[bytes, bytes]], bytes]:
        refused.append(error)
        return render_early_error(error)

    listener = Listener(app, render, max_connections, limits or ConnectionLimits())
    sockets = bind("127.0.0.1", 0)
    with trio.fail_after(HANGS):
        async with trio.open_nursery() as nursery:
            has_ended = trio.Event()
            nursery.start_soon(_serve, listener, sockets, has_ended)
            await trio.testing.wait_all_tasks_blocked()
            tasks = trio.lowlevel.current_statistics().tasks_living
            yield Peer(listener, sockets[0].getsockname()[1], tasks, has_ended, refused)
            nursery.cancel_scope.cancel()


PLAIN_REQUEST = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"


def gateway(max_body: int = 16 * 1024 * 1024, max_all: int = 64 * 1024 * 1024) -> Gateway:
    """Return the gateway's own application with four routes.

    `/` answers, `/body` returns the length of the body it read, `/key` refuses without reading,
    `/cut` begins an answer and fails.
    """
    handlers = {"/": _greet, "/body": _measure, "/key": _refuse, "/cut": _cut}
    table = {}
    for path, handler in handlers.items():
        route = Route(Endpoint(path, "read"), handler)
        table[path] = {"GET": route, "HEAD": route, "POST": route}
    return Gateway(AppConfig(Routes(table, {})), BodyBudget(max_body, max_all), Metrics())


async def _greet(ask: Ask) -> None:
    await ask.downstream.respond(200, [], b"hello")


async def _measure(ask: Ask) -> None:
    body = await ask.downstream.body(ask.credential or "")
    await ask.downstream.respond(200, [], b"%d" % len(body))


async def _refuse(_ask: Ask) -> None:
    raise Unauthorized


async def _cut(ask: Ask) -> None:
    await ask.downstream.start(200, [])
    await ask.downstream.send(b"begun")
    raise Unauthorized


async def respond(send: Send, status: int = 200, body: bytes = b"ok") -> None:
    """Send a whole answer."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(_scope: Any, receive: Receive, send: Send) -> None:
    """Read the body and answer; stop if the client leaves."""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        if not event["more_body"]:
            break
    await respond(send)
