"""Which headers pass through the gateway, and which requests are refused by their head alone.

Both directions are allow-lists. Ollama copies *every* header of a `:cloud` request to its cloud,
so one that passes because nobody thought of it is a credential given away; a header nobody listed
stays here. The gateway adds the backend's credentials, framing and `Host` by itself.

`check_head` refuses what an HTTP parser tolerates and what two servers in a row may read
differently: the body that one of them sees is then the next request of the other. h11 accepts a
good part of it. The rule: a head is plain or it is refused, and the refusal quotes none of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ollama_gateway.errors import BadRequest, HeadersTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Headers = list[tuple[bytes, bytes]]
"""Names in lower case and values, in their order."""

UPSTREAM: Final = frozenset(
    {
        b"accept",
        b"accept-language",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-type",
        b"openai-beta",
        b"traceparent",
        b"tracestate",
        b"user-agent",  # Ollama shapes /api/show for one client by it
    }
)
"""Request headers that go to a backend: what an answer may depend on, and tracing."""

DOWNSTREAM: Final = frozenset({b"cache-control", b"content-type"})
"""Response headers that come back; length and framing are the gateway's own."""

ALLOWED_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ALLOWED_VERSIONS: Final = frozenset({"1.0", "1.1"})
MAX_TARGET: Final = 8192
"""Bytes in a request target, path and query together."""
MAX_HEADERS: Final = 100
"""Header lines in a request; their bytes are bounded where they are read."""

_KEY_HEADERS: Final = (b"x-api-key", b"api-key")

_TARGET: Final = re.compile(rb"/[\x21-\x7e]*")
# A token of RFC 9110 without `_`: CGI and nginx take `Content_Length` for `Content-Length`.
_FIELD_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^`|~-]+")
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_FIELD_LINES: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*\r\n)*")
_HOST_HEADER: Final = re.compile(
    rb"(?: [A-Za-z0-9._~-]{1,253} | \[ [0-9A-Fa-f:.]{2,45} \] ) (?: :[0-9]{1,5} )?", re.VERBOSE
)
_CONTENT_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,17}")


def upstream_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What of a client's request headers goes to a backend, names in lower case, in order."""
    return _allowed(headers, UPSTREAM)


def downstream_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What of a backend's response headers goes to the client, names in lower case, in order."""
    return _allowed(headers, DOWNSTREAM)


def content_coding(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """How a request's body is encoded, in lower case; empty where it is as it is.

    Several codings come as one that nobody knows: what was applied twice is not undone here.
    """
    found = _values(headers, b"content-encoding")[b"content-encoding"]
    values = [value.strip().lower() for value in found]
    return b",".join([value for value in values if value not in {b"", b"identity"}])


def credential(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The API key a client presents; None if it presents none.

    `Authorization: Bearer KEY`, else `x-api-key`, else `api-key`; of several the first. Empty ones
    count as absent. A byte beyond ASCII becomes U+FFFD, which is in no key.
    """
    found = _values(headers, b"authorization", *_KEY_HEADERS)
    bearers = [_bearer(value) for value in found[b"authorization"]]
    plain = [_text(value) for name in _KEY_HEADERS for value in found[name]]
    return next(filter(None, bearers + plain), None)


def has_credential(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a client presents anything at all, be it no key: a password, a bad spelling."""
    names = (b"authorization", *_KEY_HEADERS)
    values = [_text(value) for name, value in headers if name.lower() in names]
    return any(value and value.lower() != "bearer" for value in values)


def check_head(
    method: str, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    """Refuse a request whose head is not plain HTTP/1.

    `Upgrade` is no error: whoever asks is answered in HTTP/1.1, as the standard allows.

    Args:
        method: as sent; methods are case-sensitive.
        target: the whole request target, path and query, undecoded.
        version: `1.0` or `1.1`.
        headers: in order, duplicates kept, values without the white space around them.

    Raises:
        BadRequest: with a line that says what is wrong, and nothing of what was sent.
        HeadersTooLarge: more than `MAX_HEADERS` of them.

    """
    if method not in ALLOWED_METHODS:
        raise _refused("this method is not supported")
    if version not in ALLOWED_VERSIONS:
        raise _refused("this HTTP version is not supported")
    if len(target) > MAX_TARGET:
        raise _refused("the request target is too long")
    if not _TARGET.fullmatch(target):
        raise _refused("the request target must be a plain path")
    if len(headers) > MAX_HEADERS:
        raise HeadersTooLarge
    for name, value in headers:
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise _refused("a header is malformed")
    found = _values(headers, b"host", b"content-length", b"transfer-encoding")
    _check_host(version, found[b"host"])
    _check_framing(version, found[b"content-length"], found[b"transfer-encoding"])


def field_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Headers as lines to be sent (RFC 9110, 5.5; RFC 9112, 5); None where one of them is none."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    text = b"".join(lines)
    # A value that holds a line's end would make lines of its own: they are counted.
    is_sound = _FIELD_LINES.fullmatch(text) and text.count(b"\n") == len(lines)
    return text if is_sound else None


def _check_host(version: str, hosts: list[bytes]) -> None:
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        raise _refused("exactly one Host header is required")
    if hosts and not _HOST_HEADER.fullmatch(hosts[0]):
        raise _refused("the Host header is malformed")


def _check_framing(version: str, lengths: list[bytes], codings: list[bytes]) -> None:
    if lengths and codings:
        raise _refused("Content-Length and Transfer-Encoding exclude each other")
    if codings and version == "1.0":
        raise _refused("Transfer-Encoding needs HTTP/1.1")
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        raise _refused("this Transfer-Encoding is not supported")
    if lengths and not (len(lengths) == 1 and _CONTENT_LENGTH.fullmatch(lengths[0])):
        raise _refused("the Content-Length header is malformed")


def _bearer(value: bytes) -> str:
    scheme, _, key = _text(value).partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip()


def _values(headers: Iterable[tuple[bytes, bytes]], *wanted: bytes) -> dict[bytes, list[bytes]]:
    """All values of some headers, by name, in one pass: it is made for each request."""
    found: dict[bytes, list[bytes]] = {name: [] for name in wanted}
    for name, value in headers:
        if (values := found.get(name.lower())) is not None:
            values.append(value)
    return found


def _allowed(
    headers: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]
) -> list[tuple[bytes, bytes]]:
    pairs = [(name.lower(), value) for name, value in headers]
    # What Connection names is meant for this hop only, whatever it is (RFC 9110, 7.6.1).
    if named := [value for name, value in pairs if name == b"connection"]:
        allowed -= {token.strip().lower() for token in b",".join(named).split(b",")}
    return [(name, value) for name, value in pairs if name in allowed]


def _refused(message: str) -> BadRequest:
    return BadRequest(message, reason="bad_request_head")
