"""Requests for the tests of the transport, and ordinary parts of answers."""

from __future__ import annotations

from typing import Final

import attrs
import httpx
import trio

from ollama_gateway.backends.transport import Transport

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024
UNUSED: Final = Transport(trio.sleep_forever)
"""For backends that get no requests."""


def post(content: bytes = b'{"model":"m"}') -> httpx.Request:
    """Make a request as the flow does."""
    return httpx.Request("POST", "http://gpu-1:11434/api/chat", content=content)


async def fetch(transport: Transport, request: httpx.Request) -> tuple[int, list[bytes]]:
    """Return the status, and the chunks of the body as the transport returned them."""
    response = await transport.handle_async_request(request)
    return response.status_code, [chunk async for chunk in response.aiter_raw()]


def chunk(data: bytes) -> bytes:
    """Frame data as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@attrs.define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope after a number of task steps, of any tasks."""

    scope: trio.CancelScope
    steps_left: int

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's signature
        """Count one step: the work of a task between two checkpoints."""
        self.steps_left -= 1
        if self.steps_left == 0:
            self.scope.cancel()


async def is_cancelled_at(step: int, transport: Transport, request: httpx.Request) -> bool:
    """Fetch and cancel at that step; return False if the request ended first."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await fetch(transport, request)
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancel_called
