"""`/api/chat` and `/api/generate`: NDJSON, or one object.

The two differ in one key (`message` or `response`) and in `context`, which only a generation that
is not raw has. An empty prompt loads the model, with `keep_alive` 0 unloads it, and is answered in
one piece even where a stream was asked for.
"""

from __future__ import annotations

import attrs

from ollama_gateway.simulator import ask, clock, prompts
from ollama_gateway.simulator.dialect import NATIVE, NDJSON, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Done, Generation, stream
from ollama_gateway.simulator.gojson import Shape, dumps
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model

CHAT = Shape(
    "api",
    "ChatRequest",
    {
        "model": "string",
        "messages": "[]api.Message",
        "stream": "bool",
        "tools": "[]api.Tool",
        "options": "map[string]interface {}",
        "truncate": "bool",
        "shift": "bool",
        "logprobs": "bool",
        "top_logprobs": "int",
    },
)
GENERATE = Shape(
    "api",
    "GenerateRequest",
    {
        "model": "string",
        "prompt": "string",
        "suffix": "string",
        "system": "string",
        "template": "string",
        "context": "[]int",
        "stream": "bool",
        "raw": "bool",
        "images": "[]api.ImageData",
        "options": "map[string]interface {}",
        "truncate": "bool",
        "shift": "bool",
        "logprobs": "bool",
        "top_logprobs": "int",
    },
)


@attrs.frozen
class _Rendering:
    """Writes the records of one answer; `model` is echoed as it was sent."""

    model: str
    is_chat: bool
    has_context: bool

    def record(self, text: str, done: Done | None) -> dict[str, object]:
        """Give one record, the last one where the figures are there."""
        record: dict[str, object] = {"model": self.model, "created_at": clock.now()}
        record |= self._said(text)
        record["done"] = done is not None
        if done is None:
            return record
        record["done_reason"] = done.reason
        if self.has_context:
            record["context"] = list(range(done.prompt_tokens + done.tokens))
        return record | done.figures()

    def empty(self, reason: str) -> dict[str, object]:
        """Give the answer to a request that only loads or unloads."""
        record: dict[str, object] = {"model": self.model, "created_at": clock.now()}
        return record | self._said("") | {"done": True, "done_reason": reason}

    def _said(self, text: str) -> dict[str, object]:
        if self.is_chat:
            return {"message": {"role": "assistant", "content": text}}
        return {"response": text}

    def token(self, text: str) -> bytes:
        """Write a token."""
        return dumps(self.record(text, None)) + b"\n"

    def done(self, done: Done) -> list[bytes]:
        """Write the end."""
        return [dumps(self.record("", done)) + b"\n"]

    def failed(self, message: str) -> bytes:
        """Write a failure in the middle."""
        return dumps({"error": message}) + b"\n"


async def chat(library: Library, exchange: Exchange) -> None:
    """POST /api/chat."""
    fields = ask.native_fields(exchange.seen.body, CHAT)
    ask.check_logprobs(fields)
    text = fields.get("model", "")
    if not text:
        raise Refusal(400, "model is required")
    model = ask.find(library, text, f"model '{text}' not found")
    rendering = _Rendering(text, is_chat=True, has_context=False)
    if not fields.get("messages"):
        await _reside(library, exchange, model, fields, rendering)
        return
    ask.check_abilities(model, text, fields, "chat")
    prompt = prompts.of_fields(model, fields, "messages", "tools")
    await _generate(library, exchange, model, fields, prompt, rendering)


async def generate(library: Library, exchange: Exchange) -> None:
    """POST /api/generate."""
    fields = ask.native_fields(exchange.seen.body, GENERATE)
    ask.check_logprobs(fields)
    text = fields.get("model", "")
    if not text:
        raise Refusal(404, "model '' not found")
    model = ask.find(library, text, f"model '{text}' not found")
    is_raw = fields.get("raw", False)
    if is_raw and (fields.get("template") or fields.get("system") or fields.get("context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    rendering = _Rendering(text, is_chat=False, has_context=not is_raw)
    is_empty = not fields.get("prompt")
    if is_empty and ask.keep_alive(fields) == 0:
        await _reside(library, exchange, model, fields, rendering)
        return
    ask.check_abilities(model, text, fields, "generate")
    if is_empty:
        await _reside(library, exchange, model, fields, rendering)
        return
    parts = ("system", "prompt", "suffix", "images", "context")
    prompt = prompts.of_fields(model, fields, *parts)
    await _generate(library, exchange, model, fields, prompt, rendering)


async def _reside(
    library: Library, exchange: Exchange, model: Model, fields: ask.Fields, rendering: _Rendering
) -> None:
    """Load or unload, which is all that is asked."""
    keep = ask.keep_alive(fields)
    if keep == 0:
        library.unload(model.name)
        await NATIVE.answer(exchange, rendering.empty("unload"))
        return
    ask.check_options(fields)
    async with library.use(model, keep):
        pass
    await NATIVE.answer(exchange, rendering.empty("load"))


async def _generate(
    library: Library,
    exchange: Exchange,
    model: Model,
    fields: ask.Fields,
    prompt: int,
    rendering: _Rendering,
) -> None:
    ask.check_options(fields)
    limit = ask.limit_of(fields.get("options", {}).get("num_predict"))
    async with library.use(model, ask.keep_alive(fields)) as load:
        generation = Generation(library, model, exchange.script, load, prompt, limit)
        if fields.get("stream", True):
            await stream(exchange, generation, NDJSON, rendering)
            return
        text, done = await generation.collect()
    await NATIVE.answer(exchange, rendering.record(text, done))
