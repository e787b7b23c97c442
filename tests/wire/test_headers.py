from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.wire.headers import credential, downstream_headers, upstream_headers

_PAIRS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=8)


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Type",
        b"accept",
        b"Accept-Language",
        b"User-Agent",
        b"OpenAI-Beta",
        b"Anthropic-Version",
        b"anthropic-beta",
        b"traceparent",
        b"tracestate",
    ],
)
def test_goes_upstream(name: bytes) -> None:
    """Tracing, and headers that an answer may depend on, reach the backend unchanged."""
    assert upstream_headers([(name, b"Some Value")]) == [(name.lower(), b"Some Value")]


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"Proxy-Authorization",
        b"x-api-key",
        b"API-Key",
        b"Cookie",
        b"Origin",
        b"Referer",
        b"Forwarded",
        b"X-Forwarded-For",
        b"X-Forwarded-Host",
        b"X-Real-IP",
        b"Via",
        b"Host",
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Content-Encoding",
        b"Content-Length",
        b"Accept-Encoding",
        b"Expect",
        b"OpenAI-Organization",
        b"OpenAI-Project",
        b"X-Stainless-Lang",
        b"X-My-Secret",
        b"",
    ],
)
def test_stays_here(name: bytes) -> None:
    """Credentials, addresses, framing and unknown headers never reach a backend."""
    assert upstream_headers([(name, b"v"), (b"Accept", b"*/*")]) == [(b"accept", b"*/*")]


@pytest.mark.parametrize(
    "name",
    [
        b"Server",
        b"Set-Cookie",
        b"Location",
        b"Date",
        b"Connection",
        b"Keep-Alive",
        b"Transfer-Encoding",
        b"Content-Length",
        b"Content-Encoding",
        b"Access-Control-Allow-Origin",
        b"WWW-Authenticate",
        b"X-Powered-By",
    ],
)
def test_does_not_come_back(name: bytes) -> None:
    """Only the type and the cacheability of a backend's answer reach the client."""
    answer = [(name, b"v"), (b"Content-Type", b"application/json"), (b"Cache-Control", b"no-cache")]
    assert downstream_headers(answer) == [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-cache"),
    ]


def test_connection_names_more_hops() -> None:
    """A header named in Connection is for this hop only, in both directions."""
    headers = [
        (b"Accept", b"*/*"),
        (b"Connection", b"close, ACCEPT"),
        (b"connection", b"Content-Type"),
        (b"Content-Type", b"a/b"),
        (b"User-Agent", b"x"),
    ]
    assert upstream_headers(headers) == [(b"user-agent", b"x")]
    assert downstream_headers(headers) == []


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([(b"authorization", b"Bearer k1")], "k1"),
        ([(b"Authorization", b"bEARER   k1 ")], "k1"),
        ([(b"X-Api-Key", b"k1")], "k1"),
        ([(b"API-KEY", b" k1 ")], "k1"),
        ([(b"api-key", b"k3"), (b"x-api-key", b"k2"), (b"authorization", b"Bearer k1")], "k1"),
        ([(b"api-key", b"k3"), (b"x-api-key", b"k2")], "k2"),
        ([(b"x-api-key", b"k1"), (b"x-api-key", b"k2")], "k1"),
        ([(b"authorization", b"Bearer k1"), (b"authorization", b"Bearer k2")], "k1"),
        ([(b"authorization", b"Basic dTpw"), (b"x-api-key", b"k2")], "k2"),
        ([(b"authorization", b"Basic dTpw"), (b"authorization", b"Bearer k1")], "k1"),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b""), (b"api-key", b"k3")], "k3"),
        ([(b"authorization", b"Bearer")], None),
        ([(b"authorization", b"k1")], None),
        ([(b"authorization", b"Bearerk1")], None),
        ([(b"cookie", b"x-api-key=k1"), (b"x-key", b"k1")], None),
        ([(b"authorization", b"Bearer k\xff1")], "k\ufffd1"),
        ([(b"x-api-key", "ключ".encode())], "\ufffd" * 8),
    ],
)
def test_credential(headers: list[tuple[bytes, bytes]], key: str | None) -> None:
    """Bearer precedes x-api-key and api-key, the first duplicate counts, others are no key."""
    assert credential(headers) == key


@given(_PAIRS)
def test_any_headers_are_filtered(headers: list[tuple[bytes, bytes]]) -> None:
    """The filters and the search for a key accept any bytes and invent nothing."""
    given_pairs = {(name.lower(), value) for name, value in headers}
    assert set(upstream_headers(headers)) | set(downstream_headers(headers)) <= given_pairs
    key = credential([*headers, (b"authorization", headers[0][1] if headers else b"")])
    assert key is None or key.isascii() or "\ufffd" in key
