from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest, HeadersTooLarge
from ollama_gateway.wire.headers import ALLOWED_METHODS, MAX_HEADERS, MAX_TARGET, check_head

_HOST = (b"host", b"gateway:11435")
_PAIRS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=8)


def _check(
    *headers: tuple[bytes, bytes],
    method: str = "POST",
    target: bytes = b"/api/chat",
    version: str = "1.1",
) -> None:
    check_head(method, target, version, [_HOST, *headers])


@pytest.mark.parametrize("method", sorted(ALLOWED_METHODS))
def test_plain_heads_pass(method: str) -> None:
    """The heads that ordinary clients send are accepted."""
    _check((b"Content-Length", b"0"), method=method)
    _check((b"content-length", b"123456789012345678"), method=method)
    _check((b"transfer-encoding", b"chunked"), method=method)
    _check(target=b"/", method=method)
    _check(target=b"/k/ogw_x/v1/models/a%2Fb?x=1&y=%20", method=method)
    check_head(method, b"/", "1.0", [])
    check_head(method, b"/", "1.0", [_HOST, (b"Content-Length", b"5")])


@pytest.mark.parametrize(
    "header",
    [
        (b"Upgrade", b"websocket"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"!!!"),
        (b"Sec-WebSocket-Protocol", b"\xff"),
        (b"Expect", b"100-continue"),
        (b"X-Empty", b""),
        (b"X-Tab", b"a\tb"),
        (b"X-Latin", b"\xe9"),
    ],
)
def test_tolerated_headers(header: tuple[bytes, bytes]) -> None:
    """A header that goes unused is no error, not even an Upgrade."""
    _check((b"Connection", b"Upgrade"), header)


@pytest.mark.parametrize(
    "method",
    ["CONNECT", "TRACE", "PRI", "get", "Post", "", "GET ", "X" * 265, "PROPFIND", "\uff27ET"],
)
def test_methods(method: str) -> None:
    """A method that no route could have is refused, and so is one in another case."""
    with pytest.raises(BadRequest, match="method"):
        _check(method=method)


@pytest.mark.parametrize("version", ["0.9", "1.2", "2", "2.0", "9.9", "", "1", "1.1 "])
def test_versions(version: str) -> None:
    """Only HTTP/1.0 and 1.1 are accepted."""
    with pytest.raises(BadRequest, match="version"):
        _check(version=version)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"host:443",
        b"http://other/api/chat",
        b"api/chat",
        b"/a b",
        b"/a\tb",
        b"/a\x00",
        b"/a\r\nX: y",
        b"/a\n",
        b"/\x7f",
        b"/caf\xc3\xa9",
        b"/" + b"a" * MAX_TARGET,
    ],
)
def test_targets(target: bytes) -> None:
    """A target is a path of visible ASCII of at most 8 KiB."""
    with pytest.raises(BadRequest, match="target"):
        _check(target=target)
    _check(target=b"/" + b"a" * (MAX_TARGET - 1))


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"gpu_1.internal:1",
        b"10.0.0.5:11434",
        b"[::1]",
        b"[fe80::1]:65535",
        b"xn--caf-dma.example.",
    ],
)
def test_hosts(host: bytes) -> None:
    """Names and addresses, with and without a port, are valid hosts, on 1.0 as well."""
    for version in ("1.0", "1.1"):
        check_head("GET", b"/", version, [(b"Host", host)])


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b"a b",
        b"a, b",
        b"a,b",
        b"user@h",
        b"h/path",
        b"h?q",
        b"h#f",
        b"h#@localhost",  # CVE-2026-49468
        b"localhost#@h:1",
        b"h/health?#@localhost",
        b"h\\@localhost",
        b"h:",
        b"h:port",
        b"h:123456",
        b"h:1:2",
        b"::1",
        b"[::1",
        b"[]",
        b"[::1]x",
        b"http://h",
        b"caf\xc3\xa9",
        b"h\n",
        b"h\x00",
        b"x" * 254,
    ],
)
def test_bad_hosts(host: bytes) -> None:
    """A malformed Host is refused in every version."""
    for version in ("1.0", "1.1"):
        with pytest.raises(BadRequest, match=r"Host|malformed"):
            check_head("GET", b"/", version, [(b"host", host)])


def test_number_of_hosts() -> None:
    """1.1 needs exactly one Host, 1.0 none or one; two equal ones are refused."""
    with pytest.raises(BadRequest, match="exactly one Host"):
        check_head("GET", b"/", "1.1", [])
    for version in ("1.0", "1.1"):
        with pytest.raises(BadRequest, match="exactly one Host"):
            check_head("GET", b"/", version, [_HOST, (b"HOST", _HOST[1])])


