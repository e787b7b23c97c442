"""`/v1/messages`: Anthropic's events, or one object.

The first event holds an estimate of the prompt, a quarter of its characters, since the real count
is known only at the end. A failure in the middle is silent, as in Ollama: no `error` event and no
`message_stop`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import attrs

from ollama_gateway.simulator import ask, blocks, prompts
from ollama_gateway.simulator.answers import Piece, ToolCall, joined, said
from ollama_gateway.simulator.dialect import ANTHROPIC, SSE, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Done, Job, run
from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model

SHAPE = Shape(
    "anthropic",
    "MessagesRequest",
    {
        "model": "string",
        "max_tokens": "int",
        "messages": "[]anthropic.MessageParam",
        "stream": "bool",
        "temperature": "float64",
        "top_p": "float64",
        "top_k": "int",
        "stop_sequences": "[]string",
        "tools": "[]anthropic.Tool",
        "tool_choice": "anthropic.ToolChoice",
        "thinking": "anthropic.ThinkingConfig",
        "metadata": "anthropic.Metadata",
        "output_config": "anthropic.OutputConfig",
    },
)
PER_TOKEN = 4
"""Bytes, of the estimate."""
STOPS = {"stop": "end_turn", "length": "max_tokens"}
OTHER_STOP = "stop_sequence"


def _event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: ".encode() + dumps({"type": kind} | fields) + b"\n\n"


@attrs.define
class _Message:
    """Writes the events of one message: one block after the other, each with its index.

    Args:
        estimate: the estimated tokens of the prompt.

    """

    model: str
    estimate: int
    id: str = attrs.field(factory=lambda: f"msg_{secrets.token_hex(12)}")
    _has_begun: bool = False
    _index: int = 0
    _open: str | None = None
    _has_called: bool = False

    def piece(self, piece: Piece) -> list[bytes]:
        """Write the events for a token."""
        records = self._begin()
        if piece.thinking:
            records += self._within("thinking", piece.thinking)
        if piece.text:
            records += self._within("text", piece.text)
        for call in piece.calls:
            records += self._close() + self._called(call)
        return records

    def done(self, done: Done) -> list[bytes]:
        """Write the end, which has the real counts."""
        delta = {"stop_reason": _stop(done, has_called=self._has_called)}
        end = _event("message_delta", delta=delta, usage=_usage(done))
        return [*self._begin(), *self._close(), end, _event("message_stop")]

    def failed(self, message: str) -> list[bytes]:  # noqa: ARG002 - Ollama loses it
        """Write nothing, as Ollama does."""
        return []

    def whole(self, pieces: list[Piece], done: Done | None) -> dict[str, object]:
        """Return the whole answer as one object."""
        answer = joined(pieces)
        stop = {"stop_reason": _stop(done, has_called=bool(answer.calls))} if done else {}
        return self._head(_content(answer)) | stop | {"usage": _usage(done)}

    def loaded(self) -> list[bytes]:
        """Write the whole stream that answers an empty conversation."""
        delta = {"stop_reason": OTHER_STOP}
        return [
            *self._begin(),
            _event("message_delta", delta=delta, usage=_usage(None)),
            _event("message_stop"),
        ]

    def empty(self) -> dict[str, object]:
        """Return the answer to an empty conversation."""
        return self._head(None) | {"stop_reason": OTHER_STOP, "usage": _usage(None)}

    def _head(self, content: object) -> dict[str, object]:
        head = {"id": self.id, "type": "message", "role": "assistant", "model": self.model}
        return head | {"content": content}

    def _begin(self) -> list[bytes]:
        if self._has_begun:
            return []
        self._has_begun = True
        usage = {"usage": {"input_tokens": self.estimate, "output_tokens": 0}}
        return [_event("message_start", message=self._head([]) | usage)]

    def _within(self, kind: str, text: str) -> list[bytes]:
        """Write a delta into the block of that kind, and open the block if it is not open."""
        records = []
        if self._open != kind:
            records = [*self._close(), self._start({"type": kind, kind: ""})]
            self._open = kind
        return [*records, self._delta({"type": f"{kind}_delta", kind: text})]

    def _called(self, call: ToolCall) -> list[bytes]:
        self._has_called = True
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        records = [self._start(block), self._delta(delta)]
        self._open = "tool_use"
        return records + self._close()

    def _start(self, block: Mapping[str, object]) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: Mapping[str, object]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        self._index += 1
        return [_event("content_block_stop", index=self._index - 1)]


def _usage(done: Done | None) -> dict[str, int]:
    """Count tokens as Anthropic does: cached tokens beside the others."""
    prompt, said = (done.prompt_tokens, done.tokens) if done else (0, 0)
    if done is None or done.cached is None:
        return {"input_tokens": prompt, "output_tokens": said}
    cached = {"cache_read_input_tokens": done.cached}
    return {"input_tokens": prompt - done.cached, "output_tokens": said} | cached


def _stop(done: Done, *, has_called: bool) -> str:
    return "tool_use" if has_called else STOPS[done.reason]


def _content(answer: Piece) -> list[dict[str, object]] | None:
    """Return the blocks; null if there are none, as in Go."""
    blocks: list[dict[str, object]] = []
    if answer.thinking:
        blocks.append({"type": "thinking", "thinking": answer.thinking})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    for call in answer.calls:
        arguments = call.call.arguments
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
    return blocks or None


async def messages(library: Library, exchange: Exchange) -> None:
    """POST /v1/messages."""
    fields = ask.openai_fields(exchange.seen.body, SHAPE)
    _check(fields)
    fields["think"] = _think(fields)
    text = fields["model"]
    model = ask.runnable(library, text, f"model '{text}' not found")
    if "thinking" not in model.capabilities:
        fields["think"] = False  # only this dialect accepts it
    ask.check_abilities(model, text, fields, "chat")
    rendering = _Message(text, estimate(fields))
    is_streamed = fields.get("stream", False)
    if not blocks.says_anything(fields):
        await _load(library, exchange, model, rendering, is_streamed=is_streamed)
        return
    prompt = prompts.of_fields(model, fields, "system", "messages", "tools")
    job = Job(model, said(model, fields), prompt, fields["max_tokens"], is_streamed)
    await run(library, exchange, ANTHROPIC, job, rendering)


async def _load(
    library: Library, exchange: Exchange, model: Model, rendering: _Message, *, is_streamed: bool
) -> None:
    """Answer an empty conversation: the model is loaded, nothing else happens."""
    async with library.use(model, None):
        pass
    if not is_streamed:
        await ANTHROPIC.answer(exchange, rendering.empty())
        return
    exchange.extra += ANTHROPIC.stream_headers
    await exchange.respond(200, b"".join(rendering.loaded()), SSE)


def _check(fields: ask.Fields) -> None:
    """Refuse a message without a required field, or with a block that cannot be converted."""
    for is_there, message in (
        (fields.get("model"), "model is required"),
        (fields.get("max_tokens", 0) > 0, "max_tokens is required and must be positive"),
        (fields.get("messages"), "messages is required"),
    ):
        if not is_there:
            raise Refusal(400, message, is_early=True)
    for message in fields["messages"]:
        for block in message["content"]:
            fault = blocks.fault(block)
            if fault:
                raise Refusal(400, fault, is_early=True)


def _think(fields: ask.Fields) -> bool | None:
    """Read whether the model may think; None leaves it to the model."""
    wanted = {"enabled": True, "disabled": False}
    return wanted.get(fields.get("thinking", {}).get("type", ""))


def estimate(fields: dict[str, Any]) -> int:
    """Estimate the tokens of a prompt as Ollama does: a quarter of its bytes, at least 1."""
    size = sum(map(blocks.size, blocks.of(fields.get("system"))))
    for message in fields["messages"]:
        size += blocks.length(message.get("role")) + sum(
            map(blocks.size, blocks.of(message.get("content")))
        )
    for tool in fields.get("tools", []):
        size += blocks.length(tool.get("name")) + blocks.length(tool.get("description"))
        size += len(dumps(tool["input_schema"])) if "input_schema" in tool else 0
    return max(size // PER_TOKEN, 1)
