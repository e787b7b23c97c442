"""The faults of a script before a handler is reached."""

from __future__ import annotations

import anyio

from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import RunnerFailed
from ollama_gateway.simulator.runners import BUSY


async def befall(exchange: Exchange) -> None:
    """Apply the script's faults before a handler is reached.

    Raises:
        Refusal: the script sets a status.
        Cut: the script closes the connection.

    """
    script = exchange.script
    await anyio.sleep(script.before)
    if script.raw is not None:
        await exchange.raw(script.raw, script.drip)
    await exchange.fault()
    if script.is_busy:
        raise Refusal(503, BUSY)
    if script.status is not None and script.error_after is None:
        raise RunnerFailed(script.status, script.error or "scripted failure")
