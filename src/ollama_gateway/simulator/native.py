"""`/api/chat` and `/api/generate`: NDJSON, or one object.

The two differ in one key (`message` or `response`) and in `context`, which only a generation
without `raw` has. An empty prompt loads the model, or with `keep_alive` 0 unloads it, and gets a
whole answer even if a stream was asked for.
"""

from __future__ import annotations

import attrs

from ollama_gateway.simulator import ask, clock, prompts, values
from ollama_gateway.simulator.answers import Piece, joined, logprobs, said
from ollama_gateway.simulator.dialect import NATIVE, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Done, Job, run
from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.gostructs import MAP
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.prompts import Prompt

_BOTH = {
    "stream": "bool",
    "options": MAP,
    "think": "api.ThinkValue",
    "keep_alive": "api.Duration",
    "truncate": "bool",
    "shift": "bool",
    "logprobs": "bool",
    "top_logprobs": "int",
    "_debug_render_only": "bool",
}
CHAT = Shape(
    "api",
    "ChatRequest",
    {
        "model": "string",
        "messages": "[]api.Message",
        "tools": "[]api.Tool",
    }
    | _BOTH,
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
        "raw": "bool",
        "images": "[]api.ImageData",
    }
    | _BOTH,
)


@attrs.frozen
class _Rendering:
    """Writes the records of one answer; `model` is echoed as sent.

    Args:
        logprobs: the number of likely tokens beside each; None for no log probabilities.
        is_jinja: whether tool calls come in the last record.

    """

    model: str
    is_chat: bool
    has_context: bool
    logprobs: int | None
    is_jinja: bool
    _held: list[Piece] = attrs.field(factory=list, init=False)

    def whole(self, pieces: list[Piece], done: Done | None) -> dict[str, object]:
        """Return one record; the last one if there are figures."""
        head = {"model": self.model, "created_at": clock.now()}
        chances = {} if self.logprobs is None else self._logprobs(pieces, self.logprobs)
        answer = joined(pieces)
        record = head | self._said(answer) | self._end(done)
        figures = done.figures() if done else {}
        if self.is_chat:
            return record | chances | figures
        return record | figures | _called(answer) | chances

    def empty(self, reason: str) -> dict[str, object]:
        """Return the answer to a request that only loads or unloads."""
        record: dict[str, object] = {"model": self.model, "created_at": clock.now()}
        return record | self._said(Piece()) | {"done": True, "done_reason": reason}

    def rendered(self, fields: ask.Fields) -> dict[str, object]:
        """Return the prompt in place of an answer."""
        said = {"message": {"role": "", "content": ""}} if self.is_chat else {"response": ""}
        record: dict[str, object] = {"model": self.model, "created_at": clock.now(), **said}
        prompt = prompts.rendered(fields)
        return record | {"done": False, "_debug_info": {"rendered_template": prompt}}

    def _end(self, done: Done | None) -> dict[str, object]:
        if done is None:
            return {"done": False}
        context = list(range(done.prompt_tokens + done.tokens))
        return {"done": True, "done_reason": done.reason} | (
            {"context": context} if self.has_context else {}
        )

    def _said(self, answer: Piece) -> dict[str, object]:
        thinking: dict[str, object] = {"thinking": answer.thinking} if answer.thinking else {}
        if self.is_chat:
            said = {"role": "assistant", "content": answer.text} | thinking | _called(answer)
            return {"message": said}
        return {"response": answer.text, **thinking}

    @staticmethod
    def _logprobs(pieces: list[Piece], top: int) -> dict[str, object]:
        chances = logprobs(pieces, top)
        return {"logprobs": chances} if chances else {}

    def piece(self, piece: Piece) -> list[bytes]:
        """Write the records for a token."""
        if piece.calls and self.is_jinja:
            self._held.append(piece)
            return []
        return [dumps(self.whole([piece], None)) + b"\n"]

    def done(self, done: Done) -> list[bytes]:
        """Write the end."""
        return [dumps(self.whole(self._held, done)) + b"\n"]

    def failed(self, message: str) -> list[bytes]:
        """Write a failure in the middle."""
        return [dumps({"error": message}) + b"\n"]


