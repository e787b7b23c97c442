"""Requests that do nothing but unload a model.

Ollama unloads it on one machine; the gateway stands for many. A key that may unload does so
wherever the model is loaded, at the same time: a machine that hangs, for which people unload
models, holds up no other. A key that may not is answered as if it had, since its client can do
nothing about it. So the gateway writes the answer itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import anyio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.errors import GatewayError, UpstreamTimeout
from ollama_gateway.flow.admission import ModelCall
from ollama_gateway.flow.race import Race
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.names import ModelName

UNLOAD_SECONDS: Final = 10.0
"""Seconds that a machine has for it: Ollama only notes it, and answers at once."""
JSON: Final[Headers] = [(b"content-type", b"application/json; charset=utf-8")]


def loaded_at(model: ModelName, backends: Backends) -> list[Backend]:
    """Return the backends that have the model loaded and can be asked."""
    able = (b for b in backends.all if b.is_up and not b.is_paused and b.hosts(model))
    return [backend for backend in able if backend.has_warm(model)]


async def unload_at_once(races: Sequence[Race]) -> None:
    """Run these races at the same time, to their ends; raises the first error of any."""
    errors: list[GatewayError] = []

    async def unload(race: Race) -> None:
        try:
            with anyio.fail_after(UNLOAD_SECONDS):
                async with race as winner:
                    winner.backend.load_changed.set()
        except TimeoutError:
            errors.append(UpstreamTimeout())
        except GatewayError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for race in races:
            tasks.start_soon(unload, race)
    if errors:
        raise errors[0]


def unloaded_answer(call: ModelCall) -> bytes:
    """Return Ollama's answer to such a request (server/routes.go)."""
    answer: dict[str, object] = {"model": call.requested_name}
    if call.endpoint.inputs is None:
        answer["created_at"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    answer |= call.endpoint.wordless
    if call.endpoint.inputs is None:
        answer |= {"done": True, "done_reason": "unload"}
    return json.dumps(answer, separators=(",", ":")).encode()
