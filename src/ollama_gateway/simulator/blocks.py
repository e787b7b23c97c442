"""The content of `/v1/messages`: what of it cannot be converted, and how large it is guessed to be.

Blocks of a type that Ollama does not know are dropped without a word, empty texts too; a
conversation of which nothing is left only loads the model.
"""

from __future__ import annotations

from typing import Any

from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.gotypes import strange_in_base64

PER_TOKEN = 4
"""Bytes, of the estimate."""
Block = dict[str, Any]


def fault(block: Block) -> str | None:
    """Say why a block cannot be converted, or None."""
    kind = block.get("type")
    if kind == "image":
        return _fault_of_image(block["source"]) if "source" in block else "invalid image source"
    if kind == "tool_use":
        missing = [name for name in ("id", "name") if not block.get(name)]
        return f"tool_use block missing required '{missing[0]}' field" if missing else None
    if kind == "tool_result":
        return _fault_of_result(block.get("content"))
    return None


def _fault_of_result(content: object) -> str | None:
    for inner in content if isinstance(content, list) else []:
        if isinstance(inner, dict) and inner.get("type") == "image":
            source = inner.get("source")
            if not isinstance(source, dict):
                return "invalid tool_result image source"
            found = _fault_of_image(source)
            if found:
                return found
    return None


def _fault_of_image(source: Block) -> str | None:
    kind, data = (_text(source.get(name)) for name in ("type", "data"))
    if kind != "base64":
        return f"invalid image source type: {kind}. Only base64 images are supported."
    strange = strange_in_base64(data)
    if strange is not None:
        return f"invalid base64 image data: illegal base64 data at input byte {strange}"
    return None


def says_anything(fields: dict[str, Any]) -> bool:
    """Tell whether something of a conversation is left for the model."""
    system = fields.get("system")
    spoken = [block for message in fields["messages"] for block in message["content"]]
    return bool(_system(system)) or any(map(_says, spoken))


def _says(block: Block) -> bool:
    kind = block.get("type")
    if kind in ("text", "thinking"):
        return bool(block.get(kind))
    known = ("image", "tool_use", "tool_result", "server_tool_use", "web_search_tool_result")
    return kind in known


def _system(system: object) -> str:
    """Read the system prompt: a text, or the texts of its blocks; what else it is says nothing."""
    if isinstance(system, str):
        return system
    inner = [block for block in system if isinstance(block, dict)] if isinstance(system, list) else []
    return "".join(_text(block.get("text")) for block in inner if block.get("type") == "text")


def estimate(fields: dict[str, Any]) -> int:
    """Guess the tokens of a prompt as Ollama does: a quarter of its bytes, 1 at least."""
    size = _length(_system(fields.get("system")))
    for message in fields["messages"]:
        size += _length(message.get("role")) + sum(map(_size, message["content"]))
    for tool in fields.get("tools", []):
        size += _length(tool.get("name")) + _length(tool.get("description"))
        size += len(dumps(tool["input_schema"])) if "input_schema" in tool else 0
    return max(size // PER_TOKEN, 1)


def _size(block: Block) -> int:
    size = _length(block.get("text")) + _length(block.get("thinking"))
    return size + (len(dumps(block)) if block.get("type") in ("tool_use", "tool_result") else 0)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _length(text: object) -> int:
    return len(_text(text).encode())
