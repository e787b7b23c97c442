"""The name that was probably meant."""

from __future__ import annotations

import pytest

from ollama_gateway.suggestions import did_you_mean

QWEN = "hf.co/unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF:Q4_K_M"
NAMES = ["llama3.2:3b", QWEN, "Alice", "\x1b[2J"]


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [
        ("lama3.2:3b", " (did you mean llama3.2:3b?)"),
        ("LLAMA3.2", " (did you mean llama3.2:3b?)"),
        ("qwen3-coder", f" (did you mean {QWEN}?)"),
        ("alise", " (did you mean Alice?)"),
        ("[2j", r' (did you mean "\u001b[2J"?)'),
        ("bob", ""),
        ("", ""),
        ("x" * 100_000, ""),
    ],
)
def test_a_near_name_is_suggested(word: str, suggestion: str) -> None:
    """The nearest name, or one that contains the word, in any case; none is invented."""
    assert did_you_mean(word, NAMES) == suggestion
