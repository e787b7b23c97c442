"""Requests that only load or unload a model: no text in any field from which Ollama generates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_gateway.wire.body import parse
from ollama_gateway.wire.loading import only_loads

M = {"model": "m"}
SAYING = {
    "prompt": "x",
    "messages": [{"role": "user", "content": "x"}],
    "input": "x",
    "system": "x",
    "template": "x",
    "suffix": "x",
    "images": ["x"],
    "context": [1],
    "raw": True,
    "instructions": "x",
    "tools": [{}],
    "nobody_knows": 1,
}
"""For each field a value from which a model could generate."""


@pytest.mark.parametrize(
    "body",
    [
        M,
        {**M, "prompt": ""},
        {**M, "prompt": None, "keep_alive": 0},
        {**M, "messages": [], "keep_alive": "-1s", "stream": False},
        {**M, "messages": None},
        {**M, "input": []},
        {**M, "input": "", "truncate": True, "dimensions": 8},
        {"MODEL": "m", "Keep_Alive": "0", "\u017ftream": True},
        {
            **M,
            "prompt": "",
            "suffix": "",
            "system": "",
            "template": "",
            "context": [],
            "raw": False,
        },
        {**M, "options": {"num_ctx": 4096}, "think": True, "format": "json"},
    ],
)
def test_a_request_without_text_only_loads(body: dict[str, Any]) -> None:
    """Clients leave fields out or send them empty, with or without `keep_alive`."""
    assert only_loads(parse(json.dumps(body).encode()))


@pytest.mark.parametrize("field", SAYING)
@pytest.mark.parametrize("fold", [str, str.upper, str.title])
def test_a_field_that_may_generate_does_not_only_load(field: str, fold: Any) -> None:
    """Each field alone, in any case and beside an empty prompt, makes the request a generation."""
    rest = {} if field == "prompt" else {"prompt": ""}
    body = {**M, **rest, fold(field): SAYING[field]}
    assert not only_loads(parse(json.dumps(body).encode()))


EMPTY = {"role": "user", "content": []}


@pytest.mark.parametrize(
    ("messages", "is_load"),
    [
        ([EMPTY], True),
        ([{**EMPTY, "name": "", "tool_calls": []}, EMPTY], True),
        ([{"role": "user", "content": ""}], False),
        ([{"role": "user", "content": None}], False),
        ([{"role": "user"}], False),
        ([{"role": "user", "tool_calls": []}], False),
        ([EMPTY, {"role": "user", "content": "x"}], False),
        ([{**EMPTY, "Content": "x"}], False),
        ([{"role": "user", "content": [{}]}], False),
        ([{**EMPTY, "tool_calls": [{}]}], False),
        ([{**EMPTY, "reasoning": "x"}], False),
        (["x"], False),
        ({"role": "user", "content": []}, False),
    ],
)
def test_messages_of_empty_parts_are_none(messages: object, is_load: bool) -> None:  # noqa: FBT001 - a table's column
    """Empty lists count as no message only where content may be a list of parts."""
    body = parse(json.dumps({**M, "messages": messages}).encode())
    assert only_loads(body, in_parts=True) == is_load
    assert not only_loads(body)
