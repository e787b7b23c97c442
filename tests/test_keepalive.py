"""Options against vanished peers, read back from the kernel on both sides.

Their effect is shown where packets can be lost (tests/campaign/test_vanished.py).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import trio
from anyio.abc import SocketAttribute

from ollama_gateway import keepalive
from ollama_gateway.backends.connecting import tcp
from ollama_gateway.backends.shared import SharedCatalog
from ollama_gateway.http.connection import ConnectionLimits
from ollama_gateway.http.listener import Listener, bind
from ollama_gateway.limits.redis.scripts import RedisScripts
from tests.backends.misbehaving import answers_and_stays, listening
from tests.http.serving import gateway, render_early_error
from tests.support.certificates import HOST
from tests.support.redis_server import redis_server

WANTED = {"on": 1, "idle": 15, "interval": 5, "count": 3, "unacknowledged": 30_000}
"""Seconds, except the last, which is the write timeout in milliseconds."""


def told(sock: socket.socket | trio.socket.SocketType) -> dict[str, int]:
    """Return the kernel's options of a connection."""
    return {
        "on": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "idle": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        "interval": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        "count": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        "unacknowledged": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    }


@pytest.fixture(params=["bound", "handed over"])
def sockets(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    """Listening sockets that the gateway opened, or that systemd passed on."""
    made = bind(HOST, 0)
    if request.param == "handed over":
        made[0].listen()
    yield made
    made[0].close()


async def test_of_clients(sockets: list[socket.socket]) -> None:
    """Each accepted socket has from its listening one what no call was made for."""
    listener = Listener(gateway(), render_early_error, 10)
    port = sockets[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, sockets)
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_tcp_stream(HOST, port) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            assert await client.receive_some()
            (connection,) = listener.connections
            assert told(connection.stream.socket) == WANTED
        nursery.cancel_scope.cancel()
    assert ConnectionLimits().write_timeout * 1000 == WANTED["unacknowledged"]


@pytest.mark.parametrize("host", [HOST, "localhost"])
async def test_of_backends(host: str) -> None:
    """Connections to backends have the options, by address and by name."""
    async with listening(answers_and_stays()) as port:
        stream = await tcp(host, port, connect_timeout=60)()
        assert told(stream.extra(SocketAttribute.raw_socket)) == WANTED  # noqa: S610 - no Django
        await stream.aclose()


def test_of_redis() -> None:
    """Both users of Redis set them, so a firewall that drops a connection is noticed between
    requests.
    """
    with redis_server() as url:
        scripts, catalog = RedisScripts(url, timeout=60), SharedCatalog(url)
        for each in (scripts._redis, catalog._redis):
            client = each.client
            connection: Any = client.connection_pool.get_connection()
            assert told(connection._sock) == WANTED
            connection.disconnect()
            client.close()


def test_redis_on_a_unix_socket_is_spared() -> None:
    """On a Unix socket no peer can vanish, and the library has no such options."""
    made = redis.Redis.from_url("unix:///nowhere", **keepalive.of_redis("unix:///nowhere"))
    assert made.connection_pool.make_connection() is not None
    made.close()
