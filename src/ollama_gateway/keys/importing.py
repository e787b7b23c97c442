"""Reads a file of keys made elsewhere: lines `name,key`, all checked before any is stored.

Blank lines and lines that begin with `#` are skipped. One error lists every problem by line number.
The rule: no message holds a key, or a text that a misplaced comma may have made one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

LineProblem = tuple[int, str]
"""The number of a line, and half a sentence."""


def read_keys(text: str) -> tuple[ImportedKey, ...]:
    """Read the keys from a file's text.

    Raises:
        KeyRefused: the file has problems; one line for each.

    """
    entries, problems = [], []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            name, comma, key = (part.strip() for part in stripped.partition(","))
            entries.append(ImportedKey(name, key, number))
            if not comma:
                problems.append((number, "not of the form name,key"))
    wrong = {number for number, _ in problems}
    check_import([entry for entry in entries if entry.line not in wrong], problems)
    return tuple(entries)


def check_import(entries: Sequence[ImportedKey], problems: Sequence[LineProblem] = ()) -> None:
    """Raise KeyRefused, with a line for each problem, for entries that can be no keys.

    Args:
        entries: all that could be read.
        problems: those of lines that could not.

    """
    found = [*problems, *((entry.line, what) for entry in entries for what in _problems(entry))]
    found += _repeated(entries)
    if found:
        raise KeyRefused("\n".join(f"line {number}: {what}" for number, what in sorted(found)))
    if not entries:
        raise KeyRefused("the file has no keys")


def _problems(entry: ImportedKey) -> Iterator[str]:
    try:
        check_name(entry.name)
        read_claim(entry.text)
    except KeyRefused as error:
        yield str(error)
    except Unauthorized:
        yield _problem_of(entry.text)


def _problem_of(key: str) -> str:
    if len(key) < MIN_IMPORTED:
        return f"the key is shorter than {MIN_IMPORTED} characters"
    if len(key) > MAX_TEXT:
        return f"the key is longer than {MAX_TEXT} characters"
    if any(not "!" <= sign <= "~" for sign in key):
        return "the key has characters other than visible ASCII"
    return f"the key looks like an {PREFIX} key, but its checksum is wrong"


def _repeated(entries: Sequence[ImportedKey]) -> Iterator[tuple[int, str]]:
    names: dict[str, int] = {}
    texts: dict[str, int] = {}
    for entry in entries:
        for noun, value, seen in (("name", entry.name, names), ("key", entry.text, texts)):
            first = seen.setdefault(value, entry.line)
            if first != entry.line:
                yield entry.line, f"the same {noun} as in line {first}"
