"""Turns of conversations in every dialect, as clients send them."""

from __future__ import annotations

from typing import Any

ASKED, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello"}

TURNS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "chat": (
        {"messages": [ASKED]},
        {"messages": [ASKED, SAID, {"role": "user", "content": "more"}]},
        {"messages": [{"role": "user", "content": "other"}]},
    ),
    "chat with system": (
        {"messages": [{"role": "system", "content": "x"}, ASKED]},
        {"messages": [{"role": "system", "content": "x"}, ASKED, SAID]},
        {"messages": [{"role": "system", "content": "y"}, ASKED]},
    ),
    "chat with developer": (
        {"messages": [{"role": "developer", "content": "x"}, ASKED]},
        {"messages": [{"role": "developer", "content": "x"}, ASKED, SAID, ASKED]},
        {"messages": [{"role": "developer", "content": "y"}, ASKED]},
    ),
    "chat with pictures": (
        {"messages": [{**ASKED, "images": ["aaaa"]}]},
        {"messages": [{**ASKED, "images": ["aaaa"]}, SAID, ASKED]},
        {"messages": [{**ASKED, "images": ["bbbb"]}]},
    ),
    "parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, SAID]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "b"}]}]},
    ),
    "picture parts": (
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "data:a"}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "data:a"}}]}, SAID]},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "data:b"}}]}]},
    ),
    "generate": (
        {"system": "x", "prompt": "p" * 3000},
        {"system": "x", "prompt": "p" * 4000},
        {"system": "y", "prompt": "p" * 3000},
    ),
    "generate with context": (
        {"prompt": "a", "context": list(range(100))},
        {"prompt": "b", "context": list(range(200))},
        {"prompt": "b", "context": list(range(1, 200))},
    ),
    "completions of tokens": (
        {"prompt": list(range(100))},
        {"prompt": list(range(120))},
        {"prompt": list(range(1, 120))},
    ),
    "responses": (
        {"instructions": "x", "input": "hi"},
        {"instructions": "x", "input": "hi", "tools": []},
        {"instructions": "x", "input": "ho"},
    ),
    "responses with items": (
        {"instructions": "x", "input": [{"type": "message", **ASKED}]},
        {"instructions": "x", "input": [{"type": "message", **ASKED}, {"type": "reasoning"}, SAID]},
        {"instructions": "y", "input": [{"type": "message", **ASKED}]},
    ),
    "messages": (
        {"system": [{"type": "text", "text": "x"}], "messages": [ASKED]},
        {"system": [{"type": "text", "text": "x"}], "messages": [ASKED, SAID]},
        {"system": [{"type": "text", "text": "y"}], "messages": [ASKED]},
    ),
    "messages whose cache mark moves": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
                    ],
                }
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, SAID]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "b"}]}, SAID]},
    ),
}
"""By name: the first turn, the next one, and the first turn of another conversation."""
