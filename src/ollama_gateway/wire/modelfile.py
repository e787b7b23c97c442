"""What `/api/show` tells of a machine's disk, taken out of its answer.

Ollama writes a model's layers into `modelfile` as absolute paths (`FROM /…/blobs/sha256-…`). Of
each path its last part is left. All other bytes stay as they came: the answer is not encoded anew.
"""

from __future__ import annotations

import json
import re
from typing import Final

LONGEST: Final = 256 * 1024
"""Bytes of a modelfile that is looked through; none is so long, and a longer one is left out."""
_FIELD: Final = re.compile(rb'("modelfile"\s*+:\s*+)("[^"\\]*+(?:\\.[^"\\]*+)*+")', re.DOTALL)
"""A key of that name and its string; in a string of its own its quotes would be escaped."""
# Anchored at the line, so that each line is tried once: a modelfile can be long, and anybody's.
_PATH: Final = r"[ \t]+\"?)(?:[A-Za-z]:)?[\\/](?:[^\n\"]*[\\/])?"
_LAYER: Final = re.compile(rf"(?m)^((?:FROM|ADAPTER|DRAFT){_PATH}(?=[^\\/\n\"])")
_BLOB: Final = re.compile(rf"(?m)^([A-Z]+{_PATH}(?=sha256[:-])")


def without_places(answer: bytes) -> bytes:
    """The answer without the directories of the layers."""
    return _FIELD.sub(_cleaned, answer)


def _cleaned(field: re.Match[bytes]) -> bytes:
    if len(field[2]) > LONGEST:
        return field[1] + b'""'
    try:
        text = json.loads(field[2].decode("utf-8", "replace"))
    except ValueError:
        return field[1] + b'""'  # no JSON: nothing that a client could read either
    cleaned = _BLOB.sub(r"\1", _LAYER.sub(r"\1", text))
    if cleaned == text:
        return field[0]
    return field[1] + json.dumps(cleaned, ensure_ascii=False).encode("utf-8", "replace")
