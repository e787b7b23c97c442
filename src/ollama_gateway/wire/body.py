"""A request's JSON body, read so that the value authorised is the value served.

Ollama decodes a body with Go's encoding/json: a field is found under its name in any case, the
last of several spellings wins, and whatever follows the first JSON value is ignored. A reader that
merely parses JSON would authorise `model` and let Ollama serve `MODEL`. The rule: a body on which
two readers could disagree about a top-level field is refused, so that the bytes can go upstream
untouched. One object, UTF-8 without a BOM, nothing after it, no two of its keys equal when case is
folded, no numbers outside JSON, and no deeper than any real tool schema. Inside the object, keys
may repeat; there, as in Go's maps, the last one counts.

Error texts carry no bytes of the body: they reach logs, and bodies are prompts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, NoReturn, Self

from ollama_gateway.errors import BadRequest

MAX_DEPTH: Final = 200
"""Objects and arrays inside each other, the outermost counted; tool schemas stay below 30."""

MAX_FIELDS: Final = 1000
"""Of the outermost object; Ollama knows some forty."""

_WHITESPACE: Final = b" \t\r\n"


class LongText(str):
    """A text that was left out, as it is long: nobody reads more of it than how long it is."""

    __slots__ = ("printed", "size")
    size: int
    """Its UTF-8 bytes."""
    printed: int
    """Its bytes as JSON, without quotes."""

    @classmethod
    def of(cls, size: int, printed: int) -> Self:
        """A text of this length."""
        text = cls("(long)")
        text.size, text.printed = size, printed
        return text


def utf8_size(text: str) -> int:
    """UTF-8 bytes, a lone surrogate counted as what Go puts in its place, which is as long."""
    return text.size if isinstance(text, LongText) else len(text.encode("utf-8", "surrogatepass"))


def parse(body: bytes) -> dict[str, object]:
    """Read a request body strictly: exactly one JSON object, unambiguous at its top level.

    A body of 1 MiB with 10,000 messages takes about 6 ms of CPU, of which plain `json.loads` is 2.

    Raises:
        BadRequest: it is anything else; an empty body gets Ollama's own words.

    """
    if not body.strip(_WHITESPACE):
        raise invalid_body("missing request body")
    # Decoded here, since json.loads would guess UTF-16 and UTF-32, which Ollama does not read.
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid_body("the request body must be UTF-8") from None
    document, keys = _load(text)
    if not isinstance(document, dict):
        raise invalid_body("the request body must be a JSON object")
    refuse_twice(keys)
    if not _is_shallow(document):
        raise invalid_body("the request body is nested too deeply")
    return document


def refuse_twice(keys: Sequence[str]) -> None:
    """Raise BadRequest where two keys of the outermost object are equal when case is folded."""
    if len(keys) > MAX_FIELDS:
        raise invalid_body(f"the request body has more than {MAX_FIELDS} fields")
    if len({key.casefold() for key in keys}) < len(keys):
        raise invalid_body("the request body has the same key twice")


def lookup(document: dict[str, object], key: str) -> object | None:
    """The value that Ollama reads for the field `key` (ASCII, lower case); None if absent or null.

    Names are folded as Go folds them: beyond ASCII only U+017F is an s and U+212A a k.
    `str.casefold` would also take a ligature for two letters, and find a field Ollama does not see.
    """
    if key in document:
        return document[key]
    length = len(key)
    for name, value in document.items():
        # What folds to ASCII was as long before: mostly that alone says that it is another field.
        if len(name) == length and go_fold(name) == key:
            return value
    return None


def folded(document: dict[str, object]) -> dict[str, object]:
    """A document that `parse` accepted, by the names that `lookup` would find its fields under.

    For who looks for many fields, of which most are not there.
    """
    return {go_fold(name): value for name, value in document.items()}


def text_of(document: dict[str, object], key: str) -> str:
    """The text of the field `key` (lower case), as Ollama reads it; empty if absent or null.

    Raises:
        BadRequest: it is not a string.

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
    """The model a request asks for, unparsed; empty if it names none.

    Args:
        document: a body that `parse` accepted.
        legacy: on routes that also know the old field `name`, read when `model` is empty.

    Raises:
        BadRequest: a field that is read is not a string.

    """
    model = text_of(document, "model")
    name = text_of(document, "name") if legacy else ""
    return model or name


def wants_stream(document: dict[str, object], *, default: bool) -> bool:
    """Whether the answer is to be streamed; `default` is the route's, for absent and null.

    Raises:
        BadRequest: `stream` is anything but a boolean.

    """
    stream = lookup(document, "stream")
    if stream is None:
        return default
    if not isinstance(stream, bool):
        raise invalid_body("stream must be a boolean")
    return stream


def _load(text: str) -> tuple[object, list[str]]:
    """Parse the text: its value and, if that is an object, the object's keys as they came."""
    outermost: list[tuple[str, object]] = []

    def remember(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # Objects are finished inside out: the last pairs seen are those of the outermost object.
        nonlocal outermost
        outermost = pairs
        return dict(pairs)

    try:
        document: object = json.loads(
            text, object_pairs_hook=remember, parse_float=_finite, parse_constant=_no_constant
        )
    except RecursionError:
        raise invalid_body("the request body is nested too deeply") from None
    except ValueError:  # malformed, or an integer of more digits than Python converts
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
    """Level by level, so that no depth can exhaust the stack; strings and numbers cost little."""
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
    """The name as Go's encoding/json compares the names of fields."""
    return name.replace("\u017f", "s").lower()


def invalid_body(message: str) -> BadRequest:
    """Return the error for a body that is refused; `message` must not quote the body."""
    return BadRequest(message, reason="invalid_body")
