"""A model's answer to a request: thoughts if it thinks, then a tool call or text.

A model with the capability `thinking` thinks unless the request says otherwise. It calls the tools
in its script (`Model.calls`) if the request offers them. To a conversation that ends with a tool's
result it answers in text, so an agent's loop ends.
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
    """A tool call of an answer; `index` is its position among the answer's calls."""

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
        """Write the call as `/api/chat` does: the arguments are an object."""
        function = {"index": self.index, "name": self.name, "arguments": self.call.arguments}
        return {"id": self.id, "function": function}

    def openai(self) -> dict[str, object]:
        """Write the call as `/v1/chat/completions` does: the arguments are text."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "index": self.index, "type": "function", "function": function}


@attrs.frozen
class Piece:
    """The addition of one token to an answer, or of several."""

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()


def joined(pieces: Iterable[Piece]) -> Piece:
    """Join several into one."""
    parts = list(pieces)
    return Piece(
        "".join(piece.text for piece in parts),
        "".join(piece.thinking for piece in parts),
        tuple(call for piece in parts for call in piece.calls),
    )


def said(model: Model, fields: Mapping[str, Any]) -> tuple[Piece, ...]:
    """Yield a model's answer to a request token by token; a call counts as one."""
    is_thinking = "thinking" in model.capabilities and fields.get("think") is not False
    thoughts = [Piece(thinking=text) for text in model.thinking] if is_thinking else []
    calls = [] if _has_result(fields) else _called(model, fields.get("tools"))
    words = [Piece(text=text) for text in model.tokens]
    return (*thoughts, *([Piece(calls=(call,)) for call in calls] or words))


def logprobs(pieces: Iterable[Piece], top: int) -> list[dict[str, object]]:
    """Return the log probabilities of tokens, each with its `top` likeliest alternatives."""
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
    """Return whether the conversation ends with a tool's result, in any dialect."""
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
