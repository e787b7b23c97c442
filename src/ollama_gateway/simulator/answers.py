"""What a model says to a request: thoughts first where it thinks, then a call of a tool or words.

A model with the capability `thinking` thinks unless it is told not to. It calls the tools that it
is scripted to call (`Model.calls`) where the request offers them; to a conversation that ends with
a tool's result it answers in words, so that an agent's loop ends.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.model import Call, Model

_LETTERS = string.ascii_lowercase + string.digits


@attrs.frozen
class ToolCall:
    """A call that was made; `index` is its place among those of one answer."""

    call: Call
    index: int
    id: str = attrs.field(factory=lambda: "call_" + "".join(random.choices(_LETTERS, k=8)))

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.call.name

    @property
    def arguments(self) -> str:
        """The arguments as JSON text."""
        return dumps(self.call.arguments).decode()

    def native(self) -> dict[str, object]:
        """Give it as `/api/chat` does: the arguments are an object."""
        function = {"index": self.index, "name": self.name, "arguments": self.call.arguments}
        return {"id": self.id, "function": function}

    def openai(self) -> dict[str, object]:
        """Give it as `/v1/chat/completions` does: the arguments are text."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "index": self.index, "type": "function", "function": function}


@attrs.frozen
class Piece:
    """What one token adds to an answer, or what several did."""

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()


def joined(pieces: Iterable[Piece]) -> Piece:
    """Make one of many."""
    parts = list(pieces)
    return Piece(
        "".join(piece.text for piece in parts),
        "".join(piece.thinking for piece in parts),
        tuple(call for piece in parts for call in piece.calls),
    )


def said(model: Model, fields: Mapping[str, Any]) -> tuple[Piece, ...]:
    """Give what a model says to a request, token by token; a call counts as one."""
    is_thinking = "thinking" in model.capabilities and fields.get("think") is not False
    thoughts = [Piece(thinking=text) for text in model.thinking] if is_thinking else []
    calls = [] if _has_result(fields) else _called(model, fields.get("tools"))
    words = [Piece(text=text) for text in model.tokens]
    return (*thoughts, *([Piece(calls=(call,)) for call in calls] or words))


def logprobs(pieces: Iterable[Piece], top: int) -> list[dict[str, object]]:
    """Give the log probabilities of tokens, each with the `top` likeliest beside it."""
    return [_logprob(piece.text or piece.thinking, top) for piece in pieces if not piece.calls]


def _logprob(token: str, top: int) -> dict[str, object]:
    others = [_chance(token if place == 0 else f"{token}{place}", place) for place in range(top)]
    return _chance(token, 0) | ({"top_logprobs": others} if others else {})


def _chance(token: str, place: int) -> dict[str, object]:
    return {"token": token, "logprob": -0.5 - place, "bytes": list(token.encode())}


def _called(model: Model, tools: object) -> list[ToolCall]:
    offered = {_name(tool) for tool in tools} if isinstance(tools, list) else set()
    wanted = [call for call in model.calls if call.name in offered]
    return [ToolCall(call, index) for index, call in enumerate(wanted)]


def _name(tool: object) -> str | None:
    """Read a tool's name, which OpenAI's chat and Ollama nest and the others do not."""
    if not isinstance(tool, dict):
        return None
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None


def _has_result(fields: Mapping[str, Any]) -> bool:
    """Tell whether the conversation ends with what a tool gave, in whatever dialect."""
    turns = fields.get("messages") or fields.get("input")
    last = turns[-1] if isinstance(turns, list) and turns else None
    if not isinstance(last, dict):
        return False
    content = last.get("content")
    blocks = content if isinstance(content, list) else []
    return (
        last.get("role") == "tool"
        or last.get("type") == "function_call_output"
        or any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)
    )
