"""How many tokens a Messages request has, as Ollama estimates it for `message_start`.

A quarter of the bytes of what is said (anthropic/anthropic.go, EstimateCountTokens). It is an
estimate and no bound: clients compact a conversation by it, and a bound would have them do so at a
quarter of what the model can read.
"""

from __future__ import annotations

import json
from typing import Final

from ollama_gateway.wire.body import LongText, utf8_size
from ollama_gateway.wire.large import RequestBody, Steps
from ollama_gateway.wire.parts import parts

BYTES_PER_TOKEN: Final = 4
_PRINTED: Final = ("tool_use", "tool_result")
"""Types of parts that are counted as the JSON they are."""


def estimated_tokens(body: RequestBody, fields: dict[str, object]) -> Steps[int]:
    """Tokens of system prompt, messages and tools; at least 1 where anything is there.

    Args:
        body: what came; a large one is counted by its parts.
        fields: of it, as `fields_of` has read them.

    """
    if isinstance(body, bytes):
        said, is_something = _said(fields)
    else:
        said, is_something = 0, False
        for part in parts(body):
            yield
            more, is_more = _said(part.value())
            said, is_something = said + more, is_something or is_more
    return max(said // BYTES_PER_TOKEN, int(is_something))


def _said(document: dict[str, object]) -> tuple[int, bool]:
    """Bytes of what is said, and whether there is anything."""
    system, messages = document.get("system"), _objects(document.get("messages"))
    tools = _objects(document.get("tools"))
    said = _content(system) + sum(map(_message, messages)) + sum(map(_tool, tools))
    return said, system is not None or bool(messages)


def _message(message: dict[str, object]) -> int:
    return _text(message.get("role")) + _content(message.get("content"))


def _content(content: object) -> int:
    """Bytes of a text, of a list of parts, or of anything else as JSON."""
    if content is None or isinstance(content, str):
        return _text(content)
    if isinstance(content, list):
        return sum(map(_part, _objects(content)))
    return _json(content)


def _part(part: dict[str, object]) -> int:
    said = _text(part.get("text")) + _text(part.get("thinking"))
    return said + (_json(part) if part.get("type") in _PRINTED else 0)


def _tool(tool: dict[str, object]) -> int:
    schema = tool.get("input_schema")
    size = 0 if schema is None else _json(schema)
    return size + _text(tool.get("name")) + _text(tool.get("description"))


def _json(value: object) -> int:
    """Bytes of a value as JSON, where a long text stands in it for as much as it would be."""
    left_out: list[int] = []
    text = json.dumps(_printable(value, left_out), separators=(",", ":"), ensure_ascii=False)
    return _text(text) + sum(left_out)


def _printable(value: object, left_out: list[int]) -> object:
    """The value with empty texts for the long ones, whose bytes are added to the list."""
    if isinstance(value, LongText):
        left_out.append(value.printed)
        return ""
    if isinstance(value, dict):
        return {key: _printable(inner, left_out) for key, inner in value.items()}
    if isinstance(value, list):
        return [_printable(inner, left_out) for inner in value]
    return value


def _text(value: object) -> int:
    return utf8_size(value) if isinstance(value, str) else 0


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
