from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.keys.importing import read_keys
from ollama_gateway.keys.key import KeyRefused, generate
from ollama_gateway.keys.store import ImportedKey

ONE = "sk-one-0123456789abcdef"
TWO = "sk-two-0123456789,abcdef"


def problems(text: str) -> list[str]:
    """Return the problems of a file, one line each."""
    with pytest.raises(KeyRefused) as caught:
        read_keys(text)
    return str(caught.value).splitlines()


def test_a_file_is_read() -> None:
    """Comments, blank lines, Windows line ends, a byte order mark; a comma may be in the key."""
    text = f"\ufeff# name,key\r\n\r\nalice,{ONE}\r\n  bob , {TWO}  \n   # end\n"
    assert read_keys(text) == (ImportedKey("alice", ONE, 3), ImportedKey("bob", TWO, 4))


def test_keys_of_another_gateway_are_read() -> None:
    """A key of our own form is taken when its checksum is right."""
    text = generate().text
    assert read_keys(f"ci,{text}") == (ImportedKey("ci", text, 1),)
    assert problems(f"ci,{text[:-1]}") == [
        "line 1: the key looks like an ogw_ key, but its checksum is wrong"
    ]


def test_every_problem_is_told_by_its_line() -> None:
    """One error names all bad lines in the order of the file, and repeats none."""
    lines = [
        "no comma",
        f",{ONE}",
        f"{'n' * 101},{ONE}",
        "short,0123456789abcdefghi",
        "long," + "x" * 513,
        "controls,0123456789abcdefghij\x00",
        "blank,0123456789 abcdefghij",
        "unicode,0123456789äbcdefghij",
        f"alice,{ONE}",
        f"alice,{TWO}",
        f"bob,{ONE}",
    ]
    assert problems("\n".join(lines)) == [
        "line 1: not of the form name,key",
        "line 2: a key's name has 1 to 100 visible characters",
        "line 3: a key's name has 1 to 100 visible characters",
        "line 4: the key is shorter than 20 characters",
        "line 5: the key is longer than 512 characters",
        "line 6: the key has characters other than visible ASCII",
        "line 7: the key has characters other than visible ASCII",
        "line 8: the key has characters other than visible ASCII",
        "line 10: the same name as in line 9",
        "line 11: the same key as in line 9",
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_an_empty_file_is_a_problem(text: str) -> None:
    """An import without keys is most likely a mistake."""
    assert problems(text) == ["the file has no keys"]


def test_columns_in_the_wrong_order_print_no_key() -> None:
    """For a line `key,name` the message holds neither column."""
    assert problems(f"{ONE},alice\n{ONE},alice") == [
        "line 1: the key is shorter than 20 characters",
        "line 2: the key is shorter than 20 characters",
    ]


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """No file raises any other error."""
    try:
        entries = read_keys(text)
    except KeyRefused:
        return
    assert entries