def _called(answer: Piece) -> dict[str, object]:
    return {"tool_calls": [call.native() for call in answer.calls]} if answer.calls else {}


def _rendering(model: Model, text: str, fields: ask.Fields, **more: bool) -> _Rendering:
    top = fields.get("top_logprobs", 0) if fields.get("logprobs") else None
    return _Rendering(text, logprobs=top, is_jinja=model.is_jinja, **more)


async def chat(library: Library, exchange: Exchange) -> None:
    """POST /api/chat."""
    fields = ask.native_fields(exchange.seen.body, CHAT)
    values.check_logprobs(fields)
    text = fields.get("model", "")
    if not text:
        raise Refusal(400, "model is required")
    model = ask.runnable(library, text, f"model '{text}' not found")
    rendering = _rendering(model, text, fields, is_chat=True, has_context=False)
    is_empty = not fields.get("messages")
    if not (is_empty and ask.keep_alive(fields) == 0):
        ask.check_abilities(model, text, fields, "chat")
    if is_empty:
        await _reside(library, exchange, model, fields, rendering)
        return
    fields.pop("template", None)  # this field is not in the request
    prompt = prompts.of_fields(model, fields, "messages", "tools")
    await _generate(library, exchange, model, fields, prompt, rendering)


async def generate(library: Library, exchange: Exchange) -> None:
    """POST /api/generate."""
    fields = ask.native_fields(exchange.seen.body, GENERATE)
    values.check_logprobs(fields)
    text = fields.get("model", "")
    if not text:
        raise Refusal(404, "model '' not found")
    model = ask.runnable(library, text, f"model '{text}' not found")
    is_raw = fields.get("raw", False)
    if is_raw and (fields.get("template") or fields.get("system") or fields.get("context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    rendering = _rendering(model, text, fields, is_chat=False, has_context=not is_raw)
    fields.pop("tools", None)  # this field is not in the request
    fields.pop("messages", None)
    is_empty = not fields.get("prompt")
    if not (is_empty and ask.keep_alive(fields) == 0):
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
    """Load or unload the model and do nothing else."""
    keep = ask.keep_alive(fields)
    if keep == 0:
        library.unload(model.name)
        await NATIVE.answer(exchange, rendering.empty("unload"))
        return
    values.check_options(fields)
    async with library.use(model, keep):
        pass
    await NATIVE.answer(exchange, rendering.empty("load"))


async def _generate(
    library: Library,
    exchange: Exchange,
    model: Model,
    fields: ask.Fields,
    prompt: Prompt,
    rendering: _Rendering,
) -> None:
    values.check_options(fields)
    if fields.get("_debug_render_only"):
        await _render(library, exchange, model, fields, rendering)
        return
    limit = values.limit_of(fields.get("options", {}).get("num_predict"))
    is_streamed = fields.get("stream", True)
    keep = ask.keep_alive(fields)
    fault = _fault(fields)
    job = Job(model, said(model, fields), prompt, limit, is_streamed, keep, fault)
    await run(library, exchange, NATIVE, job, rendering)


async def _render(
    library: Library, exchange: Exchange, model: Model, fields: ask.Fields, rendering: _Rendering
) -> None:
    """Answer with the prompt; the model is loaded for it, but not run."""
    async with library.use(model, ask.keep_alive(fields)):
        pass
    await NATIVE.answer(exchange, rendering.rendered(fields))


def _fault(fields: ask.Fields) -> Refusal | None:
    """Return the fault of a request after its model is loaded; a raw one has no template."""
    template = "" if fields.get("raw") else fields.get("template", "")
    broken = values.fault_of_template(template)
    return Refusal(500, broken) if broken else values.fault_of_format(fields.get("format"))
