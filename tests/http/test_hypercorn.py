"""The private names of hypercorn that we rely on: a change breaks these tests first.

`docs/decisions/0005-accept-loop.md` says what we use each for.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import EventWrapper, WorkerContext

from tests.http.serving import Peer
from tests.support.patience import until

SIGNATURES: dict[Any, list[str]] = {
    TCPServer.__init__: ["self", "app", "config", "context", "state", "stream"],
    TCPServer.run: ["self"],
    TCPServer.protocol_send: ["self", "event"],
    H11Protocol.__init__: [
        "self",
        "app",
        "config",
        "context",
        "task_group",
        "connection_state",
        "ssl",
        "client",
        "server",
        "send",
    ],
    H11Protocol.handle: ["self", "event"],
    H11Protocol._handle_events: ["self"],
    H11Protocol._create_stream: ["self", "request"],
    H11Protocol._maybe_recycle: ["self"],
    H11Protocol._close_stream: ["self"],
    H11Protocol._send_h11_event: ["self", "event"],
    H11Protocol.stream_send: ["self", "event"],
    HTTPStream.__init__: [
        "self",
        "app",
        "config",
        "context",
        "task_group",
        "ssl",
        "client",
        "server",
        "send",
        "stream_id",
    ],
    HTTPStream.handle: ["self", "event"],
    HTTPStream.app_send: ["self", "message"],
    TaskGroup.__init__: ["self"],
    TaskGroup.spawn_app: ["self", "app", "config", "scope", "send"],
    TaskGroup.spawn: ["self", "func", "args"],
    WorkerContext.__init__: ["self", "max_requests"],
    EventWrapper.set: ["self"],
    EventWrapper.is_set: ["self"],
    Config.response_headers: ["self", "protocol"],
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_the_functions_take_what_we_give(function: Any) -> None:
    """Each function of hypercorn that we call or replace has the parameters that we rely on."""
    assert list(inspect.signature(function).parameters) == SIGNATURES[function]


@pytest.mark.parametrize(
    "function",
    [
        H11Protocol.handle,
        H11Protocol._handle_events,
        H11Protocol._create_stream,
        H11Protocol._maybe_recycle,
        H11Protocol._send_h11_event,
        H11Protocol.stream_send,
        TCPServer.run,
        TCPServer.protocol_send,
        TaskGroup.spawn_app,
    ],
    ids=lambda function: function.__qualname__,
)
def test_what_we_await_may_be_awaited(function: Any) -> None:
    """Each function that we await or replace by a coroutine function is one in hypercorn."""
    assert inspect.iscoroutinefunction(function)


async def test_a_connection_has_what_we_read_and_set(peer: Peer) -> None:
    """The attributes that we use on hypercorn's objects are set by its own constructors."""
    async with await peer.connect():
        await until(lambda: bool(peer.listener.connections))
        (connection,) = peer.listener.connections
        assert {"app", "config", "context", "send_lock", "stream"} <= _set_in(TCPServer)
        assert _set_in(H11Protocol) >= {
            "app",
            "client",
            "config",
            "connection",
            "connection_state",
            "context",
            "keep_alive_requests",
            "send",
            "server",
            "ssl",
            "stream",
            "task_group",
        }
        assert {"_nursery"} <= _set_in(TaskGroup)
        assert {"closed", "state"} <= _set_in(HTTPStream)
        assert isinstance(connection.send_lock, trio.Lock)
        assert connection.context.terminated.is_set() is False


def _set_in(cls: type[Any]) -> set[str]:
    """Return the names of the attributes that a class's constructor sets."""
    return set(cls.__init__.__code__.co_names)


def test_the_settings_exist() -> None:
    """hypercorn's configuration has the names that we set: a misspelled name would do nothing."""
    config = Config()
    for name in (
        "h11_max_incomplete_size",
        "keep_alive_max_requests",
        "errorlog",
        "accesslog",
    ):
        assert hasattr(config, name)


def test_the_version_is_the_one_that_was_read() -> None:
    """The pinned version is installed: these names are private, so another must be read first."""
    assert version("hypercorn") == "0.18.0"
