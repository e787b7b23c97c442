from __future__ import annotations

import sys

import pytest

from ollama_gateway.wire.body import folded, go_fold, lookup


@pytest.mark.parametrize(
    ("key", "seen"),
    [
        ("stream", True),
        ("STREAM", True),
        ("Stream", True),
        ("\u017ftream", True),
        ("\ufb06ream", False),  # the st ligature: casefold takes it for "st", Go does not
        ("stream ", False),
        ("strea", False),
    ],
)
def test_lookup_folds_as_go(key: str, *, seen: bool) -> None:
    """A field is found under exactly the spellings that Go's decoder accepts."""
    assert (lookup({"a": 1, key: "x"}, "stream") == "x") is seen


def test_lookup_of_k() -> None:
    """The Kelvin sign is a k, as in Go."""
    assert lookup({"\u212aeep_alive": 5}, "keep_alive") == 5


def test_what_folds_to_ascii_keeps_its_length() -> None:
    """Only U+0130 grows, and not to ASCII, so a difference in length rules a name out."""
    longer = [sign for sign in map(chr, range(sys.maxunicode + 1)) if len(go_fold(sign)) != 1]

    assert longer == ["\u0130"]
    assert not go_fold("\u0130").isascii()


@pytest.mark.parametrize("key", ["stream", "STREAM", "\u017ftream", "\ufb06ream", "strea"])
def test_a_folded_document_has_what_lookup_finds(key: str) -> None:
    """Both functions find a field under the same spellings and no other."""
    document: dict[str, object] = {"a": 1, key: "x"}

    assert folded(document).get("stream") == lookup(document, "stream")
