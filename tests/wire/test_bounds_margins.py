"""What a template adds to a prompt is not in its bytes: how many messages, and whose template."""

from __future__ import annotations

import pytest

from ollama_gateway.wire.body import parse
from ollama_gateway.wire.bounds import measure


@pytest.mark.parametrize(
    ("body", "messages", "tools", "has_template"),
    [
        (b'{"messages":[{},{},{}]}', 3, 0, False),
        (b'{"MESSAGES":[{"role":"user","content":"x"}]}', 1, 0, False),
        (b'{"messages":[],"tools":[{},{}]}', 0, 2, False),
        (b'{"messages":{},"tools":"x"}', 0, 0, False),
        (b'{"prompt":"x"}', 0, 0, False),
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
    """Messages and tools are wrapped in a template's words, and a client may bring its own."""
    found = measure(parse(body), len(body), ())

    assert (found.messages, found.tools, found.has_template) == (messages, tools, has_template)
