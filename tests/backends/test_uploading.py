"""Bodies that come from somewhere else: framed, with back-pressure, and with own faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from ollama_gateway.backends.uploading import BodyFailed
from tests.backends.asking import OK, fetch
from tests.backends.misbehaving import (
    Peer,
    Script,
    answers,
    never_reads,
    refuses_early,
    talking_to,
)

NOTHING = OK + b"Content-Length: 0\r\n\r\n"


@attrs.define(eq=False)
class Source(httpx.AsyncByteStream):
    """Gives pieces, then ends or fails; counts what was taken."""

    pieces: Sequence[bytes]
    failure: Exception | None = None
    taken: int = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.taken < len(self.pieces):
            self.taken += 1
            return self.pieces[self.taken - 1]
        raise self.failure or StopAsyncIteration


def upload(source: Source, length: int | None = None) -> httpx.Request:
    """A request whose body comes from a source."""
    headers = {"host": "gpu-1"}
    if length is not None:
        headers["content-length"] = str(length)
    return httpx.Request("POST", "http://gpu-1/api/blobs/x", headers=headers, stream=source)


async def heard_of(script: Script, source: Source, length: int | None = None) -> bytes:
    """What a backend hears of an upload that it takes."""
    async with talking_to(script) as (transport, backend):
        assert await fetch(transport, upload(source, length)) == (200, [])
        return bytes(backend.peers[0].heard)


async def test_a_stream_of_known_length(autojump_clock: MockClock) -> None:
    """The length that the request says is the length that the backend is told."""
    heard = await heard_of(answers(NOTHING), Source([b"one ", b"", b"two"]), 7)

    assert b"\r\nContent-Length: 7\r\n" in heard
    assert b"ransfer-" not in heard
    assert heard.endswith(b"\r\n\r\none two")


async def test_a_stream_of_unknown_length(autojump_clock: MockClock) -> None:
    """Without a length the body is chunked; an empty piece does not end it."""
    script = refuses_early(NOTHING, after_reads=4)
    heard = await heard_of(script, Source([b"one ", b"", b"twelve bytes"]))

    assert b"\r\nTransfer-Encoding: chunked\r\n" in heard
    assert b"ontent-" not in heard
    assert heard.endswith(b"\r\n\r\n4\r\none \r\nc\r\ntwelve bytes\r\n0\r\n\r\n")


async def test_a_source_that_fails(autojump_clock: MockClock) -> None:
    """Its own error comes out, bare, and the connection is closed with the body unfinished."""
    failure = BodyFailed(ValueError("late"))
    source = Source([b"begun"], failure)
    async with talking_to(Peer.hear_to_the_end) as (transport, backend):
        with pytest.raises(BodyFailed) as caught:
            await fetch(transport, upload(source))
        heard = bytes(backend.peers[0].heard)

    assert caught.value is failure
    assert heard.endswith(b"5\r\nbegun\r\n")
    assert transport.open_connections == 0


async def test_an_early_answer_ends_the_upload(autojump_clock: MockClock) -> None:
    """A backend that has the blob already answers before the body is there, and that counts."""
    source = Source([b"x" * 64 * 1024] * 1000)
    async with talking_to(refuses_early(NOTHING)) as (transport, _):
        assert await fetch(transport, upload(source)) == (200, [])

    assert source.taken < len(source.pieces)


async def test_a_source_is_read_no_faster_than_the_backend_reads(
    autojump_clock: MockClock,
) -> None:
    """Of a body that the backend does not take not a piece is read."""
    source = Source([b"x" * 64 * 1024] * 1000)
    async with talking_to(never_reads) as (transport, _):
        with trio.move_on_after(5):
            await fetch(transport, upload(source, 64 * 1024 * 1000))

    assert source.taken == 0
