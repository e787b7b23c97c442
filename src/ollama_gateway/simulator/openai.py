"""`/v1/chat/completions` and `/v1/completions`: server-sent events, or one object.

Written over the same runner as the native routes. Usage is in a stream only where it was asked
for; a failure in the middle loses its text, as it does in Ollama: one odd chunk, then the end
without `[DONE]`.
"""

from __future__ import annotations

import random
import time
from typing import Any

import attrs

from ollama_gateway.simulator import ask, prompts
from ollama_gateway.simulator.dialect import OPENAI, SSE, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Done, Generation, stream
from ollama_gateway.simulator.gojson import Shape, dumps
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model

IDS = 999
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max")
CHAT = Shape(
    "openai",
    "ChatCompletionRequest",
    {
        "model": "string",
        "messages": "[]openai.Message",
        "stream": "bool",
        "stream_options": "openai.StreamOptions",
        "max_tokens": "int",
        "temperature": "float64",
        "top_p": "float64",
        "tools": "[]api.Tool",
        "reasoning_effort": "string",
        "logprobs": "bool",
        "top_logprobs": "int",
    },
)
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
        "temperature": "float64",
        "top_p": "float64",
    },
)
DONE = b"data: [DONE]\n\n"


def _event(value: object) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def _usage(done: Done | None) -> dict[str, int]:
    prompt, said = (done.prompt_tokens, done.tokens) if done else (0, 0)
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


@attrs.define
class _Chat:
    """Writes the chunks of one chat; the first one carries the role."""

    model: str
    has_usage: bool
    id: str = attrs.field(factory=lambda: f"chatcmpl-{random.randrange(IDS)}")
    created: int = attrs.field(factory=lambda: int(time.time()))
    _has_role: bool = False

    def token(self, text: str) -> bytes:
        """Write a token."""
        role = {} if self._has_role else {"role": "assistant"}
        self._has_role = True
        return self._chunk([self._choice(role | {"content": text}, None)])

    def done(self, done: Done) -> list[bytes]:
        """Write the finish chunk, the usage where it was asked for, and the marker."""
        records = [self._chunk([self._choice({}, done.reason)])]
        if self.has_usage:
            records.append(self._chunk([], usage=_usage(done)))
        return [*records, DONE]

    def failed(self, _message: str) -> bytes:
        """Write what Ollama makes of a failure in the middle."""
        return self._chunk([self._choice({"content": ""}, None)], model="")

    def whole(self, text: str, done: Done | None) -> dict[str, object]:
        """Give the answer in one piece."""
        message = {"role": "assistant", "content": text}
        reason = done.reason if done else None
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return self._head("chat.completion") | {"choices": [choice], "usage": _usage(done)}

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_ollama",
        }

    def _chunk(self, choices: list[object], **more: object) -> bytes:
        """Write a chunk; `more` replaces what is there and adds the rest at the end."""
        return _event(self._head("chat.completion.chunk") | {"choices": choices} | more)

    @staticmethod
    def _choice(delta: dict[str, str], reason: str | None) -> dict[str, object]:
        return {"index": 0, "delta": delta, "finish_reason": reason}


@attrs.frozen
class _Completion:
    """Writes the chunks of one completion; asked for usage, each chunk has one of zeros."""

    model: str
    has_usage: bool
    id: str = attrs.field(factory=lambda: f"cmpl-{random.randrange(IDS)}")
    created: int = attrs.field(factory=lambda: int(time.time()))

    def token(self, text: str) -> bytes:
        """Write a token."""
        return self._chunk([self._choice(text, None)], None)

    def done(self, done: Done) -> list[bytes]:
        """Write the last text chunk, the usage where it was asked for, and the marker."""
        records = [self._chunk([self._choice("", done.reason)], None)]
        if self.has_usage:
            records.append(self._chunk([], done))
        return [*records, DONE]

    def failed(self, _message: str) -> bytes:
        """Write what Ollama makes of a failure in the middle."""
        return attrs.evolve(self, model="").token("")

    def loaded(self) -> bytes:
        """Write the whole stream that answers an empty prompt."""
        return self._chunk([self._choice("", "load")], None) + DONE

    def whole(self, text: str, done: Done | None, reason: str | None = None) -> dict[str, object]:
        """Give the answer in one piece."""
        choice = self._choice(text, done.reason if done else reason)
        head = {"id": self.id, "object": "text_completion", "created": self.created}
        return head | self._names() | {"choices": [choice], "usage": _usage(done)}

    def _names(self) -> dict[str, object]:
        return {"model": self.model, "system_fingerprint": "fp_ollama"}

    def _chunk(self, choices: list[object], done: Done | None) -> bytes:
        head = {"id": self.id, "object": "text_completion", "created": self.created}
        usage = {"usage": _usage(done)} if self.has_usage else {}
        return _event(head | {"choices": choices} | self._names() | usage)

    @staticmethod
    def _choice(text: str, reason: str | None) -> dict[str, object]:
        return {"text": text, "index": 0, "finish_reason": reason}


