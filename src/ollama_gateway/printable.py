"""Make untrusted text safe for a terminal, for a log that people read, and for a settings file.

Clients and backends choose model names, versions, error texts, end users and file names. These can
hold characters that control a terminal (ESC, C1), that reorder or hide the text around them
(bidirectional marks, zero-width characters), or line ends that forge a line. JSON needs none of
this: it escapes them itself.
"""

from __future__ import annotations

import json
import re
from typing import Final

_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks to Unicode, but invisible (Default_Ignorable_Code_Point, U+2800)."""


def printable(text: str) -> str:
    """Return text for one line of a terminal: unchanged if it is safe, else quoted and escaped.

    Safe means `str.isprintable` and no invisible letters: no control, format, surrogate or private
    character, and no separator but the space. The result is safe itself, so a second call changes
    nothing.
    """
    is_safe = text.isprintable() and not _UNSEEN.search(text)
    return text if is_safe else json.dumps(text)
