"""The words of others on a terminal, in a log for people, in a file of settings: one way for all.

A model's name, a backend's version or error, an end user, a file's name: whoever chose it may have
put in what a terminal obeys (ESC, C1), what turns or hides the text around it (bidi marks, widths
of nothing), or a line's end that makes lines of its own. JSON escapes all that by itself.
"""

from __future__ import annotations

import json
import re
from typing import Final

_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks to Unicode, and nothing to the eye (Default_Ignorable_Code_Point, U+2800)."""


def printable(text: str) -> str:
    """Text for one line of a terminal: as it is when that is safe, else quoted and escaped.

    Safe is what `str.isprintable` says: no control, format, surrogate or private character, no
    separator but the blank. What comes out is printable, so that twice is as good as once.
    """
    is_safe = text.isprintable() and not _UNSEEN.search(text)
    return text if is_safe else json.dumps(text)
