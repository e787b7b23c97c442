"""Model names: parts, spellings, and refused texts."""

from __future__ import annotations

import pytest

from ollama_gateway.simulator.names import InvalidName, parse


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("m1", "m1:latest"),
        ("library/m1", "m1:latest"),
        ("registry.ollama.ai/library/m1:v1", "m1:v1"),
        ("https://registry.ollama.ai/library/m1", "m1:latest"),
        ("  m1\n", "m1:latest"),
        ("m1:local", "m1:latest"),
        ("m1:v2:LOCAL", "m1:v2"),
        ("me/m2:v1", "me/m2:v1"),
        ("myhost/ns/x:code", "myhost/ns/x:code"),
        ("myhost:5000/library/x", "myhost:5000/library/x:latest"),
        ("apple/OpenELM", "apple/OpenELM:latest"),
        ("gpt-oss:20b-cloud", "gpt-oss:20b-cloud"),
        ("gpt-oss:20b:cloud", "gpt-oss:20b"),
    ],
)
def test_the_short_name_is_the_one_of_the_listings(text: str, short: str) -> None:
    """Defaults are dropped, the tag is always there, and the case stays."""
    assert parse(text).short == short


@pytest.mark.parametrize("text", ["x:cloud", "x:20b-cloud", "x:20b:cloud", "x:CLOUD"])
def test_cloud_names_are_distinguished(text: str) -> None:
    """A name that ends in cloud asks for a model of ollama.com."""
    assert parse(text).cloud


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ":x", "x:", "-x", "a/b/c/d", "a//b", "/x", "x/", "bad name", "x@sha256:abc"),
        *("n.s/x", "x\u0000", "x" * 81, "ü", "a:b:c"),
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """Empty parts, foreign characters, too many parts, and digests are no names."""
    with pytest.raises(InvalidName, match="invalid model name"):
        parse(text)


@pytest.mark.parametrize("text", ["x:local:cloud", "x:cloud:local", "x:20b-cloud:local"])
def test_a_name_is_not_local_and_cloud(text: str) -> None:
    """Both suffixes at once are refused in Ollama's words."""
    with pytest.raises(InvalidName, match="use either :local or :cloud, not both"):
        parse(text)


def test_folding_makes_spellings_equal() -> None:
    """All spellings of a model fold to one value; another namespace does not."""
    folded = {parse(text).folded for text in ("m1", "M1:LATEST", "Library/m1", "m1:local")}

    assert len(folded) == 1
    assert parse("other/m1").folded not in folded
