"""Chunked bodies are read as h11 reads them, however they are cut and whatever they hold."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.wire.chunked import (
    FRAMING_PER_BYTE,
    MAX_LINE,
    MAX_TRAILERS,
    SPARE_FRAMING,
    ChunkedBody,
    ChunkedBodyBroken,
    LineTooLong,
)

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
Outcome = tuple[bytes, str, bytes]
"""The bytes read; whether the body is complete, broken or unfinished; the bytes behind its end."""

chunks = st.lists(
    st.binary(min_size=1, max_size=40) | st.binary(min_size=1, max_size=2), max_size=9
)
behind = st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"])
extensions = st.sampled_from([b"", b";a=b", b";", b" ", b";x\t"])
ends = st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0;x\r\nA: b\r\n\r\n", b""])


def framed(given_chunks: list[bytes], extension: bytes, end: bytes) -> bytes:
    """Frame a body in chunks."""
    lines = (b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data in given_chunks)
    return b"".join(lines) + end


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes in two or more."""
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def read(parts: list[bytes]) -> Outcome:
    """Read a body as it arrives."""
    body, got, parts = ChunkedBody(), b"", list(parts)
    try:
        while parts and not body.is_complete:
            got += body.feed(parts.pop(0))
        got += body.feed(b"")
    except ChunkedBodyBroken:
        return got, "broken", b""
    rest = body.rest + b"".join(parts) if body.is_complete else b""
    return got, "whole" if body.is_complete else "more", rest


def read_by_h11(data: bytes, *, of_client: bool = False) -> Outcome:
    """Read the same bytes with h11, as a client or as a server."""
    connection = h11.Connection(h11.SERVER if of_client else h11.CLIENT)
    if not of_client:
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data((REQUEST if of_client else HEAD) + data)
    got = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                got += event.data
            elif isinstance(event, h11.EndOfMessage):
                return got, "whole", connection.trailing_data[0]
            elif event is h11.NEED_DATA:
                return got, "more", b""
    except h11.RemoteProtocolError:
        return got, "broken", b""


@given(chunks, extensions, ends, behind, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_a_valid_body_is_read_as_h11_reads_it(
    given_chunks: list[bytes],
    extension: bytes,
    end: bytes,
    rest: bytes,
    places: list[int],
    of_client: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    """Extensions and trailers are dropped, and it does not matter how the bytes were cut."""
    rest = rest if end else b""
    data = framed(given_chunks, extension, end) + rest
    expected = (b"".join(given_chunks), "whole" if end else "more", rest)

    assert read(cut(data, places)) == read_by_h11(data, of_client=of_client) == expected


@given(
    chunks,
    extensions,
    ends,
    st.integers(0, 400),
    st.binary(max_size=4)
    | st.sampled_from([b"\n", b"\r", b"\r\n", b"0", b"1", b";", b" ", b"\n\n"]),
    st.booleans(),
    st.lists(st.integers(0, 400)),
)
def test_a_broken_body_is_never_longer_than_for_h11(
    given_chunks: list[bytes],
    extension: bytes,
    end: bytes,
    place: int,
    noise: bytes,
    is_put_in: bool,  # noqa: FBT001 - hypothesis gives it
    places: list[int],
) -> None:
    """Bytes before a fault are passed on, and never more than h11 takes for the body.

    A complete body ends where it ends for h11: the bytes behind it are the next request.
    """
    data = framed(given_chunks, extension, end) + b"GET / HTTP/1.1\r\n"
    place %= len(data) + 1
    spoilt = data[:place] + noise + data[place + (0 if is_put_in else len(noise)) :]
    found = read(cut(spoilt, places))
    expected = read_by_h11(spoilt, of_client=True)

    assert expected[0].startswith(found[0])
    if found[1] == "whole":
        assert found == expected


def test_what_comes_behind_the_end_is_kept_apart() -> None:
    """Bytes behind the end are no part of the body; the connection cannot be reused."""
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
        b"1;" + b" " * (MAX_LINE - 40) + b"\0\r\n",
        b"0\r\nno trailer\r\n",
        b"0\r\nA: b\r\n folded\r\n\r\n",
    ],
)
def test_what_has_no_end_is_cut(data: bytes) -> None:
    """Lines and trailers are bounded, and a size is a plain number."""
    body = ChunkedBody()
    with pytest.raises(ChunkedBodyBroken):
        body.feed(data + b"\r\n" * 2 if data.startswith(b"1\n") else data)


@pytest.mark.parametrize("sizes", [[1], [15], [1, 2, 3], [1, 40], [14, 15, 16, 17]])
@pytest.mark.parametrize("form", [b"%x", b"%X", b"0%x", b"%x;a=b", b"%x "])
def test_tiny_chunks_are_read_as_any_others(sizes: list[int], form: bytes) -> None:
    """Chunks with a size of one digit, which are taken many at a time, are read like all others."""
    given_chunks = [bytes([97 + size % 26]) * size for size in sizes] * 200
    lines = (b"%b\r\n%b\r\n" % (form % len(data), data) for data in given_chunks)
    data = b"".join(lines) + b"0\r\n\r\nrest"

    assert read([data]) == read_by_h11(data) == (b"".join(given_chunks), "whole", b"rest")
    assert read([data[:777], data[777:778], data[778:]]) == read([data])


@pytest.mark.parametrize("size", [b"%020x" % 1, b"1;" + b"x" * 1000])
def test_a_body_of_framing_alone_is_broken(size: bytes) -> None:
    """A body may have as much framing as its bytes justify, and is broken with more."""
    chunk = size + b"\r\nx\r\n"
    excused = SPARE_FRAMING // (len(chunk) - 1 - FRAMING_PER_BYTE)
    body = ChunkedBody()

    for _ in range(excused):
        assert body.feed(chunk) == b"x"
    body.feed(chunk)
    with pytest.raises(ChunkedBodyBroken):
        body.feed(chunk)


def test_an_endless_line_has_an_error_of_its_own() -> None:
    """An endless line has an error of its own, so the client learns that it is too long."""
    with pytest.raises(LineTooLong):
        ChunkedBody().feed(b"5;" + b"x" * 100_000)
