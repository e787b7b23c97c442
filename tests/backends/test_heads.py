"""Answers read without h11, compared with h11's reading of the same bytes."""

from __future__ import annotations

import h11
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_gateway.backends.framing import body_of
from ollama_gateway.backends.heads import MAX_INTERIM, Found, HeadByH11, plain_head
from ollama_gateway.wire.chunked import ChunkedBodyBroken
from tests.backends.asking import CHUNKED, OK, chunk
from tests.wire.test_chunked import cut

MOST = 400
Read = tuple[bytes, bool, bool]
"""A body, whether it is whole, and whether another answer may follow on the connection."""

OLLAMA = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Date: Mon, 01 Jan 2026 00:00:00 GMT\r\n"
)
methods = st.sampled_from(["POST", "POST", "GET", "HEAD"])
firsts = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 404 ", b"HTTP/1.1 204 No"]) | (
    st.sampled_from([b"HTTP/1.1 304 X", b"HTTP/1.1 503 \xff", b"HTTP/1.1 200", b"HTTP/1.0 200 OK"])
    | st.sampled_from([b"HTTP/1.1 100 Go", b"HTTP/1.1 600 X", b"HTTP/2.0 200 X"])
)
names = st.sampled_from([b"Content-Type", b"Connection", b"connection", b"Set-Cookie"]) | (
    st.sampled_from([b"x_1", b"bad name", b"", b"\xff"])
)
values = st.one_of(
    st.sampled_from([b"a", b"", b"close", b"Keep-Alive", b"x, CLOSE", b"a:b", b"a b ", b"\tc"]),
    st.binary(max_size=4),
)
lines = st.builds(lambda n, s, v: n + s + v, names, st.sampled_from([b": ", b":", b" : "]), values)
framings = st.sampled_from(
    [b"Content-Length: 5", b"content-length:0", b"Content-Length: 5, 5", b"Content-Length: +5",
     b"Content-Length: 00000000000000000007", b"Transfer-Encoding: chunked",
     b"Transfer-Encoding: Chunked", b"Transfer-Encoding: gzip", b"transfer-encoding: chunked "]
)  # fmt: skip
bodies = st.binary(max_size=8) | st.sampled_from(
    [chunk(b"hello") + b"0\r\n\r\n", chunk(b"a") + chunk(b"b"), b"5\r\nhel", b"0;"]
)


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """Make the bytes of an answer with an arbitrary head."""
    said = draw(st.lists(lines, max_size=3)) + draw(st.lists(framings, min_size=1, max_size=2))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\n ", b"\r"]))
    head = draw(firsts) + end + end.join(draw(st.permutations(said))) + b"\r\n\r\n"
    return head + draw(bodies)


sound = st.builds(
    lambda first, framing, closing, body: b"\r\n".join([first, framing, closing, body]),
    st.sampled_from([OLLAMA[:-2], b"HTTP/1.1 404 Not Found", b"HTTP/1.1 204 No"]),
    st.sampled_from([b"Content-Length: 5", b"content-length:0", b"Transfer-Encoding: chunked"]),
    st.sampled_from([b"", b"Connection: close\r\n", b"connection: a,Close\r\nX:\r\n"]),
    bodies,
)
answers = odd() | sound


