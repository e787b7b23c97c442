"""What a template adds to a prompt is not in its bytes: how many messages, and whose template."""

from __future__ import annotations

import pytest

from ollama_gateway.wire.body import parse
from ollama_gateway.wire.bounds import measure


@pytest.mark.parametrize(
    ("body", "messages", "has_template"),
    [
        (b'{"messages":[{},{},{}]}', 3, False),
        (b'{"MESSAGES":[{"role":"user","content":"x"}]}', 1, False),
        (b'{"messages":{}}', 0, False),
        (b'{"prompt":"x"}', 0, False),
        (b'{"prompt":"x","template":""}', 0, False),
        (b'{"prompt":"x","template":null}', 0, False),
        (b'{"prompt":"x","Template":"{{ .Prompt }}{{ .Prompt }}"}', 0, True),
    ],
)
def test_what_a_template_makes_of_a_request(body: bytes, messages: int, has_template: bool) -> None:  # noqa: FBT001
    """Each message is wrapped in words of a template, and a client may bring a template itself."""
    found = measure(parse(body), len(body), ())

    assert (found.messages, found.has_template) == (messages, has_template)
