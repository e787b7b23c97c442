"""Undoing the compression of a request's body, bounded in memory and in size.

Ollama takes zstd on its `/v1` routes (server/cloud_proxy.go), which some clients use for long
conversations. What comes out is sent upstream as it is: there the model's name must be readable. A
few hundred bytes can become gigabytes, so the output is made in pieces, and whoever takes them can
stop. One frame is read, with a window of at most 8 MiB as in Ollama.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import invalid_body

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

ZSTD: Final = b"zstd"
MAX_OUTPUT: Final = 256 * 1024
"""Bytes that come out at once."""
_WINDOW_LOG: Final = 23


class Decoder:
    """Undoes zstd as the bytes come."""

    def __init__(self) -> None:
        self._frame = ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW_LOG})

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out, in pieces of at most `PIECE`; raises BadRequest where it is no zstd."""
        while data or not (self._frame.needs_input or self._frame.eof):
            if self._frame.eof:
                raise _broken()
            try:
                piece = self._frame.decompress(data, max_length=MAX_OUTPUT)
            except ZstdError:
                raise _broken() from None
            data = self._frame.unused_data
            yield piece

    def end(self) -> None:
        """Nothing more comes; raises BadRequest where it is not all."""
        if not self._frame.eof:
            raise _broken()


def _broken() -> BadRequest:
    return invalid_body("the request body is not valid zstd")
