"""Touches: short requests after an answer that prolong the stay of its model in memory.

On `/v1` no request can say how long its model shall stay loaded. Where the operator says it, the
backend that answered gets a request without text that has only `keep_alive`, at most once a minute
a model: Ollama remembers it for the requests that follow. It names no option, like the request
before it, so it loads nothing anew.

A touch comes behind its answer and holds up nothing. It is left out where the machine is loading
another model, since the touch would bring back the one that had to go for it.
"""

from __future__ import annotations

import json
import math
from typing import Final

import anyio
import attrs
import httpx

from ollama_gateway import clock
from ollama_gateway.backends.backend import UNLISTED, Backend
from ollama_gateway.log import get_logger
from ollama_gateway.wire.keep_alive import FIELD, keep_alive_text
from ollama_gateway.wire.names import ModelName

INTERVAL: Final = 60.0
"""Seconds at least between two touches of a model on a backend."""
TIMEOUT: Final = 5.0
"""Seconds for one touch."""

log = get_logger("touching")


@attrs.frozen
class Touch:
    """One request that prolongs a model's stay."""

    model: ModelName
    seconds: float
    embeds: bool
    """Whether the model embeds: Ollama lets such a model generate nothing, not even no text."""

    def request(self, name: str) -> tuple[str, bytes]:
        """Return path and body, with the model's name as the backend spells it."""
        text = '"input":[],' if self.embeds else ""
        body = f'{{"model":{json.dumps(name)},{text}"{FIELD}":{keep_alive_text(self.seconds)}}}'
        return ("/api/embed" if self.embeds else "/api/generate"), body.encode()


@attrs.define(eq=False)
class _Due:
    """The touches of one backend."""

    waiting: dict[str, Touch] = attrs.field(factory=dict)
    """By weights."""
    touched_at: dict[str, float] = attrs.field(factory=dict)
    changed: anyio.Event = attrs.field(factory=anyio.Event)


@attrs.define(eq=False)
class Touches:
    """Notes touches, and sends them from one task for each backend."""

    _due: dict[Backend, _Due] = attrs.field(factory=dict, init=False)

    def note(self, backend: Backend, touch: Touch) -> None:
        """Have a model touched that has just answered, unless it was less than a minute ago."""
        weights, now, due = backend.weights_of(touch.model), clock.now(), self._of(backend)
        is_elsewhere = weights == UNLISTED or backend.is_remote(touch.model)
        if is_elsewhere or now - due.touched_at.get(weights, -math.inf) < INTERVAL:
            return
        due.touched_at = {w: at for w, at in due.touched_at.items() if now - at < INTERVAL}
        due.touched_at[weights] = now
        due.waiting[weights] = touch
        due.changed.set()

    async def watch(self, backend: Backend) -> None:
        """Send the touches of one backend, until it is removed."""
        due = self._of(backend)
        try:
            while True:
                await due.changed.wait()
                due.changed = anyio.Event()
                while due.waiting:
                    weights, touch = due.waiting.popitem()
                    if not backend.is_loading_another(weights):
                        await send_touch(backend, touch)
        finally:
            del self._due[backend]

    def _of(self, backend: Backend) -> _Due:
        return self._due.setdefault(backend, _Due())


async def send_touch(backend: Backend, touch: Touch) -> None:
    """Send a touch; one that fails is logged, and the next answer brings another."""
    path, body = touch.request(backend.spelling(touch.model) or touch.model.short)
    request = backend.outgoing.request("POST", path, [(b"content-type", b"application/json")], body)
    failure = "no answer in time"
    with anyio.move_on_after(TIMEOUT):
        try:
            response = await backend.transport.handle_async_request(request)
            await response.aclose()
            failure = "" if response.is_success else f"status {response.status_code}"
        except httpx.TransportError:
            failure = "no connection"
    if failure:
        log.debug("touch failed", backend=backend.name, model=touch.model.short, reason=failure)
