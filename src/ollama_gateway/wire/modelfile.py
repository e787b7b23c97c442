"""Remove a backend's directories from the answer to `/api/show`.

Ollama writes a model's layers into `modelfile` as absolute paths (`FROM /…/blobs/sha256-…`). Only
the last part of each path stays. All other bytes stay as they came: the answer is not encoded
again.
"""

from __future__ import annotations

import json
import re
from typing import Final

from ollama_gateway.wire.large import Steps

_MODELFILE_KEY: Final = re.compile(rb'"modelfile"')
_MODELFILE_MEMBER: Final = re.compile(rb'"modelfile"\s*+:\s*+(")')
"""The key and the opening quote of its string; in a string the key's quotes would be escaped."""
_KEY_OVERLAP: Final = 16
_STRING_PART: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+')
# Anchored at the line start, so each line is tried once: a modelfile can be long and hostile.
_PATH: Final = r"[ \t]+\"?)(?:[A-Za-z]:)?[\\/](?:[^\n\"]*[\\/])?"
_LAYER: Final = re.compile(rf"(?m)^((?:FROM|ADAPTER|DRAFT){_PATH}(?=[^\\/\n\"])")
_BLOB: Final = re.compile(rf"(?m)^([A-Z]+{_PATH}(?=sha256[:-])")


_WINDOW: Final = 256 * 1024
"""Bytes that one step searches; a longer modelfile is replaced by an empty one."""


def without_places(answer: bytes) -> Steps[bytes]:
    """Return the answer without the directories of layers."""
    chunks, rest, at = [], 0, 0
    while at < len(answer):
        if at:
            yield
        name = _MODELFILE_KEY.search(answer, at, at + _WINDOW)
        field = (
            _MODELFILE_MEMBER.match(answer, name.start(), name.start() + _WINDOW) if name else None
        )
        if field is None:
            at = name.end() if name else at + _WINDOW - _KEY_OVERLAP
            continue
        start = field.start(1)
        at = yield from _end_of_text(answer, start + 1)
        if at < 0:
            break  # the string does not end: this is no JSON
        text = answer[start:at] if at - start <= _WINDOW else b""
        if (cleaned := _cleaned(text)) != text:
            chunks += [answer[rest:start], cleaned]
            rest = at
    return b"".join([*chunks, answer[rest:]]) if chunks else answer


def with_name(answer: bytes, model: str, asked: str) -> bytes:
    """Return the answer with another name in the comment that Ollama writes for copying."""
    old, new = (b"# FROM %b\\n" % json.dumps(name)[1:-1].encode() for name in (model, asked))
    return answer.replace(old, new, 1)


def _end_of_text(answer: bytes, at: int) -> Steps[int]:
    """Return the offset after a string's closing quote; -1 if it has none."""
    while True:
        end = _STRING_PART.match(answer, at, at + _WINDOW).end()  # type: ignore[union-attr]  # may be empty
        if answer.startswith(b'"', end):
            return end + 1
        if end == at:
            return -1
        at = end
        yield


def _cleaned(text: bytes) -> bytes:
    try:
        modelfile = json.loads(text.decode("utf-8", "replace"))
    except ValueError:
        return b'""'  # invalid JSON, or too long
    cleaned = _BLOB.sub(r"\1", _LAYER.sub(r"\1", modelfile))
    if cleaned == modelfile:
        return text
    return json.dumps(cleaned, ensure_ascii=False).encode("utf-8", "replace")
