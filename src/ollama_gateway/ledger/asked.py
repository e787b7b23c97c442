"""The parts of a request and of its API key that go into the audit record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from ollama_gateway.wire.body import lookup

BODY_FIELD: Final = "body:"
"""Stands before a field of the body in place of a header's name."""
MAX_USER: Final = 256
"""Bytes of the header that names the end user."""
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")


class RequestFacts(Protocol):
    """The parts of a request that its record needs."""

    request_id: str
    client: str
    arrived: float

    @property
    def path(self) -> str:
        """The route, without parameters or key."""
        ...

    @property
    def dialect_name(self) -> str:
        """The dialect of the route."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Its headers, names in lower case."""
        ...


class Caller(Protocol):
    """The key with which a request came."""

    @property
    def key_id(self) -> str:
        """The key's public id."""
        ...

    @property
    def key_name(self) -> str:
        """The key's name."""
        ...

    @property
    def user_header(self) -> str | None:
        """The header that names the end user, in lower case, or `body:` and a field; or None."""
        ...


def end_user(caller: Caller, ask: RequestFacts) -> str | None:
    """Return the end user: the first value of the key's header, bounded and on one line."""
    if caller.user_header is None:
        return None
    wanted = caller.user_header.encode()
    value = next((value for name, value in ask.headers if name == wanted), b"")
    return _one_line(value[:MAX_USER].decode("utf-8", "replace"))


def client_request_id(ask: RequestFacts) -> str | None:
    """Return the client's own id of the request; None if it has none that is short and plain."""
    for name, value in ask.headers:
        if name == b"x-request-id":
            return value.decode() if _REQUEST_ID.fullmatch(value) else None
    return None


def end_user_in(document: dict[str, object], caller: Caller) -> str | None:
    """Return the end user that a body names in the key's field, such as `body:metadata.user_id`."""
    if caller.user_header is None or not caller.user_header.startswith(BODY_FIELD):
        return None
    value: object = document
    for name in caller.user_header.removeprefix(BODY_FIELD).split("."):
        value = lookup(value, name) if isinstance(value, dict) else None
    return _one_line(value[:MAX_USER]) if isinstance(value, str) else None


def _one_line(text: str) -> str | None:
    return "".join(sign for sign in text if sign.isprintable()).strip() or None
