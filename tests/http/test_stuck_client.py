"""A client that pipelines and never reads is cut once, without a line in the log."""

from __future__ import annotations

from typing import Any

import structlog
import trio

from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import Receive, Send, serving

PLAIN = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
LARGE = b"x" * 16 * 2**20


async def large(_scope: Any, receive: Receive, send: Send) -> None:
    """Send a chunked answer that fills every buffer, then its end."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": LARGE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def test_a_write_timeout_leaves_no_trace_in_the_log() -> None:
    """Writes after a write that timed out do nothing and raise nothing."""
    with structlog.testing.capture_logs() as lines:
        async with serving(large, ConnectionLimits(write_timeout=0.2)) as peer:
            streams = [await peer.connect() for _ in range(5)]
            for stream in streams:
                await stream.send_all(PLAIN * 3)
            await peer.wait_until_quiet()
            for stream in streams:
                await trio.aclose_forcefully(stream)

    assert [line for line in lines if line["log_level"] in {"error", "warning"}] == []
