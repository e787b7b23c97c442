"""The estimate for a Messages request is the one that Ollama makes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.simulator.anthropic import estimate
from ollama_gateway.wire.counting import estimated_tokens
from ollama_gateway.wire.large import fields_of
from ollama_gateway.wire.structure import Cutting
from tests.wire.scanning import TINY, large, run


def counted(document: dict[str, Any], cutting: Cutting | None = None) -> int:
    """Estimate a small body, and check that it counts the same as a large one."""
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    parted = large(body, cutting=cutting or Cutting())
    found = run(estimated_tokens(body, run(fields_of(body))))
    assert run(estimated_tokens(parted, run(fields_of(parted)))) == found
    return found


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        ({}, 0),
        ({"messages": []}, 0),
        ({"messages": [], "system": ""}, 1),
        ({"messages": [{"role": "user", "content": ""}]}, 1),
        ({"messages": [{"role": "user", "content": "x" * 36}]}, 10),
        ({"messages": [{"role": "user", "content": "\u00e9" * 18}]}, 10),
        ({"messages": [], "system": [{"type": "text", "text": "x" * 40}]}, 10),
        ({"messages": [{"role": "user", "content": [{"thinking": "x" * 36}]}]}, 10),
        ({"messages": [{"content": [{"type": "image", "source": {"data": "x" * 400}}]}]}, 1),
        ({"messages": [{"content": [{"type": "tool_use", "id": "a", "name": "f"}]}]}, 9),
        ({"messages": [{"content": [{"type": ["tool_use"], "text": "x" * 40}]}]}, 10),
        ({"tools": [{"name": "ffff", "description": "dddd", "input_schema": {"a": 1}}]}, 3),
    ],
)
def test_an_estimate(document: dict[str, Any], tokens: int) -> None:
    """The estimate is a quarter of the bytes of texts and tools; images count nothing."""
    assert counted(document) == tokens


_TEXT = st.text(max_size=30)
_PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "thinking", "image"])},
        optional={"text": _TEXT, "thinking": _TEXT},
    ),
    max_size=3,
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": _TEXT | _PARTS}
    ),
    min_size=1,
    max_size=4,
)
_TOOLS = st.lists(st.fixed_dictionaries({"name": _TEXT, "description": _TEXT}), max_size=2)


@given(
    st.fixed_dictionaries(
        {"messages": _MESSAGES, "tools": _TOOLS}, optional={"system": _TEXT | _PARTS}
    )
)
def test_it_is_the_estimate_of_message_start(document: dict[str, Any]) -> None:
    """The estimate equals the one at the beginning of Ollama's stream."""
    assert counted(document, TINY) == estimate(document)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "system", "tools"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["role", "content", "text", "type", "input_schema"]), inner
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_nothing_breaks_it(document: dict[str, Any]) -> None:
    """Any value in the fields can be counted."""
    assert counted(document) >= 0
