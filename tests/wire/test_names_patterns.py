from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_gateway.wire.names import MAX_PATTERN, ModelName, matches

_NAMES = st.sampled_from(["m", "Me/M2:v1", "x:cloud", "x:20b:Cloud", "h:5/n/llama3:8B"])
_GLOBBISH = st.text(st.sampled_from("*?[]!^-&|~:a/mz0.cloud") | st.characters(), max_size=40)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("llama3", "LLAMA3:latest"),
        ("Library/Llama3", "llama3"),
        (" llama3 ", "llama3"),
        ("llama3:local", "llama3"),
        ("*", "llama3"),
        ("*", "me/m2:v1"),
        ("*", "host/ns/m"),
        ("LLAMA*", "llama3:8b"),
        ("llama3:*", "llama3"),
        ("*:latest", "llama3"),
        ("me/*", "Me/M2"),
        ("llama?:8[a-c]", "llama3:8B"),
        ("x:20b:cloud", "x:20b-cloud"),
        ("x:cloud", "x:cloud"),
        ("*cloud", "x:cloud"),
        ("*CLOUD", "x:20b:cloud"),
        ("x:*-cloud", "x:20b-cloud"),
    ],
)
def test_pattern_covers(pattern: str, text: str) -> None:
    """A plain pattern is a name in any spelling; wildcards match the short name with its tag."""
    assert matches(pattern, ModelName.parse(text))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("llama3", "llama3:8b"),
        ("llama3", "llama3:cloud"),
        ("llama3", "me/llama3"),
        ("llama?", "llama3"),
        ("library/*", "llama3"),
        ("", "llama3"),
        ("bad name", "llama3"),
        ("*", "x:cloud"),
        ("x*", "x:20b:cloud"),
        ("x:*", "x:cloud"),
        ("x:clou?", "x:cloud"),
        ("x:[c]loud*", "x:cloud"),
        ("*-cloud", "x:cloud"),
        ("x:cloud", "x"),
        ("[", "llama3"),
        ("*" * (MAX_PATTERN + 1), "llama3"),
    ],
)
def test_pattern_does_not_cover(pattern: str, text: str) -> None:
    """No pattern covers more than it says, above all no cloud name."""
    assert not matches(pattern, ModelName.parse(text))


def test_hostile_pattern_is_cheap() -> None:
    """The worst pattern has no quantifier that could backtrack into another."""
    pattern = ("*a" * (MAX_PATTERN // 2))[: MAX_PATTERN - 1] + "z"
    assert not matches(pattern, ModelName.parse("a" * 80 + ":" + "a" * 80))


@given(_GLOBBISH | st.text(), _NAMES)
@example("[a[:x]*", "m")
@example("[[a]*", "m")
@example("[!]*", "m")
@example("[z-a]*", "m")
@example("[a--b||c&&d~~e]*", "m")
@example("\ud800*", "m")
def test_matches_never_raises(pattern: str, text: str) -> None:
    """Any pattern gives an answer, and covers a cloud name only if it says `cloud`."""
    name = ModelName.parse(text)
    if matches(pattern, name) and name.cloud:
        assert pattern.strip().casefold().endswith("cloud")
