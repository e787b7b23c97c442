"""Go's own words for a JSON syntax error: a scanner that finds the first one.

Python's parser decides whether a body is JSON. This scanner runs only if it is not, and walks the
bytes as `encoding/json/scanner.go` does, to say the same thing at the same byte.
"""

from __future__ import annotations

import re

_SPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_LITERALS = {b"t": b"true", b"f": b"false", b"n": b"null"}
_NAMED = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_NAMED |= {"\v": r"\v", "\\": r"\\"}
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]+')
_ASCII = 0x80
TOO_DEEP = "exceeded max depth"
MAX_DEPTH = 300  # Go allows 10,000; Python's stack ends sooner


class _Failed(Exception):
    pass


def fault(data: bytes) -> str:
    """Return Go's error for bytes that are not JSON."""
    try:
        _value(data, 0, 0)
    except _Failed as failed:
        return str(failed)
    return "unexpected EOF"


def _quoted(code: int) -> str:
    char = chr(code)
    if char in "'\"":
        return r"'\''" if char == "'" else "'\"'"
    if char in _NAMED:
        return f"'{_NAMED[char]}'"
    if char.isprintable():
        return f"'{char}'"
    return f"'\\x{code:02x}'" if code < _ASCII else f"'\\u{code:04x}'"


def _bad(data: bytes, at: int, context: str) -> _Failed:
    if at >= len(data):
        return _Failed("unexpected EOF")
    return _Failed(f"invalid character {_quoted(data[at])} {context}")


def _skip(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in _SPACE:
        at += 1
    return at


def _value(data: bytes, at: int, depth: int) -> int:
    at = _skip(data, at)
    first = data[at : at + 1]
    if depth > MAX_DEPTH:
        raise _Failed(TOO_DEEP)
    if first == b"{":
        return _object(data, at + 1, depth)
    if first == b"[":
        return _array(data, at + 1, depth)
    if first == b'"':
        return _string(data, at + 1)
    if first in _LITERALS:
        return _literal(data, at, _LITERALS[first])
    if first and first in b"-0123456789":
        return _number(data, at)
    raise _bad(data, at, "looking for beginning of value")


def _object(data: bytes, at: int, depth: int) -> int:
    at = _skip(data, at)
    if data[at : at + 1] == b"}":
        return at + 1
    while True:
        at = _skip(data, at)
        if data[at : at + 1] != b'"':
            raise _bad(data, at, "looking for beginning of object key string")
        at = _skip(data, _string(data, at + 1))
        if data[at : at + 1] != b":":
            raise _bad(data, at, "after object key")
        at = _skip(data, _value(data, at + 1, depth + 1))
        if data[at : at + 1] == b"}":
            return at + 1
        if data[at : at + 1] != b",":
            raise _bad(data, at, "after object key:value pair")
        at += 1


def _array(data: bytes, at: int, depth: int) -> int:
    at = _skip(data, at)
    if data[at : at + 1] == b"]":
        return at + 1
    while True:
        at = _skip(data, _value(data, at, depth + 1))
        if data[at : at + 1] == b"]":
            return at + 1
        if data[at : at + 1] != b",":
            raise _bad(data, at, "after array element")
        at += 1


def _string(data: bytes, at: int) -> int:
    while True:
        if plain := _PLAIN.match(data, at):
            at = plain.end()
        char = data[at : at + 1]
        if char == b'"':
            return at + 1
        if char != b"\\":
            raise _bad(data, at, "in string literal")
        at = _escape(data, at + 1)


def _escape(data: bytes, at: int) -> int:
    char = data[at : at + 1]
    if char and char in b'bfnrt\\/"':
        return at + 1
    if char != b"u":
        raise _bad(data, at, "in string escape code")
    for place in range(at + 1, at + 5):
        if place >= len(data) or data[place] not in _HEX:
            raise _bad(data, place, r"in \u hexadecimal character escape")
    return at + 5


def _literal(data: bytes, at: int, word: bytes) -> int:
    for offset, expected in enumerate(word):
        if data[at + offset : at + offset + 1] != bytes([expected]):
            context = f"in literal {word.decode()} (expecting {_quoted(expected)})"
            raise _bad(data, at + offset, context)
    return at + len(word)


def _number(data: bytes, at: int) -> int:
    if data[at] == ord("-"):
        at = _digit(data, at + 1, "in numeric literal") - 1
    at = at + 1 if data[at] == ord("0") else _digits(data, at)
    if data[at : at + 1] == b".":
        at = _digits(data, _digit(data, at + 1, "after decimal point in numeric literal"))
    if data[at : at + 1] in (b"e", b"E"):
        at += 2 if data[at + 1 : at + 2] in (b"+", b"-") else 1
        at = _digits(data, _digit(data, at, "in exponent of numeric literal"))
    return at


def _digit(data: bytes, at: int, context: str) -> int:
    if at >= len(data) or data[at] not in _DIGITS:
        raise _bad(data, at, context)
    return at + 1


def _digits(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in _DIGITS:
        at += 1
    return at
