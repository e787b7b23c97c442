"""`/v1/completions`: server-sent events, or one object; it has no field for thoughts."""

from __future__ import annotations

import random
import time

import attrs

from ollama_gateway.simulator import ask, prompts, values
from ollama_gateway.simulator.answers import Piece, joined, said
from ollama_gateway.simulator.dialect import OPENAI, SSE, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Done, Job, run
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.openai import DONE, IDS, event, usage, wants_usage

COMPLETION = Shape(
    "openai",
    "CompletionRequest",
    {
        "model": "string",
        "prompt": "string",
        "suffix": "string",
        "stream": "bool",
        "stream_options": "openai.StreamOptions",
        "max_tokens": "int",
        "seed": "int",
        "temperature": "float32",
        "frequency_penalty": "float32",
        "presence_penalty": "float32",
        "top_p": "float32",
        "logprobs": "int",
        "_debug_render_only": "bool",
    },
)


@attrs.frozen
class _Completion:
    """Writes the chunks of one completion; on request, each chunk has a usage of zeros."""

    model: str
    has_usage: bool
    id: str = attrs.field(factory=lambda: f"cmpl-{random.randrange(IDS)}")
    created: int = attrs.field(factory=lambda: int(time.time()))

    def piece(self, piece: Piece) -> list[bytes]:
        """Write the chunk for a token; a thought is an empty text."""
        return [self._chunk([self._choice(piece.text, None)], None)]

    def done(self, done: Done) -> list[bytes]:
        """Write the last text chunk, the usage if requested, and the end marker."""
        records = [self._chunk([self._choice("", done.reason)], None)]
        if self.has_usage:
            records.append(self._chunk([], done))
        return [*records, DONE]

    def failed(self, message: str) -> list[bytes]:  # noqa: ARG002 - Ollama loses it
        """Write Ollama's chunk for a failure in the middle."""
        return attrs.evolve(self, model="").piece(Piece())

    def loaded(self) -> bytes:
        """Write the whole stream that answers an empty prompt."""
        return self._chunk([self._choice("", "load")], None) + DONE

    def whole(self, pieces: list[Piece], done: Done | None) -> dict[str, object]:
        """Return the whole answer as one object."""
        return self._one(joined(pieces).text, done.reason if done else None, done)

    def empty(self) -> dict[str, object]:
        """Return the answer to an empty prompt."""
        return self._one("", "load", None)

    def _one(self, text: str, reason: str | None, done: Done | None) -> dict[str, object]:
        head = {"id": self.id, "object": "text_completion", "created": self.created}
        choices = [self._choice(text, reason)]
        return head | self._names() | {"choices": choices, "usage": usage(done)}

    def _names(self) -> dict[str, object]:
        return {"model": self.model, "system_fingerprint": "fp_ollama"}

    def _chunk(self, choices: list[object], done: Done | None) -> bytes:
        head = {"id": self.id, "object": "text_completion", "created": self.created}
        tokens = {"usage": usage(done)} if self.has_usage else {}
        return event(head | {"choices": choices} | self._names() | tokens)

    @staticmethod
    def _choice(text: str, reason: str | None) -> dict[str, object]:
        return {"text": text, "index": 0, "finish_reason": reason}


async def completions(library: Library, exchange: Exchange) -> None:
    """POST /v1/completions."""
    fields = ask.openai_fields(exchange.seen.body, COMPLETION)
    fields.pop("tools", None)  # this field is not in the request
    fields.pop("think", None)
    text = fields.get("model", "")
    if not text:
        raise Refusal(404, "model '' not found")
    model = ask.runnable(library, text, f"model '{text}' not found")
    ask.check_abilities(model, text, fields, "generate")
    rendering = _Completion(text, wants_usage(fields))
    if fields.get("prompt"):
        prompt = prompts.of_fields(model, fields, "prompt", "suffix")
        limit = values.limit_of(fields.get("max_tokens"))
        job = Job(model, said(model, {}), prompt, limit, fields.get("stream", False))
        await run(library, exchange, OPENAI, job, rendering)
        return
    async with library.use(model, None):
        pass
    if fields.get("stream", False):
        await exchange.respond(200, rendering.loaded(), SSE)
        return
    await OPENAI.answer(exchange, rendering.empty())
