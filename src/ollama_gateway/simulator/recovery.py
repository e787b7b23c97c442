"""What Ollama's server does where a handler of its own fails: it tells its log and answers 500."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

import anyio

from ollama_gateway.simulator.exchange import Cut, Exchange

Answer = Callable[[Exchange], Awaitable[None]]


def recovering(answer: Answer) -> Answer:
    """Make a handler's failure an empty 500, or a cut where the answer had begun."""

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
