"""Heads are taken whole; h11 parses them, but never one that would keep it busy."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_gateway.wire.receive_buffer import (
    MAX_HEAD_LINES,
    SMALL_HEAD,
    HeadBroken,
    HeadTooLarge,
    ReceiveBuffer,
)
from tests.wire.test_chunked import cut

MOST = 400
GET = b"GET / HTTP/1.1\r\nHost: h\r\n"

names = st.sampled_from([b"a", b"Content-Length", b"x y", b"", b" a", b"\xff"])
values = st.binary(max_size=6) | st.sampled_from([b"  \x00", b" \t\x0b", b"\r", b" \rb", b"\x01"])
lines = st.builds(lambda name, value: name + b":" + value, names, values)
firsts = st.sampled_from([b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"GET /", b"\r\nGET", b"\x16"])
ends = st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r\r\n"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Generate the bytes of any head, and bytes behind it."""
    said = [draw(firsts), b"Host: h", *draw(st.lists(lines, max_size=3))]
    head = b"".join(line + draw(ends) for line in said)
    return head + draw(ends) + draw(st.binary(max_size=4))


def by_h11(data: bytes) -> h11.Request | str:
    """Parse bytes with h11 alone."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST)
    parser.receive_data(data)
    try:
        event = parser.next_event()
    except h11.RemoteProtocolError:
        return "broken"
    return event if isinstance(event, h11.Request) else "more"


def here(chunks: list[bytes]) -> tuple[h11.Request | str, bytes]:
    """Take a head, parse it with h11, and return it with the bytes left behind."""
    buffer = ReceiveBuffer(MOST)
    head, chunks = None, list(chunks)
    try:
        while chunks and head is None:
            buffer.put(chunks.pop(0))
            head = buffer.take_head()
    except HeadBroken:
        return "broken", b""
    if head is None:
        return "more", b""
    return by_h11(head), buffer.take(len(buffer)) + b"".join(chunks)


@given(heads(), st.lists(st.integers(0, 400), max_size=8))
@example(GET + b"a:  \x00\r\n\r\n", [])
@example(GET + b"a:  \rb\r\n\r\n", [])
def test_a_head_is_what_it_is_to_h11(data: bytes, places: list[int]) -> None:
    """However bytes are cut, they give the same request or none, and the same rest."""
    found, rest = here(cut(data, places))

    assert found == by_h11(data)
    if isinstance(found, h11.Request):
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(data)
        parser.next_event()
        assert rest == parser.trailing_data[0]


@pytest.mark.parametrize("end", [b"\x00", b"\x0b", b"\x0c", b"\rb"])
def test_white_space_before_what_cannot_be_never_reaches_h11(end: bytes) -> None:
    """h11 never sees whitespace that it would divide in every way: seconds for the longest head."""
    buffer = ReceiveBuffer(32 * 1024)
    buffer.put(GET + b"a:" + b" " * SMALL_HEAD + end + b"\r\n\r\n")

    with pytest.raises(HeadBroken):
        buffer.take_head()


@pytest.mark.parametrize(
    "data",
    [
        GET + b"a: " + b"x" * MOST,
        GET + b"a: " + b"x" * MOST + b"\r\n\r\n",
        b"GET / HTTP/1.1\n" + b"a:\n" * MOST + b"\n",
    ],
)
def test_a_head_that_is_too_large_has_an_error_of_its_own(data: bytes) -> None:
    """A head over the bound of bytes is too large, whether or not it has an end."""
    buffer = ReceiveBuffer(MOST)
    buffer.put(data)

    with pytest.raises(HeadTooLarge):
        buffer.take_head()


def test_lines_are_counted() -> None:
    """Lines are limited, as each costs time however short it is."""
    buffer = ReceiveBuffer(32 * 1024)
    buffer.put(GET + b"a:\r\n" * MAX_HEAD_LINES + b"\r\n")

    with pytest.raises(HeadTooLarge):
        buffer.take_head()


def test_heads_follow_one_another() -> None:
    """The bytes behind a head are the next one, or a body that is taken by its length."""
    buffer = ReceiveBuffer(MOST)
    buffer.put(GET + b"\r\nbody" + GET + b"\r\n" + GET)

    assert buffer.take_head() == GET + b"\r\n"
    assert buffer.take(4) == b"body"
    assert buffer.take_head() == GET + b"\r\n"
    assert buffer.take_head() is None
    buffer.put(b"\r\n")
    assert buffer.take_head() == GET + b"\r\n"
    assert len(buffer) == 0
