"""Encode an answer in steps: a page of a thousand items would hold up the streams."""

from __future__ import annotations

import json
from typing import Any, Final

from ollama_gateway.wire.large import Steps

ITEMS_IN_A_STEP: Final = 20


def encoded(document: Any) -> Steps[bytes]:
    """Return a document as JSON; the items of its lists are encoded some at a time."""
    if not isinstance(document, dict):
        return json.dumps(document).encode()
    parts: list[str] = []
    for name, value in document.items():
        parts.append(f"{json.dumps(name)}: ")
        if isinstance(value, list) and len(value) > ITEMS_IN_A_STEP:
            texts: list[str] = []
            for start in range(0, len(value), ITEMS_IN_A_STEP):
                texts += map(json.dumps, value[start : start + ITEMS_IN_A_STEP])
                yield
            parts[-1] += f"[{', '.join(texts)}]"
        else:
            parts[-1] += json.dumps(value)
    return f"{{{', '.join(parts)}}}".encode()
