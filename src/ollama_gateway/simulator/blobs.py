"""`/api/blobs/:digest`: ask whether a blob exists, or upload it.

An upload is counted and hashed as it arrives (`exchange.Upload`), and never kept. If its digest
differs from the path's, it is refused, but it exists afterwards under its own.
"""

from __future__ import annotations

import re

from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.exchange import UPLOADS, Exchange, Upload
from ollama_gateway.simulator.library import Library

DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


async def blob(library: Library, exchange: Exchange) -> None:
    """HEAD or POST /api/blobs/:digest."""
    digest = exchange.path.removeprefix(UPLOADS)
    if not DIGEST.fullmatch(digest):
        raise Refusal(400, "invalid digest format")
    is_there = digest.replace("-", ":") in library.blobs
    if not is_there and exchange.method == "HEAD":
        raise Refusal(404, f'blob "{digest}" not found')
    if is_there:
        await exchange.respond(200)
        return
    await _store(library, exchange, digest, exchange.seen.upload or Upload())


async def _store(library: Library, exchange: Exchange, digest: str, upload: Upload) -> None:
    library.blobs[upload.digest] = upload.size
    if upload.digest != digest:
        message = f'digest mismatch, expected "{digest}", got "{upload.digest}"'
        raise Refusal(400, message)
    await exchange.respond(201)
