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

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

ZSTD: Final = b"zstd"
PIECE: Final = 256 * 1024
"""Bytes that come out at once."""
_WINDOW_LOG: Final = 23


def decoded(body: bytes) -> Iterator[bytes]:
    """The pieces of a body that is compressed with zstd; raises BadRequest where it is not."""
    decoder = ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW_LOG})
    data = body
    while not decoder.eof:
        if decoder.needs_input and not data:
            raise _broken()
        try:
            piece = decoder.decompress(data, max_length=PIECE)
        except ZstdError:
            raise _broken() from None
        data = b""
        yield piece
    if decoder.unused_data:
        raise _broken()


def _broken() -> BadRequest:
    return BadRequest("the request body is not valid zstd", reason="invalid_body")
