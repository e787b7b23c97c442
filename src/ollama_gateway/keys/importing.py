"""Reads a file of keys made elsewhere: lines `name,key`, all checked before any is stored.

Blank lines and lines that begin with `#` are skipped. One error lists every problem by line number.
The rule: no message holds a key, or a text that a misplaced comma may have made one.
"""

from __future__ import annotations

from collections.abc import Iterator

from ollama_gateway.errors import Unauthorized
from ollama_gateway.keys.key import (
    MAX_TEXT,
    MIN_IMPORTED,
    PREFIX,
    KeyRefused,
    check_name,
    read_claim,
)
from ollama_gateway.keys.store import ImportedKey


def read_keys(text: str) -> tuple[ImportedKey, ...]:
    """Read the keys from a file's text.

    Raises:
        KeyRefused: the file has problems; one line for each.

    """
    problems: list[tuple[int, str]] = []
    entries: list[ImportedKey] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            try:
                entries.append(_read_line(stripped, number))
            except KeyRefused as error:
                problems.append((number, str(error)))
    problems += _repeated(entries)
    if problems:
        raise KeyRefused("\n".join(f"line {number}: {what}" for number, what in sorted(problems)))
    if not entries:
        raise KeyRefused("the file has no keys")
    return tuple(entries)


def _read_line(line: str, number: int) -> ImportedKey:
    name, comma, key = (part.strip() for part in line.partition(","))
    if not comma:
        raise KeyRefused("not of the form name,key")
    check_name(name)
    try:
        read_claim(key)
    except Unauthorized:
        raise KeyRefused(_problem_of(key)) from None
    return ImportedKey(name, key, number)


def _problem_of(key: str) -> str:
    if len(key) < MIN_IMPORTED:
        return f"the key is shorter than {MIN_IMPORTED} characters"
    if len(key) > MAX_TEXT:
        return f"the key is longer than {MAX_TEXT} characters"
    if any(not "!" <= sign <= "~" for sign in key):
        return "the key has characters other than visible ASCII"
    return f"the key looks like an {PREFIX} key, but its checksum is wrong"


def _repeated(entries: list[ImportedKey]) -> Iterator[tuple[int, str]]:
    names: dict[str, int] = {}
    texts: dict[str, int] = {}
    for entry in entries:
        for noun, value, seen in (("name", entry.name, names), ("key", entry.text, texts)):
            first = seen.setdefault(value, entry.line)
            if first != entry.line:
                yield entry.line, f"the same {noun} as in line {first}"
