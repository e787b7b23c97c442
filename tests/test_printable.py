"""No text from outside can control, reorder or forge what a terminal shows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.printable import printable

MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c"
UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u115f\u1160\u2800\u3164\ufe0f\uffa0\U000e0041"
CONTROLS = "".join(map(chr, [*range(32), *range(0x7F, 0xA0)]))
OTHERS = "\ud800\udfff\u2028\u2029\u00a0\ue000\uffff"


@pytest.mark.parametrize("character", MARKS + UNSEEN + CONTROLS + OTHERS)
def test_what_is_no_letter_is_escaped(character: str) -> None:
    """Such characters are escaped anywhere in the text, and the text can be recovered."""
    text = f"a{character}b"

    assert printable(text).isascii()
    assert printable(text).isprintable()
    assert json.loads(printable(text)) == text


@pytest.mark.parametrize("text", ["", "llama3.2:3b", "naïve", "模型", 'a "b" \\c', "größe 🦙"])
def test_words_stay_as_they_are(text: str) -> None:
    """Text in any script is unchanged."""
    assert printable(text) == text


@given(st.text())
def test_twice_is_as_good_as_once(text: str) -> None:
    """A word may be escaped where it is known, and the whole line again where it is printed."""
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
