"""Ollama's response to a failing handler: it logs the failure and answers 500."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

import anyio

from ollama_gateway.simulator.exchange import Cut, Exchange

Answer = Callable[[Exchange], Awaitable[None]]


def recovering(answer: Answer) -> Answer:
    """Turn a handler's failure into an empty 500, or into a cut if the answer had begun."""

    async def recovered(exchange: Exchange) -> None:
        try:
            await answer(exchange)
        except (Cut, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            raise
        except Exception:  # noqa: BLE001 - whatever it is, one request ends and the process lives
            traceback.print_exc()
            if exchange.has_begun:
                raise Cut from None
            await exchange.respond(500)

    return recovered
