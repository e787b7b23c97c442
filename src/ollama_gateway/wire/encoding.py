"""Decompress a request's body within bounds of memory and size.

Ollama accepts zstd on its `/v1` routes (server/cloud_proxy.go), and some clients use it for long
conversations. The decoded body goes upstream, because the model's name must be readable there. A
few hundred bytes can become gigabytes, so the output is made in chunks and the caller can stop at
any of them. Only one frame is read, with a window of at most 8 MiB as in Ollama.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Final

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import invalid_body

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

ZSTD: Final = b"zstd"
GZIP: Final = {"gzip", "x-gzip"}
MAX_OUTPUT: Final = 256 * 1024
"""Bytes of output in one chunk."""
_WINDOW_LOG: Final = 23


class Decoder:
    """Decodes zstd as the bytes arrive."""

    def __init__(self) -> None:
        self._frame = ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW_LOG})

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the output in chunks of at most `MAX_OUTPUT` bytes; raises BadRequest."""
        while data or not (self._frame.needs_input or self._frame.eof):
            if self._frame.eof:
                raise _broken()
            try:
                chunk = self._frame.decompress(data, max_length=MAX_OUTPUT)
            except ZstdError:
                raise _broken() from None
            data = self._frame.unused_data
            yield chunk

    def end(self) -> None:
        """End the body; raises BadRequest if it is incomplete."""
        if not self._frame.eof:
            raise _broken()


def unzipped(data: bytes, limit: int) -> bytes:
    """Return gzip data unpacked; empty if it is not gzip, cut, or more than `limit` bytes."""
    unzip = zlib.decompressobj(wbits=31)  # with gzip's header
    try:
        text = unzip.decompress(data, limit)
    except zlib.error:
        return b""
    return text if unzip.eof else b""


def _broken() -> BadRequest:
    return invalid_body("the request body is not valid zstd")
