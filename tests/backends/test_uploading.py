"""Streamed bodies: framing, back-pressure and their own errors."""

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
    """Yields parts, then ends or fails; counts the parts taken."""

    parts: Sequence[bytes]
    failure: Exception | None = None
    taken: int = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.taken < len(self.parts):
            self.taken += 1
            return self.parts[self.taken - 1]
        raise self.failure or StopAsyncIteration


def upload(source: Source, length: int | None = None) -> httpx.Request:
    """Make a request with a streamed body."""
    headers = {"host": "gpu-1"}
    if length is not None:
        headers["content-length"] = str(length)
    return httpx.Request("POST", "http://gpu-1/api/blobs/x", headers=headers, stream=source)


async def heard_of(script: Script, source: Source, length: int | None = None) -> bytes:
    """Return the bytes that a backend reads of an upload."""
    async with talking_to(script) as (transport, backend):
        assert await fetch(transport, upload(source, length)) == (200, [])
        return bytes(backend.peers[0].heard)


async def test_a_stream_of_known_length(autojump_clock: MockClock) -> None:
    """The request's Content-Length is sent to the backend."""
    heard = await heard_of(answers(NOTHING), Source([b"one ", b"", b"two"]), 7)

    assert b"\r\nContent-Length: 7\r\n" in heard
    assert b"ransfer-" not in heard
    assert heard.endswith(b"\r\n\r\none two")


async def test_a_stream_of_unknown_length(autojump_clock: MockClock) -> None:
    """Without a length the body is chunked; an empty part does not end it."""
    script = refuses_early(NOTHING, after_reads=4)
    heard = await heard_of(script, Source([b"one ", b"", b"twelve bytes"]))

    assert b"\r\nTransfer-Encoding: chunked\r\n" in heard
    assert b"ontent-" not in heard
    assert heard.endswith(b"\r\n\r\n4\r\none \r\nc\r\ntwelve bytes\r\n0\r\n\r\n")


async def test_a_source_that_fails(autojump_clock: MockClock) -> None:
    """The source's own error is raised, not in a group, and the body stays unfinished."""
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
    """A backend may answer before the body is sent, and its answer is used."""
    source = Source([b"x" * 64 * 1024] * 1000)
    async with talking_to(refuses_early(NOTHING)) as (transport, _):
        assert await fetch(transport, upload(source)) == (200, [])

    assert source.taken < len(source.parts)


async def test_a_source_is_read_no_faster_than_the_backend_reads(
    autojump_clock: MockClock,
) -> None:
    """If the backend reads nothing, no part is taken from the source."""
    source = Source([b"x" * 64 * 1024] * 1000)
    async with talking_to(never_reads) as (transport, _):
        with trio.move_on_after(5):
            await fetch(transport, upload(source, 64 * 1024 * 1000))

    assert source.taken == 0
