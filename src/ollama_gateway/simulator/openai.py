"""`/v1/chat/completions`: server-sent events, or one object.

It uses the same runner as the native routes. A stream has usage only on request; a failure in the
middle loses its text, as in Ollama: one odd chunk, then the end without `[DONE]`.
"""

from __future__ import annotations

import random
import time

import attrs

from ollama_gateway.simulator import ask, conversation, prompts, values
from ollama_gateway.simulator.answers import Piece, joined, logprobs, said
from ollama_gateway.simulator.dialect import OPENAI, SSE, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Done, Job, run
from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model

IDS = 999
EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "ultra", "max", "none")
EFFORT_NAMES = ", ".join(f'"{name}"' for name in EFFORTS[:-1]) + ', or "none"'
CHAT = Shape(
    "openai",
    "ChatCompletionRequest",
    {
        "model": "string",
        "messages": "[]openai.Message",
        "stream": "bool",
        "stream_options": "openai.StreamOptions",
        "max_tokens": "int",
        "seed": "int",
        "temperature": "float64",
        "frequency_penalty": "float64",
        "presence_penalty": "float64",
        "top_p": "float64",
        "response_format": "openai.ResponseFormat",
        "tools": "[]api.Tool",
        "reasoning": "openai.Reasoning",
        "reasoning_effort": "string",
        "logprobs": "bool",
        "top_logprobs": "int",
        "_debug_render_only": "bool",
    },
)
DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """Write a server-sent event."""
    return b"data: " + dumps(value) + b"\n\n"


def usage(done: Done | None) -> dict[str, object]:
    """Count tokens as OpenAI names them; zeros if the runner sent no end."""
    prompt, said = (done.prompt_tokens, done.tokens) if done else (0, 0)
    counts = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    if done is None or done.cached is None:
        return {**counts}
    return {**counts, "prompt_tokens_details": {"cached_tokens": done.cached}}


@attrs.define
class _Chat:
    """Writes the chunks of one chat; the first one holds the role.

    Args:
        logprobs: the number of likely tokens beside each; None for no log probabilities.

    """

    model: str
    has_usage: bool
    logprobs: int | None
    id: str = attrs.field(factory=lambda: f"chatcmpl-{random.randrange(IDS)}")
    created: int = attrs.field(factory=lambda: int(time.time()))
    _has_role: bool = False
    _has_called: bool = False

    def piece(self, piece: Piece) -> list[bytes]:
        """Write the chunks for a token."""
        role = {} if self._has_role else {"role": "assistant"}
        self._has_role = True
        self._has_called |= bool(piece.calls)
        choice = {"index": 0, "delta": role | _message(piece), "finish_reason": None}
        return [self._chunk([choice | self._logprobs([piece])])]

    def done(self, done: Done) -> list[bytes]:
        """Write the finish chunk, the usage if requested, and the end marker."""
        reason = _reason(done, has_called=self._has_called)
        records = [self._chunk([{"index": 0, "delta": {}, "finish_reason": reason}])]
        if self.has_usage:
            records.append(self._chunk([], usage=usage(done)))
        return [*records, DONE]

    def failed(self, message: str) -> list[bytes]:  # noqa: ARG002 - Ollama loses it
        """Write Ollama's chunk for a failure in the middle."""
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
        return [self._chunk([choice], model="")]

    def whole(self, pieces: list[Piece], done: Done | None) -> dict[str, object]:
        """Return the whole answer as one object."""
        answer = joined(pieces)
        message = {"role": "assistant"} | _message(answer)
        reason = _reason(done, has_called=bool(answer.calls)) if done else None
        choice = {"index": 0, "message": message, "finish_reason": reason}
        choices = [choice | self._logprobs(pieces)]
        return self._head("chat.completion") | {"choices": choices, "usage": usage(done)}

    def loaded(self) -> list[bytes]:
        """Write the whole stream that answers an empty conversation."""
        end = self._chunk([{"index": 0, "delta": {}, "finish_reason": "load"}])
        used = [self._chunk([], usage=usage(None))] if self.has_usage else []
        return [*self.piece(Piece()), end, *used, DONE]

    def empty(self) -> dict[str, object]:
        """Return the answer to an empty conversation."""
        choice = {"index": 0, "message": {"role": "assistant"} | _message(Piece())}
        choices = [choice | {"finish_reason": "load"}]
        return self._head("chat.completion") | {"choices": choices, "usage": usage(None)}

    def _logprobs(self, pieces: list[Piece]) -> dict[str, object]:
        chances = [] if self.logprobs is None else logprobs(pieces, self.logprobs)
        return {"logprobs": {"content": chances}} if chances else {}

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_ollama",
        }

    def _chunk(self, choices: list[object], **more: object) -> bytes:
        """Write a chunk; `more` replaces fields that exist and adds the rest at the end."""
        return event(self._head("chat.completion.chunk") | {"choices": choices} | more)


