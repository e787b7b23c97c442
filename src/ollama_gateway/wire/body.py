"""Read a request's JSON body so that the value authorised is the value served.

Ollama decodes a body with Go's encoding/json: it finds a field under its name in any case, takes
the last of several spellings, and ignores whatever follows the first JSON value. A reader that
merely parses JSON would authorise `model` and let Ollama serve `MODEL`. The rule: a body on which
two readers could disagree about a top-level field is refused, so the bytes can go upstream
unchanged. It must be one object in UTF-8 without a BOM, with nothing after it, without two keys
that are equal when case is folded, without numbers outside JSON, and no deeper than any real tool
schema. Nested objects may repeat keys; there the last one counts, as in Go's maps.

Error messages quote none of the body: they are logged, and bodies are prompts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, NoReturn, Self

from ollama_gateway.errors import BadRequest
from ollama_gateway.reasons import Reason

MAX_DEPTH: Final = 200
"""Nesting depth of objects and arrays, the outermost included; tool schemas stay below 30."""

MAX_FIELDS: Final = 1000
"""Keys of the outermost object; Ollama knows some forty."""

JSON_WHITESPACE: Final = b" \t\r\n"


class LongText(str):
    """Stands for a long string of which only the size is known, or the size and the beginning."""

    __slots__ = ("printed", "size")
    size: int
    """UTF-8 bytes of the text."""
    printed: int
    """Bytes of the text as JSON, without quotes."""

    @classmethod
    def of(cls, size: int, printed: int, begun: str = "(long)") -> Self:
        """Create one of this size."""
        text = cls(begun)
        text.size, text.printed = size, printed
        return text


def utf8(text: str) -> bytes:
    """Return the UTF-8 bytes; a lone surrogate has as many as Go's replacement for it."""
    return text.encode("utf-8", "surrogatepass")


def utf8_size(text: str) -> int:
    """Count the UTF-8 bytes."""
    return text.size if isinstance(text, LongText) else len(utf8(text))


def parse(body: bytes) -> dict[str, object]:
    """Read a request body strictly: exactly one JSON object, unambiguous at its top level.

    A body of 1 MiB with 10,000 messages takes about 6 ms of CPU, of which plain `json.loads` takes
    2.

    Raises:
        BadRequest: the body is anything else; an empty one gets Ollama's own message.

    """
    if not body.strip(JSON_WHITESPACE):
        raise invalid_body("missing request body")
    # Decoded here, as json.loads would guess UTF-16 and UTF-32, which Ollama does not read.
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid_body("the request body must be UTF-8") from None
    document, keys = _load(text)
    if not isinstance(document, dict):
        raise invalid_body("the request body must be a JSON object")
    refuse_repeated_keys(keys)
    if not _is_shallow(document):
        raise invalid_body("the request body is nested too deeply")
    return document


def refuse_repeated_keys(keys: Sequence[str]) -> None:
    """Raise BadRequest if two keys of the outermost object are equal when case is folded."""
    if len(keys) > MAX_FIELDS:
        raise invalid_body(f"the request body has more than {MAX_FIELDS} fields")
    if len({key.casefold() for key in keys}) < len(keys):
        raise invalid_body("the request body has the same key twice")


def lookup(document: dict[str, object], key: str) -> object | None:
    """Return the value that Ollama reads for a field (ASCII, lower case); None if absent or null.

    Names are folded as Go folds them: beyond ASCII only U+017F becomes s and U+212A becomes k.
    `str.casefold` would also fold a ligature to two letters, and find a field that Ollama does not.
    """
    if key in document:
        return document[key]
    length = len(key)
    for name, value in document.items():
        # Names that fold to ASCII keep their length, so the length alone rules most names out.
        if len(name) == length and go_fold(name) == key:
            return value
    return None


def folded(document: dict[str, object]) -> dict[str, object]:
    """Return an accepted document with its names folded as `lookup` folds them.

    This is faster than `lookup` when a caller needs many fields, most of them absent.
    """
    return {go_fold(name): value for name, value in document.items()}


def text_of(document: dict[str, object], key: str) -> str:
    """Return the string in a field (lower case), as Ollama reads it; empty if absent or null.

    Raises:
        BadRequest: the value is not a string.

    """
    value = lookup(document, key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid_body(f"{key} must be a string")
    if isinstance(value, LongText):
        raise invalid_body(f"{key} is too long")
    return value


def model_of(document: dict[str, object], *, legacy: bool = False) -> str:
    """Return the model that a request names, not parsed; empty if it names none.

    Args:
        document: a body that `parse` accepted.
        legacy: whether the route also knows the old field `name`, read when `model` is empty.

    Raises:
        BadRequest: one of these fields is not a string.

    """
    model = text_of(document, "model")
    name = text_of(document, "name") if legacy else ""
    return model or name


def wants_stream(document: dict[str, object], *, default: bool) -> bool:
    """Return whether the answer is to be streamed; the route's `default` holds for absent and null.

    Raises:
        BadRequest: `stream` is not a boolean.

    """
    stream = lookup(document, "stream")
    if stream is None:
        return default
    if not isinstance(stream, bool):
        raise invalid_body("stream must be a boolean")
    return stream


def _load(text: str) -> tuple[object, list[str]]:
    """Parse the text; return its value and, if that is an object, its keys in order."""
    outermost: list[tuple[str, object]] = []

    def remember(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # Inner objects are finished first, so the last pairs seen are those of the outermost
        # object.
        nonlocal outermost
        outermost = pairs
        return dict(pairs)

    try:
        document: object = json.loads(
            text, object_pairs_hook=remember, parse_float=_finite, parse_constant=_no_constant
        )
    except RecursionError:
        raise invalid_body("the request body is nested too deeply") from None
    except ValueError:  # malformed, or an integer with more digits than Python converts
        raise invalid_body("the request body is not valid JSON") from None
    return document, [key for key, _ in outermost]


def _finite(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise invalid_body("the request body has a number out of range")
    return number


def _no_constant(_literal: str) -> NoReturn:
    raise invalid_body("the request body is not valid JSON")


def _is_shallow(document: dict[str, object]) -> bool:
    """Check level by level, so no depth exhausts the stack; strings and numbers cost little."""
    level: list[dict[str, object] | list[object]] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return True
    return False


def go_fold(name: str) -> str:
    """Fold a name as Go's encoding/json does to compare field names."""
    return name.replace("\u017f", "s").lower()


def invalid_body(message: str) -> BadRequest:
    """Return the error for a body that is refused; `message` must not quote the body."""
    return BadRequest(message, reason=Reason.INVALID_BODY)
