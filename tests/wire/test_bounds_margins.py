"""What a template adds to a prompt beyond the body's bytes: counts of messages, own templates."""

from __future__ import annotations

import pytest

from ollama_gateway.wire.body import parse
from ollama_gateway.wire.bounds import SEARCH_TOOL, measure_document


@pytest.mark.parametrize(
    ("body", "messages", "tools", "has_template"),
    [
        (b'{"messages":[{},{},{}]}', 3, 0, False),
        (b'{"MESSAGES":[{"role":"user","content":"x"}]}', 1, 0, False),
        (b'{"messages":[],"tools":[{},{}]}', 0, 2, False),
        (b'{"messages":{},"tools":"x"}', 0, 0, False),
        (b'{"prompt":"x"}', 0, 0, False),
        (b'{"instructions":"x","input":"y"}', 2, 0, False),
        (b'{"instructions":"x","input":[{},{}],"tools":[{}]}', 3, 1, False),
        (b'{"system":"x","messages":[{}]}', 2, 0, False),
        (b'{"System":[{"type":"text","text":"x"}],"messages":[{}]}', 2, 0, False),
        (
            b'{"tools":[{},{"type":"namespace","name":"n","tools":[{},{},{"tools":[{}]}]}]}',
            0,
            4,
            False,
        ),
        (b'{"tools":[{"type":"namespace","tools":[]}]}', 0, 1, False),
        (b'{"prompt":"x","template":""}', 0, 0, False),
        (b'{"prompt":"x","template":null}', 0, 0, False),
        (b'{"prompt":"x","Template":"{{ .Prompt }}{{ .Prompt }}"}', 0, 0, True),
    ],
)
def test_what_a_template_makes_of_a_request(
    body: bytes,
    messages: int,
    tools: int,
    has_template: bool,  # noqa: FBT001
) -> None:
    """A template wraps messages and tools in its own text, and a client may bring one."""
    found = measure_document(parse(body), len(body), ())

    assert (found.messages, found.tools, found.has_template) == (messages, tools, has_template)


def test_what_ollama_writes_of_its_own_is_in_the_bound() -> None:
    """A namespace's name precedes each of its tools, and Ollama's own tool has text of its own."""
    body = b"""{"tools":[{"type":"namespace","name":"12345678","tools":[{},{},
        {"name":"\xc3\xa9","tools":[{}]}]},{"type":"web_search"}]}"""
    found = measure_document(parse(body), len(body), ())

    assert (found.tools, found.repeated) == (4, 9 + 9 + 9 + 3 + SEARCH_TOOL)


PNG = "iVBORw0KGgo="
IMAGE = f'{{"type":"image","source":{{"type":"base64","data":"{PNG}"}}}}'
INPUT_IMAGE = f'{{"type":"input_image","image_url":"{PNG}"}}'


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (
            f'{{"input":[{{"type":"function_call_output","output":[{INPUT_IMAGE},{INPUT_IMAGE}]}}]}}',
            2,
        ),
        (f'{{"input":[{{"type":"function_call_output","OUTPUT":[{INPUT_IMAGE}]}}]}}', 1),
        (
            f'{{"messages":[{{"content":[{{"type":"tool_result","content":[{IMAGE},{IMAGE}]}}]}}]}}',
            2,
        ),
        (
            f'{{"messages":[{{"content":[{{"type":"tool_result","content":[{IMAGE}]}},{IMAGE}]}}]}}',
            2,
        ),
        ('{"messages":[{"content":[{"type":"tool_result","content":"image"}]}]}', 0),
    ],
)
def test_media_in_what_tools_return(body: str, media: int) -> None:
    """An image in a tool's result is measured like one in a message."""
    found = measure_document(parse(body.encode()), len(body), ())

    assert (found.media, len(body) - found.text) == (media, media * len(PNG))
