"""Objects that serve a request are freed at its end, without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypercorn.protocol.http_stream import HTTPStream

from ollama_gateway.http.connection import ClientConnection
from ollama_gateway.http.protocol import Protocol
from ollama_gateway.http.request_stream import RequestStream
from ollama_gateway.http.response_writer import ResponseWriter
from ollama_gateway.server.downstream import ASGIDownstream
from tests.http.serving import PLAIN_REQUEST, gateway, read_to_end, serving

OURS = (ClientConnection, Protocol, HTTPStream, RequestStream, ResponseWriter, ASGIDownstream)
KEPT_ALIVE = PLAIN_REQUEST.replace(b"connection: close\r\n", b"")


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Collect the objects that only the garbage collector can free, when the test calls it."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def test_a_request_and_its_connection_form_no_cycles(garbage: list[object]) -> None:
    """Ten requests on one connection, and ten on ten connections, form no reference cycles."""
    async with serving(gateway()) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(KEPT_ALIVE * 9 + PLAIN_REQUEST)
            assert (await read_to_end(stream)).count(b"HTTP/1.1 200 ") == 10
        for _ in range(10):
            assert await peer.is_serving()
        await peer.wait_until_quiet()
    gc.collect()
    assert [type(found) for found in garbage if isinstance(found, OURS)] == []
