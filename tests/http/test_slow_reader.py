"""A client that reads slowly is served to the end."""

from __future__ import annotations

from typing import Any

import trio

from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import Receive, Send, respond, serving

ANSWER = b"x" * 4 * 2**20


async def large(_scope: Any, _receive: Receive, send: Send) -> None:
    """Send an answer that is larger than the socket's buffers."""
    await respond(send, body=ANSWER)


async def test_a_client_that_reads_steadily_gets_all_of_it() -> None:
    """The write timeout counts for each write: the whole answer may take many times as long."""
    async with serving(large, ConnectionLimits(write_timeout=0.3)) as peer:
        stream = await peer.connect()
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            received = 0
            while received < len(ANSWER):
                data = await stream.receive_some(65536)
                assert data, f"cut after {received} bytes"
                received += len(data)
                await trio.sleep(0.01)
