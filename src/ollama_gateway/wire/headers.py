"""The headers that pass through the gateway, and the request heads that it refuses.

Both directions have allow-lists. Ollama copies *every* header of a `:cloud` request to its cloud,
so a header that passed by default could give a credential away; a header that is not listed stays
here. The gateway adds the backend's credentials, the framing and `Host` itself.

`check_head` refuses heads that a lenient HTTP parser accepts and that two servers in a row may read
differently: what one takes for a body, the other then takes for the next request. h11 accepts many
of them. The rule: a head is plain or it is refused, and the refusal quotes none of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ollama_gateway.errors import BadRequest, HeadersTooLarge
from ollama_gateway.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Headers = list[tuple[bytes, bytes]]
"""Lower-case names and values, in order."""

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
        b"user-agent",  # Ollama changes /api/show for one client by it
    }
)
"""Request headers that go to a backend: those that an answer may depend on, and tracing."""

DOWNSTREAM: Final = frozenset({b"cache-control", b"content-type"})
"""Response headers that go to the client; the gateway sets length and framing itself."""

UNBUFFERED: Final = (b"x-accel-buffering", b"no")
"""Makes nginx and similar proxies pass a stream on as it arrives."""

CHANGED: Final = b"x-gateway-changed"
"""The response header that names what the gateway changed in the request."""

ALLOWED_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ALLOWED_VERSIONS: Final = frozenset({"1.0", "1.1"})
MAX_TARGET: Final = 8192
"""Bytes of a request target, path and query together."""
MAX_HEADERS: Final = 100
"""Header lines in a request; the reader of the head limits their bytes."""

_KEY_HEADERS: Final = (b"x-api-key", b"api-key")

_TARGET: Final = re.compile(rb"/[\x21-\x7e]*")
_FIELD_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TWICE_READ: Final = frozenset(
    {
        b"connection",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-gateway-backend",
    }
)
"""Headers of framing and routing. CGI and nginx read `Content_Length` as `Content-Length`, so their
spellings with `_` are refused. Other names with `_` are harmless, and Codex sends some.
"""
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_FIELD_LINES: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*\r\n)*")
_HOST_HEADER: Final = re.compile(
    rb"(?: [A-Za-z0-9._~-]{1,253} | \[ [0-9A-Fa-f:.]{2,45} \] ) (?: :[0-9]{1,5} )?", re.VERBOSE
)
_CONTENT_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,17}")


def upstream_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the request headers that go to a backend, with lower-case names, in order."""
    return _allowed(headers, UPSTREAM)


def downstream_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the response headers that go to the client, with lower-case names, in order."""
    return _allowed(headers, DOWNSTREAM)


def content_coding(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the encoding of a request's body in lower case; empty if it has none.

    Several encodings are joined into one unknown name, so the body is refused: nothing here undoes
    two.
    """
    found = _values(headers, b"content-encoding")[b"content-encoding"]
    values = [value.strip().lower() for value in found]
    return b",".join([value for value in values if value not in {b"", b"identity"}])


def credential(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the API key that a client presents; None if it presents none.

    The first that is not empty of `Authorization: Bearer KEY`, `x-api-key` and `api-key` counts. A
    byte beyond ASCII becomes U+FFFD, which is in no key.
    """
    found = _values(headers, b"authorization", *_KEY_HEADERS)
    bearers = [_bearer(value) for value in found[b"authorization"]]
    plain = [_text(value) for name in _KEY_HEADERS for value in found[name]]
    return next(filter(None, bearers + plain), None)


def has_credential(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a client presents any credential, even one that is no key or is misspelt."""
    names = (b"authorization", *_KEY_HEADERS)
    values = [_text(value) for name, value in headers if name.lower() in names]
    return any(value and value.lower() != "bearer" for value in values)


def check_head(
    method: str, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    """Refuse a request whose head is not plain HTTP/1.

    `Upgrade` is allowed: the gateway ignores it and answers in HTTP/1.1, as the standard permits.

    Args:
        method: as sent; methods are case-sensitive.
        target: the whole request target, path and query, not decoded.
        version: `1.0` or `1.1`.
        headers: in order, with duplicates, values without surrounding whitespace.

    Raises:
        BadRequest: the head is not plain; the message quotes none of it.
        HeadersTooLarge: more than `MAX_HEADERS` headers.

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
        if b"_" in name and name.lower().replace(b"_", b"-") in _TWICE_READ:
            raise _refused("a header's name has _ in place of -")
    found = _values(headers, b"host", b"content-length", b"transfer-encoding")
    _check_host(version, found[b"host"])
    _check_framing(version, found[b"content-length"], found[b"transfer-encoding"])


def field_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return headers as lines to send (RFC 9110, 5.5; RFC 9112, 5); None if one is malformed."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    text = b"".join(lines)
    # The pattern alone would accept a value that contains a line end and further header lines.
    is_valid = _FIELD_LINES.fullmatch(text) and text.count(b"\n") == len(lines)
    return text if is_valid else None


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
    """Collect the values of some headers by name, in one pass: this runs for each request."""
    found: dict[bytes, list[bytes]] = {name: [] for name in wanted}
    for name, value in headers:
        if (values := found.get(name.lower())) is not None:
            values.append(value)
    return found


def _allowed(
    headers: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]
) -> list[tuple[bytes, bytes]]:
    pairs = [(name.lower(), value) for name, value in headers]
    # Headers named in Connection are for this hop only, whatever they are (RFC 9110, 7.6.1).
    if named := [value for name, value in pairs if name == b"connection"]:
        allowed -= {token.strip().lower() for token in b",".join(named).split(b",")}
    return [(name, value) for name, value in pairs if name in allowed]


def _refused(message: str) -> BadRequest:
    return BadRequest(message, reason=Reason.BAD_REQUEST_HEAD)
