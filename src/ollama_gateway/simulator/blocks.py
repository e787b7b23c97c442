"""The content of `/v1/messages`: which blocks cannot be converted, which remain, and their size.

Blocks of a type that Ollama does not know are dropped silently, and so are empty texts; a
conversation of which nothing remains only loads the model.
"""

from __future__ import annotations

from typing import Any

from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.gotypes import strange_in_base64

Block = dict[str, Any]


def fault(block: Block) -> str | None:
    """Return why a block cannot be converted, or None."""
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


def of(content: object) -> list[Block]:
    """Return the blocks of a content; a text is one, and any other value has none."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, dict)]


def says_anything(fields: dict[str, Any]) -> bool:
    """Return whether anything of a conversation remains for the model."""
    system = [block for block in of(fields.get("system")) if block.get("type") == "text"]
    spoken = [block for message in fields["messages"] for block in message["content"]]
    return any(_text(block.get("text")) for block in system) or any(map(_says, spoken))


def _says(block: Block) -> bool:
    kind = block.get("type")
    if kind in ("text", "thinking"):
        return bool(block.get(kind))
    known = ("image", "tool_use", "tool_result", "server_tool_use", "web_search_tool_result")
    return kind in known


def size(block: Block) -> int:
    """Return the bytes of a block that count in Ollama's estimate of a prompt."""
    bytes_ = length(block.get("text")) + length(block.get("thinking"))
    return bytes_ + (len(dumps(block)) if block.get("type") in ("tool_use", "tool_result") else 0)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def length(text: object) -> int:
    """Return the bytes of a text; 0 for any other value."""
    return len(_text(text).encode())