async def chat(library: Library, exchange: Exchange) -> None:
    """POST /v1/chat/completions."""
    fields = ask.openai_fields(exchange.seen.body, CHAT)
    if not fields.get("messages"):
        raise Refusal(400, "[] is too short - 'messages'", is_early=True)
    _check_messages(fields["messages"])
    fields["think"] = _effort(fields) not in (None, "none")
    text = fields.get("model", "")
    if not text:
        raise Refusal(400, "model is required")
    model = ask.find(library, text, f"model '{text}' not found")
    ask.check_abilities(model, text, fields, "chat")
    rendering = _Chat(text, _wants_usage(fields))
    prompt = prompts.of_fields(model, fields, "messages", "tools")
    await _generate(library, exchange, model, fields, prompt, rendering)


async def completions(library: Library, exchange: Exchange) -> None:
    """POST /v1/completions."""
    fields = ask.openai_fields(exchange.seen.body, COMPLETION)
    text = fields.get("model", "")
    if not text:
        raise Refusal(404, "model '' not found")
    model = ask.find(library, text, f"model '{text}' not found")
    ask.check_abilities(model, text, fields, "generate")
    rendering = _Completion(text, _wants_usage(fields))
    if fields.get("prompt"):
        prompt = prompts.of_fields(model, fields, "prompt", "suffix")
        await _generate(library, exchange, model, fields, prompt, rendering)
        return
    async with library.use(model, None):
        pass
    if fields.get("stream", False):
        await exchange.respond(200, rendering.loaded(), SSE)
        return
    await OPENAI.answer(exchange, rendering.whole("", None, "load"))


async def _generate(
    library: Library,
    exchange: Exchange,
    model: Model,
    fields: ask.Fields,
    prompt: int,
    rendering: _Chat | _Completion,
) -> None:
    limit = ask.limit_of(fields.get("max_tokens"))
    async with library.use(model, None) as load:
        generation = Generation(library, model, exchange.script, load, prompt, limit)
        if fields.get("stream", False):
            await stream(exchange, generation, SSE, rendering)
            return
        text, done = await generation.collect()
    await OPENAI.answer(exchange, rendering.whole(text, done))


def _wants_usage(fields: ask.Fields) -> bool:
    return bool(fields.get("stream_options", {}).get("include_usage"))


def _effort(fields: ask.Fields) -> str | None:
    nested = fields.get("reasoning")
    inner = nested.get("effort") if isinstance(nested, dict) else None
    effort: Any = fields.get("reasoning_effort", inner)
    if effort is not None and effort not in EFFORTS:
        message = (
            f"invalid reasoning value: '{effort}'"
            ' (must be "high", "medium", "low", "max", or "none")'
        )
        raise Refusal(400, message, is_early=True)
    return str(effort) if effort is not None else None


def _check_messages(messages: list[Any]) -> None:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else message
        if isinstance(content, list):
            _check_parts(content)
        elif isinstance(content, bool | int | float):
            kind = "bool" if isinstance(content, bool) else "float64"
            raise Refusal(400, f"invalid message content type: {kind}", is_early=True)


def _check_parts(parts: list[Any]) -> None:
    for part in parts:
        image = part.get("image_url") if isinstance(part, dict) else None
        url = image.get("url", "") if isinstance(image, dict) else image or ""
        if str(url).startswith(("http://", "https://")):
            raise Refusal(
                400,
                "image URLs are not currently supported, please use base64 encoded data instead",
                is_early=True,
            )