def by_h11(method: str, data: bytes) -> tuple[h11.Response | None, Read]:
    """Read an answer with h11."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    head, got = None, b""
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                got += event.data
            elif isinstance(event, h11.EndOfMessage):
                is_kept = connection.their_state is h11.DONE and not connection.trailing_data[0]
                return head, (got, True, is_kept)
    except h11.RemoteProtocolError:
        pass  # the bytes read until then count
    return head, (got, False, False)


def read(method: str, found: Found, places: list[int]) -> Read:
    """Read the body after a head, in chunks."""
    head, rest = found
    body, got = body_of(method, head), b""
    try:
        for part in cut(rest, places):
            got += body.feed(part)
        got += body.feed(b"")
    except ChunkedBodyBroken:
        return got, False, False
    return got, body.is_complete, body.is_complete and head.keeps_connection and not body.rest


def agree(method: str, data: bytes, places: list[int]) -> None:
    """Assert that h11 reads a plain head in the same way, and its answer too."""
    found = plain_head(data, MOST)
    if found is None:
        return
    head, rest = found
    other = HeadByH11(method, MOST).feed(data)
    event, expected = by_h11(method, data)
    assert other is not None
    assert event is not None
    assert (head.status, head.headers) == (event.status_code, event.headers.raw_items())
    assert (head.reason, head.version, head.fields) == (event.reason, b"1.1", dict(event.headers))
    assert (other[0].fields, other[1]) == (head.fields, rest)
    assert other[0].keeps_connection == head.keeps_connection
    got = read(method, found, places)
    # Of a chunked body h11 reads the lines of trailers too, which are dropped here.
    if b"transfer-encoding" in head.fields:
        assert expected[0].startswith(got[0])
        assert got[0] == expected[0] or not got[1]
    else:
        assert got == expected


@given(methods, answers, st.lists(st.integers(0, 60), max_size=4))
@example("POST", OLLAMA + b"Content-Length: 2\r\n\r\nhiHTTP", [1])
@example("POST", CHUNKED + chunk(b"hi") + b"0\r\n\r\n", [3, 7])
@example("HEAD", CHUNKED, [])
def test_what_is_read_here_h11_reads_in_the_same_way(
    method: str, data: bytes, places: list[int]
) -> None:
    """Status, headers, body, its end and the bytes after it agree for any split of the body."""
    agree(method, data, places)


@given(methods, answers, st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_what_is_spoilt_is_not_read_here_unless_h11_reads_it(
    method: str, data: bytes, place: int, noise: bytes
) -> None:
    """No head is accepted that h11 refuses or reads differently."""
    place %= len(data)
    agree(method, data[:place] + noise + data[place + len(noise) :], [])


@pytest.mark.parametrize(
    "head",
    [
        OLLAMA + b"Content-Length: 2\r\n\r\n",
        OLLAMA + b"Transfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ],
)
def test_ordinary_heads_do_not_need_h11(head: bytes) -> None:
    """Heads of Ollama are read without h11, up to the exact size limit."""
    found = plain_head(head + b"more", len(head))

    assert found is not None
    assert found[1] == b"more"
    assert plain_head(head + b"more", len(head) - 1) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(OK + b"Content-Length: 2\r\n", id="not whole"),
        pytest.param(OK + b"\r\n", id="without framing"),
        pytest.param(OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n", id="twice"),
        pytest.param(CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n", id="two framings"),
        pytest.param(OK + b"Content-Length: 2, 2\r\n\r\n", id="a list"),
        pytest.param(OK + b"Content-Length: 2\r\nA: b\r\n c\r\n\r\n", id="folded"),
        pytest.param(OK + b"Content-Length: 2\nA: b\r\n\r\n", id="a bare LF"),
        pytest.param(OK + b"Content-Length: 2\r\nA: b\x01\r\n\r\n", id="a control character"),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n", id="interim"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", id="HTTP/1.0"),
    ],
)
def test_what_is_not_ordinary_is_left_to_h11(data: bytes) -> None:
    """Unusual heads are left to h11, whether they are valid or not."""
    assert plain_head(data, MOST) is None


def test_what_is_said_twice_is_joined() -> None:
    """A repeated header keeps its lines, and its field has both values."""
    found = HeadByH11("POST", MOST).feed(OK + b"A: b\r\na: c\r\n\r\n")

    assert found is not None
    assert found[0].headers == [(b"A", b"b"), (b"a", b"c")]
    assert found[0].fields == {b"a": b"b, c"}


def test_interim_answers_are_counted_however_they_come() -> None:
    """Sixteen interim answers are accepted, and the seventeenth is refused."""
    reader = HeadByH11("POST", 16 * 1024)
    for _ in range(MAX_INTERIM):
        assert reader.feed(b"HTTP/1.1 103 Hint\r\n\r\n") is None

    with pytest.raises(httpx.RemoteProtocolError, match="interim"):
        reader.feed(b"HTTP/1.1 103 Hint\r\n\r\n")


@pytest.mark.parametrize("end", [b"\0", b"\x0b", b"\rb"])
def test_what_would_keep_h11_busy_is_refused_without_it(end: bytes) -> None:
    """White space before an invalid byte would keep h11 busy for seconds, for 64 KiB."""
    with pytest.raises(httpx.RemoteProtocolError, match="broke HTTP"):
        HeadByH11("POST", 64 * 1024).feed(OK + b"a:" + b" " * 60_000 + end + b"\r\n\r\n")