def _message(answer: Piece) -> dict[str, object]:
    message: dict[str, object] = {"content": answer.text}
    if answer.thinking:
        message["reasoning"] = answer.thinking
    if answer.calls:
        message["tool_calls"] = [call.openai() for call in answer.calls]
    return message


def _reason(done: Done, *, has_called: bool) -> str:
    return "tool_calls" if has_called and done.reason == "stop" else done.reason


async def chat(library: Library, exchange: Exchange) -> None:
    """POST /v1/chat/completions."""
    fields = ask.openai_fields(exchange.seen.body, CHAT)
    if not fields.get("messages"):
        raise Refusal(400, "[] is too short - 'messages'", is_early=True)
    conversation.check(fields["messages"])
    inner = fields["reasoning"].get("effort", "") if "reasoning" in fields else None
    fields["think"] = think(inner if inner is not None else fields.get("reasoning_effort"))
    values.check_logprobs(fields)
    text = fields.get("model", "")
    if not text:
        raise Refusal(400, "model is required")
    model = ask.runnable(library, text, f"model '{text}' not found")
    ask.check_abilities(model, text, fields, "chat")
    top = fields.get("top_logprobs", 0) if fields.get("logprobs") else None
    rendering = _Chat(text, wants_usage(fields), top)
    if all(message.get("content") == [] for message in fields["messages"]):
        await _load(library, exchange, model, rendering, is_streamed=fields.get("stream", False))
        return
    prompt = prompts.of_fields(model, fields, "messages", "tools")
    limit = values.limit_of(fields.get("max_tokens"))
    is_streamed = fields.get("stream", False)
    job = Job(model, said(model, fields), prompt, limit, is_streamed, fault=_fault(fields))
    await run(library, exchange, OPENAI, job, rendering)


async def _load(
    library: Library, exchange: Exchange, model: Model, rendering: _Chat, *, is_streamed: bool
) -> None:
    """Answer an empty conversation: the model is loaded, nothing else happens."""
    async with library.use(model, None):
        pass
    if is_streamed:
        await exchange.respond(200, b"".join(rendering.loaded()), SSE)
        return
    await OPENAI.answer(exchange, rendering.empty())


def _fault(fields: ask.Fields) -> Refusal | None:
    """Return the fault of the requested format, after the model is loaded."""
    form = fields.get("response_format", {})
    if form.get("type", "").strip().lower() != "json_schema":
        return None
    return values.fault_of_format(form.get("json_schema", {}).get("schema"))


def wants_usage(fields: ask.Fields) -> bool:
    """Return whether a stream is to report usage."""
    return bool(fields.get("stream_options", {}).get("include_usage"))


def think(effort: object) -> bool | None:
    """Read a reasoning effort; None leaves it to the model.

    Raises:
        Refusal: 400.

    """
    if effort is None or effort == "":
        return None
    if effort not in EFFORTS:
        message = f'invalid reasoning value: "{effort}" (must be {EFFORT_NAMES})'
        raise Refusal(400, message, is_early=True)
    return effort != "none"
