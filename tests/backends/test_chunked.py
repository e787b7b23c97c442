"""Chunked bodies, read as h11 reads them, however they are cut and whatever is in them."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.backends.chunked import (
    MAX_LINE,
    MAX_TRAILERS,
    ChunkedBody,
    ChunkedBodyBroken,
)

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Outcome = tuple[bytes, str]
"""What was read, and how it stands then: whole, broken, or more is to come."""

chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
extensions = st.sampled_from([b"", b";a=b", b";", b" ", b";x\t"])
ends = st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0;x\r\nA: b\r\n\r\n", b""])


def framed(given_chunks: list[bytes], extension: bytes, end: bytes) -> bytes:
    """The bytes of a body."""
    lines = (b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data in given_chunks)
    return b"".join(lines) + end


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same in pieces."""
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def read(pieces: list[bytes]) -> Outcome:
    """What is read from pieces."""
    body, got = ChunkedBody(), b""
    try:
        for piece in pieces:
            got += body.feed(piece)
        got += body.feed(b"")
    except ChunkedBodyBroken:
        return got, "broken"
    return got, "whole" if body.is_complete else "more"


def read_by_h11(data: bytes) -> Outcome:
    """What h11 makes of the same bytes."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(HEAD + data)
    got = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                got += event.data
            elif isinstance(event, h11.EndOfMessage):
                return got, "whole"
            elif event is h11.NEED_DATA:
                return got, "more"
    except h11.RemoteProtocolError:
        return got, "broken"


@given(chunks, extensions, ends, st.lists(st.integers(0, 400), max_size=8))
def test_what_is_sound_is_read_as_h11_reads_it(
    given_chunks: list[bytes], extension: bytes, end: bytes, places: list[int]
) -> None:
    """Extensions and trailers are dropped, and it does not matter how the bytes were cut."""
    data = framed(given_chunks, extension, end)
    expected = (b"".join(given_chunks), "whole" if end else "more")

    assert read(cut(data, places)) == read_by_h11(data) == expected


@given(chunks, ends, st.integers(0, 400), st.binary(max_size=4), st.lists(st.integers(0, 400)))
def test_what_is_spoilt_is_never_taken_for_more(
    given_chunks: list[bytes], end: bytes, place: int, noise: bytes, places: list[int]
) -> None:
    """What was sound before it is handed on, and never more than h11 takes for the body."""
    data = framed(given_chunks, b"", end)
    place %= len(data) + 1
    spoilt = data[:place] + noise + data[place + len(noise) :]
    got, state = read(cut(spoilt, places))
    expected, _ = read_by_h11(spoilt)

    assert expected.startswith(got)
    if state == "whole":  # h11 reads the lines of trailers too, which are dropped here
        assert got == expected


def test_what_comes_behind_the_end_is_kept_apart() -> None:
    """It is no part of this body, and says that the connection is good for no other."""
    body = ChunkedBody()

    assert body.feed(b"2\r\nhi\r\n0\r\n\r\nHTTP") == b"hi"
    assert (body.is_complete, body.rest) == (True, b"HTTP")


@pytest.mark.parametrize(
    "data",
    [
        b"1;" + b"x" * MAX_LINE,
        b"0\r\n" + b"A: b\r\n" * MAX_TRAILERS,
        b"0\r\n" + b"x" * MAX_LINE * 2,
        b"f" * 21 + b"\r\n",
        b"-1\r\n",
        b"\r\n",
        b"1\nx\r\n0\r\n\r\n",
    ],
)
def test_what_has_no_end_is_cut(data: bytes) -> None:
    """Lines and trailers are bounded, and a size is a plain number."""
    body = ChunkedBody()
    with pytest.raises(ChunkedBodyBroken):
        body.feed(data + b"\r\n" * 2 if data.startswith(b"1\n") else data)
