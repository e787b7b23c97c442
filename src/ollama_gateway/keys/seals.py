"""Random texts with a checksum, of which keys and admin tokens consist.

The checksum is a CRC-32: it finds every typo within 32 consecutive bits, and is no defence.
"""

from __future__ import annotations

import secrets
import string
import zlib
from typing import Final

_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET: Final = 43  # 62**43 > 2**256
_CHECKSUM: Final = 6  # 62**6 > 2**32
SEAL: Final = _SECRET + _CHECKSUM
"""The characters that `sealed` appends."""


def sealed(beginning: str) -> str:
    """Return a text with 256 random bits behind it, and a checksum of the whole."""
    body = beginning + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET))
    return body + _checksum(body)


def is_sealed(text: str) -> bool:
    """Whether a text ends with its checksum."""
    return text.endswith(_checksum(text[:-_CHECKSUM]))


def _checksum(body: str) -> str:
    rest, signs = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM):
        rest, sign = divmod(rest, len(_ALPHABET))
        signs += _ALPHABET[sign]
    return signs
