"""The heads of ordinary answers, parsed as a client parses them."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_gateway.http.heads import chunked_head, whole_head
from ollama_gateway.wire.headers import Headers

NAMES = st.sampled_from([b"content-type", b"x-a", b"X-B", b"", b"x y", b"x:", b"connection"])
VALUES = st.binary(max_size=6) | st.sampled_from([b"a b", b"\r\nx-c: d", b"a\nb", b"\xff", b"\t"])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


def read(data: bytes) -> tuple[int, Headers, bytes]:
    """Parse an answer with h11 into status, headers with lower-case names, and body."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert not client.trailing_data[0]
    return head.status_code, list(head.headers), body


def stripped(headers: Headers) -> Headers:
    """Return headers as parsed: names in lower case, values without surrounding white space."""
    return [(name.lower(), value.strip(b" \t")) for name, value in headers]


@given(st.sampled_from([200, 404, 503]), HEADERS)
@example(200, [(b"x-a", b"1\r\nx-b: 2")])
def test_a_whole_answer_is_read_as_it_was_meant(status: int, headers: Headers) -> None:
    """h11 parses exactly the headers that were given, or the head is left to h11."""
    headers = [*headers, (b"content-length", b"4")]
    head = whole_head(status, headers, 4)
    if head is not None:
        assert read(head + b"body") == (status, stripped(headers), b"body")


@given(st.sampled_from([200, 404, 503]), HEADERS)
def test_an_answer_in_chunks_is_read_as_it_was_meant(status: int, headers: Headers) -> None:
    """A chunked answer parses as given, with its Transfer-Encoding, or is left to h11."""
    head = chunked_head(status, headers)
    if head is not None:
        wanted = [*stripped(headers), (b"transfer-encoding", b"chunked")]
        assert read(head + b"4\r\nbody\r\n0\r\n\r\n") == (status, wanted, b"body")


@pytest.mark.parametrize(
    "extra",
    [
        [(b"connection", b"close")],
        [(b"Connection", b"close")],
        [(b"transfer-encoding", b"gzip")],
        [(b"x-a", b"1\r\nx-b: 2")],
        [(b"x-a", b"1\nx-b: 2")],
        [(b"x a", b"1")],
        [(b"x-a", b"\x00")],
        [(b"content-length", b"5")],
    ],
)
def test_what_is_not_ordinary_is_left_to_h11(extra: Headers) -> None:
    """Connection headers, a wrong length and invalid headers are left to h11."""
    assert whole_head(200, [*extra, (b"content-length", b"4")], 4) is None
    assert chunked_head(200, extra) is None


def test_a_missing_length_is_left_to_h11() -> None:
    """A whole answer without a Content-Length is left to h11."""
    assert whole_head(200, [(b"x-a", b"1")], 4) is None


def test_most_answers_are_ordinary() -> None:
    """A usual answer is written here, so the tests above show something."""
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"x-request-id", b"a1")]
    assert whole_head(200, [*headers, (b"content-length", b"4")], 4)
    assert chunked_head(200, headers)


def test_an_interim_status_is_no_answer() -> None:
    """Interim statuses, and statuses outside HTTP's range, are left to h11."""
    for status in (100, 101, 600, 1000):
        assert chunked_head(status, []) is None
