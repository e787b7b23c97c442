"""The part of a backend's error text that reaches a client."""

from __future__ import annotations

import httpx
import pytest

from ollama_gateway.backends.backend import Backend
from ollama_gateway.flow.scrubbing import scrubbed
from tests.backends.asking import UNUSED

BACKEND = Backend("a", httpx.URL("http://gpu-1:11434"), UNUSED)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("out of memory", "out of memory"),
        ("two\nlines\t here", "two lines here"),
        ('"m" does not support tools', '"m" does not support tools'),
        (
            "registry.ollama.ai/library/m1:latest does not support insert",
            "registry.ollama.ai/library/m1:latest does not support insert",
        ),
        ('Post "http://127.0.0.1:4321/x": EOF', 'Post "(hidden) EOF'),
        ("open /root/.ollama/models/x: no such file", "open (hidden): no such file"),
        ("dial tcp 10.0.0.5:11434: refused", "dial tcp (hidden): refused"),
        ("dial tcp [fd00::1]:11434: refused", "dial tcp (hidden): refused"),
        ("lookup gpu-9.internal on", "(hidden) on"),
        ("gpu-9.internal:11434 is down", "(hidden) is down"),
        ("localhost:11434 is down", "(hidden) is down"),
        ("gpu-1 is down", "(hidden) is down"),
        ("GPU-1.lan is down", "(hidden).lan is down"),
        ("gpu-10 and the-gpu-1 are down", "gpu-10 and the-gpu-1 are down"),
        ("busy, try again.  really", "busy, try again.  really"),
        ("open C:\\models\\x", "open (hidden)"),
    ],
)
def test_locations_are_hidden_and_models_are_not(text: str, seen: str) -> None:
    """Hosts, addresses and paths are hidden; model names and ordinary words stay."""
    assert scrubbed(text, BACKEND) == seen


def test_a_host_is_hidden_as_a_word_alone() -> None:
    """A backend whose host is one letter hides nothing within the words of a message."""
    backend = Backend("a", httpx.URL("http://a:11434"), UNUSED)

    assert scrubbed("web search at a failed", backend) == "web search at (hidden) failed"
