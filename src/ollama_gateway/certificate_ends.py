"""When a certificate ends: the one fact of X.509 that Python tells of a peer's alone.

Only the structure down to the validity is walked (RFC 5280, 4.1): of DER's types the sequence, the
two times, and the lengths of all others.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Final

BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
END: Final = b"-----END CERTIFICATE-----"
MAX_FILE: Final = 1024 * 1024
"""Bytes of a chain that are read."""
SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
LONG_LENGTH: Final = 0x80
"""The bit that says that a length has several bytes."""


class NoCertificate(Exception):
    """A file has no certificate that can be read."""


def end_of(pem: bytes) -> float:
    """Return when the first certificate of a chain ends, in seconds since 1970.

    Raises NoCertificate.
    """
    start = pem[:MAX_FILE].find(BEGIN)
    stop = pem.find(END, start)
    try:
        if start < 0 or stop < 0:
            raise NoCertificate
        return _end(ssl.PEM_cert_to_DER_cert(pem[start : stop + len(END)].decode("ascii")))
    except (IndexError, ValueError):
        raise NoCertificate from None


def _end(der: bytes) -> float:
    whole, _ = _take(der, SEQUENCE)
    rest, _ = _take(whole, SEQUENCE)
    if rest[0] == VERSION:
        _, rest = _take(rest)
    for _ in range(3):  # serial number, algorithm, issuer
        _, rest = _take(rest)
    validity, _ = _take(rest, SEQUENCE)
    _, after = _take(validity)
    form = "%y%m%d%H%M%SZ" if after[0] == UTC_TIME else "%Y%m%d%H%M%SZ"
    text, _ = _take(after)
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()


def _take(data: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """Split the first value from what follows it; raises NoCertificate, IndexError."""
    if tag is not None and data[0] != tag:
        raise NoCertificate
    length, start = data[1], 2
    if length & LONG_LENGTH:
        start += length & ~LONG_LENGTH
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise NoCertificate
    return data[start : start + length], data[start + length :]
