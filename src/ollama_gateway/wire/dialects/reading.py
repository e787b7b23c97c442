"""Read a backend's JSON without trusting it; shared by the dialects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast

import attrs

from ollama_gateway.wire.outline import UNREAD

Shape = Mapping[str, str]
"""Members of an answer, and how their JSON begins: `{`, `"`, `[`, or `[` and how its first element
begins; 9 stands for a number."""


@attrs.frozen
class ReportedUsage:
    """Tokens that a backend reported; at least one of the two counts is there."""

    prompt: int | None
    """Tokens of the prompt, cached ones included; None if not reported."""
    completion: int | None
    """Tokens of the answer; None if not reported."""
    cached: int | None = None
    """Tokens of the prompt that the backend had in its cache; None if it does not tell."""
    prompt_seconds: float | None = None
    """Seconds that the backend took to read the tokens not cached; None if not reported."""
    seconds: float | None = None
    """Seconds that the backend took to write the answer; None if not reported."""


@attrs.frozen
class Reading:
    """The meaning of a frame."""

    error: str | None = None
    """The backend's error text, if the frame is an error."""
    is_last: bool = False
    """The frame is the dialect's end marker; nothing else makes a stream complete."""
    usage: ReportedUsage | None = None
    is_garbled: bool = False
    """The frame does not belong to this dialect."""


ORDINARY: Final = Reading()
"""Neither an error nor the end, no usage: nearly every frame of a stream."""
GARBLED: Final = Reading(is_garbled=True)
MAX_PARSED_FRAME: Final = 256 * 1024
"""Bytes of a frame up to which it is parsed, or searched for text, in one go."""
ERROR_TEXT_LIMIT: Final = 500
"""Characters of a backend's error text that are kept."""


def json_object(data: bytes) -> dict[str, object] | None:
    """Parse a JSON object; None for anything else, however broken."""
    try:
        document = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", document) if isinstance(document, dict) else None


def data_of(event: bytes) -> bytes:
    """Return the `data` of a server-sent event: its lines joined, other fields dropped."""
    lines = (line.rstrip(b"\r") for line in event.split(b"\n"))
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def long_data(event: bytes) -> bytes:
    """Return the `data` of an event with one such line, however long; empty for any other event."""
    start = 0 if event.startswith(b"data:") else event.find(b"\ndata:") + 1
    end = event.find(b"\n", start)
    is_one = event.startswith(b"data:", start) and end >= 0 and len(event) - end <= len("\n\r\n")
    return event[start + 5 : end].strip() if is_one else b""


def one_line(value: object) -> bytes:
    """Write compact JSON: no spaces, one line."""
    return json.dumps(value, separators=(",", ":")).encode()


def error_text(value: object) -> str:
    """Return a backend's error from either shape, `"text"` or `{"message": "text"}`, cut short."""
    if isinstance(value, dict):
        value = value.get("message")
    return value[:ERROR_TEXT_LIMIT] if isinstance(value, str) else "backend error"


MAX_REPORTED_TOKENS: Final = 10**9
"""A report of more is not believed: no model reads or writes so many for one request."""


def usage_of(prompt: object, completion: object, *, cached: object = None) -> ReportedUsage | None:
    """Return the usage that two counts report; None if neither reports anything.

    A zero reports nothing. Ollama writes it where it does not know the count: in every chunk of a
    completion, and in an answer whose model ended without a word. Older versions leave
    `prompt_eval_count` out where the whole prompt was cached. A value that is no count reports
    nothing either.

    Args:
        prompt: tokens of the prompt, cached ones included.
        completion: tokens of the answer.
        cached: tokens of the prompt that were cached, 0 for none; a lower bound of the prompt, and
            without meaning if there is no prompt.

    """
    found = cached_count_of(cached)
    read = max(count_of(prompt) or 0, found or 0) or None
    written = count_of(completion)
    if read is None and written is None:
        return None
    return ReportedUsage(read, written, None if read is None else found)


def count_of(value: object) -> int | None:
    """Return a number of tokens from 1 to `MAX_REPORTED_TOKENS`; None for anything else."""
    return value if type(value) is int and 0 < value <= MAX_REPORTED_TOKENS else None


def cached_count_of(value: object) -> int | None:
    """Return a number of cached tokens: as `count_of`, but 0 says that none were cached."""
    return 0 if type(value) is int and value == 0 else count_of(value)


def member_of(value: object, name: str) -> object:
    """Return a member of an object; None if it is absent or `value` is no object."""
    return value.get(name) if isinstance(value, dict) else None


def strings_under(*keys: str) -> re.Pattern[bytes]:
    """Return a pattern that finds the strings under these keys, as they are written."""
    names = "|".join(keys).encode()
    return re.compile(rb'"(?:%b)" *+: *+"([^"\\]*+(?:\\.[^"\\]*+)*+)"' % names, re.DOTALL)


def strings_size(frame: bytes, words: re.Pattern[bytes], printed: bytes | None = None) -> int:
    """Count the bytes of the strings that `words` finds, and of all from the key `printed` on.

    A frame over `MAX_PARSED_FRAME` is not searched and counts whole.
    """
    if len(frame) > MAX_PARSED_FRAME:
        return len(frame)
    rest = frame.find(printed) if printed is not None else -1
    if rest < 0:
        return sum(map(len, words.findall(frame)))
    return sum(map(len, words.findall(frame, 0, rest))) + len(frame) - rest


def whole_answer(document: dict[str, object], usage: ReportedUsage | None) -> Reading:
    """Read a whole answer; `"error": null` is no error."""
    error = document.get("error")
    if error is not None:
        return Reading(error=error_text(error), usage=usage)
    return Reading(is_last=True, usage=usage)


_KINDS: Final[dict[type, str]] = {dict: "{", str: '"', int: "9", float: "9"}


def has_shape(document: Mapping[str, object], shape: Shape) -> bool:
    """Return True if the document has one of the members, and of its kind."""
    return any(_begins(document.get(name), kind) for name, kind in shape.items())


def _begins(value: object, kind: str) -> bool:
    """Return True if the JSON of a value begins with `kind`."""
    if isinstance(value, list):
        is_first = value is UNREAD or kind == "[" or (bool(value) and _begins(value[0], kind[1:]))
        return kind[0] == "[" and is_first
    return _KINDS.get(type(value)) == kind
