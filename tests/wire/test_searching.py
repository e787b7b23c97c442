"""Which requests let Ollama search the web, and which patterns allow it."""

from __future__ import annotations

import pytest

from ollama_gateway.wire.body import parse
from ollama_gateway.wire.names import is_cloud_pattern
from ollama_gateway.wire.searching import wants_search
from tests.wire.scanning import large, run


@pytest.mark.parametrize(
    ("body", "searches"),
    [
        ('{"tools":[{"type":"web_search"}]}', True),
        (
            '{"tools":[{"type":"function"},{"type":"web_search_20250305","name":"web_search"}]}',
            True,
        ),
        ('{"TOOL\u017f":[{"Type":"\\u0077eb_search"}]}', True),
        ('{"tools":[{"type":" web_search"}]}', True),
        ('{"tools":[{"type":"web_search","type":null}]}', True),
        ('{"tools":[{"TYPE":"web_search","type":"function"}]}', True),
        ('{"tools":[{"type":"function","name":"web_search"}]}', False),
        ('{"tools":[{"type":"function","function":{"type":"web_search"}}]}', False),
        (
            '{"tools":[{"type":["web_search"]},["type","web_search"],[["type","web_search"]]]}',
            False,
        ),
        ('{"tools":{"type":"web_search"}}', False),
        ('{"tools":null}', False),
        ('{"messages":[{"content":[{"type":"web_search_tool_result"}]}]}', False),
        ('{"input":[{"type":"web_search_call"}],"tools":[]}', False),
    ],
)
def test_who_searches(body: str, searches: bool) -> None:  # noqa: FBT001
    """Anything that Ollama may take for its own tool counts; functions and history do not."""
    parse(body.encode())

    assert run(wants_search(body.encode())) is searches
    assert run(wants_search(large(body.encode()))) is searches


@pytest.mark.parametrize(
    ("pattern", "is_cloud"),
    [
        ("*cloud", True),
        ("*-CLOUD ", True),
        ("gpt-oss:20b-cloud", True),
        ("gpt-oss:cloud", True),
        ("*", False),
        ("cloud*", False),
        ("mycloud", False),
        ("me/cloud", False),
        ("a" * 300 + "*cloud", False),
        ("@:cloud", False),
        ("", False),
    ],
)
def test_which_pattern_lets_something_out(pattern: str, is_cloud: bool) -> None:  # noqa: FBT001
    """A pattern allows it if it ends in `cloud` and means a cloud model."""
    assert is_cloud_pattern(pattern) is is_cloud
