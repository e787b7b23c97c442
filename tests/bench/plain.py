"""The baseline: a plain streaming proxy on stock hypercorn and httpx.

`python -m tests.bench.plain PORT UPSTREAM_PORT`. No keys, limits, audit, failover or containment.
Both libraries have their defaults, except for limits that would slow this proxy down: httpx's cap
of 100 connections and its timeouts are off, and the backlog of 100, which loses connections of a
burst for a second, is as long as the gateway's.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

HOPS: Final = {b"host", b"connection", b"transfer-encoding"}
LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)
NO_TIMEOUT: Final = httpx.Timeout(None)
BACKLOG: Final = 4096


class Plain:
    """The ASGI application."""

    def __init__(self, upstream: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=upstream, trust_env=False, timeout=NO_TIMEOUT, limits=LIMITS
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError
        async with self._client.stream(
            scope["method"],
            scope["path"],
            content=await _body(receive),
            headers=[(n, v) for n, v in scope["headers"] if n not in {*HOPS, b"content-length"}],
        ) as response:
            headers = [pair for pair in response.headers.raw if pair[0].lower() not in HOPS]
            start = {"status": response.status_code, "headers": headers}
            await send({"type": "http.response.start", **start})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _body(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def main(port: int, upstream: int) -> None:
    """Serve for ever."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.backlog = BACKLOG
    trio.run(serve, Plain(f"http://127.0.0.1:{upstream}"), config)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