@pytest.mark.parametrize(
    "lengths",
    [
        [b""],
        [b"5, 5"],
        [b"5,5"],
        [b"+5"],
        [b"-1"],
        [b"005"],
        [b"00"],
        [b"5 "],
        [b"5\n"],
        [b"0x5"],
        [b"5.0"],
        [b"5_0"],
        ["\u0665".encode()],
        [b"1" * 19],
        [b"5", b"5"],
        [b"5", b"6"],
    ],
)
def test_content_length(lengths: list[bytes]) -> None:
    """Only one Content-Length is accepted, in plain digits that every server reads alike."""
    with pytest.raises(BadRequest, match=r"Content-Length|malformed"):
        _check(*((b"Content-Length", length) for length in lengths))


@pytest.mark.parametrize(
    "codings",
    [
        [b""],
        [b"xchunked"],
        [b"identity"],
        [b"gzip, chunked"],
        [b"chunked, identity"],
        [b"chunked, chunked"],
        [b"chunked;x=y"],
        [b"chunked\x0b"],
        [b"chunked "],
        [b"\tchunked"],
        [b"\r\n chunked"],
        [b'"chunked"'],
        [b"chunked", b"chunked"],
        [b"chunked", b"identity"],
        [b"identity", b"chunked"],
    ],
)
def test_transfer_encoding(codings: list[bytes]) -> None:
    """Only one Transfer-Encoding is accepted, and it must be chunked."""
    with pytest.raises(BadRequest, match=r"Transfer-Encoding|malformed"):
        _check(*((b"Transfer-Encoding", coding) for coding in codings))


def test_transfer_encoding_in_other_case() -> None:
    """The coding's name is case-insensitive."""
    _check((b"TRANSFER-ENCODING", b"Chunked"))


def test_both_framings() -> None:
    """Content-Length beside Transfer-Encoding (smuggling) is refused in any order and case."""
    length, coding = (b"CONTENT-length", b"5"), (b"transfer-ENCODING", b"chunked")
    for headers in ([length, coding], [coding, length]):
        with pytest.raises(BadRequest, match="exclude each other"):
            _check(*headers)


def test_chunked_on_http_1_0() -> None:
    """HTTP/1.0 has no chunked coding."""
    with pytest.raises(BadRequest, match=r"needs HTTP/1\.1"):
        _check((b"transfer-encoding", b"chunked"), version="1.0")


@pytest.mark.parametrize(
    "header",
    [
        (b"", b"v"),
        (b"a b", b"v"),
        (b"Host ", b"v"),
        (b" x", b"v"),
        (b"x:", b"v"),
        (b"x\x00", b"v"),
        (b"x\n", b"v"),
        (b"caf\xc3\xa9", b"v"),
        (b"x", b"a\x00b"),
        (b"x", b"a\r\n b"),
        (b"x", b"a\nb: c"),
        (b"x", b"\x1b[0m"),
        (b"x", b"\x7f"),
    ],
)
def test_malformed_headers(header: tuple[bytes, bytes]) -> None:
    """Names that are no token, folded lines and control characters are refused."""
    with pytest.raises(BadRequest, match="malformed"):
        _check(header)


def test_number_of_headers() -> None:
    """A hundred headers are accepted, and one more is a 431."""
    _check(*[(b"x", b"y")] * (MAX_HEADERS - 1))
    with pytest.raises(HeadersTooLarge):
        _check(*[(b"x", b"y")] * MAX_HEADERS)


def test_refusals_quote_nothing() -> None:
    """The log gets a fixed reason, and the client a line with none of the bytes it sent."""
    for headers in ([(b"secret x", b"v")], [(b"content-length", b"secret")], [(b"x", b"secret\0")]):
        with pytest.raises(BadRequest) as refusal:
            _check(*headers)
        assert "secret" not in repr(refusal.value)
        assert refusal.value.reason == "bad_request_head"


@given(st.text(), st.binary(), st.text(), _PAIRS)
def test_any_head_is_judged(
    method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]]
) -> None:
    """Any head is accepted or gets one of our own two errors."""
    with contextlib.suppress(BadRequest, HeadersTooLarge):
        check_head(method, target, version, headers)
    with contextlib.suppress(BadRequest, HeadersTooLarge):
        check_head("GET", b"/", "1.1", [_HOST, *headers])
