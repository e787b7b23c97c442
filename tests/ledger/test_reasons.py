"""The table of reasons: a misspelt one is a type error, and words say what each means."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_gateway.reasons import Reason, reason_of, words_of

SOURCE = Path(__file__).parent.parent.parent / "src" / "ollama_gateway"
CODE = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_in_the_table_is_used(reason: Reason) -> None:
    """No word is left of a reason that the gateway no longer gives."""
    assert f"Reason.{reason.name}" in CODE


def test_a_reason_in_words() -> None:
    """A known reason has words, and so has a backend's status; another word has none."""
    assert words_of("rate") == "the key had as many requests in a minute as it may"
    assert words_of(reason_of(503)) == "the backend answered with status 503"
    assert words_of("status_5030") is None
    assert words_of("words") is None
