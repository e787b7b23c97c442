"""One line of the table: a request, Ollama's answer, and the gateway's where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from ollama_gateway.simulator import Script

JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain"
NOTHING: Final = ""

SAY_HI: Final = [{"role": "user", "content": "hi"}]
MISSING_MODEL: Final = "nobody-has-this"
UNAVAILABLE: Final = "is not available to this key"


@attrs.frozen
class Metered:
    """The outcome and the tokens in a request's audit record."""

    outcome: str = "completed"
    reason: str | None = None
    prompt: int | None = None
    completion: int | None = None
    source: str | None = None


def reported(prompt: int, completion: int) -> Metered:
    """A request whose tokens the backend reported."""
    return Metered(prompt=prompt, completion=completion, source="reported")


def counted(prompt: int | None, completion: int) -> Metered:
    """A request whose tokens the gateway counted."""
    return Metered(prompt=prompt, completion=completion, source="counted")


def refused(reason: str) -> Metered:
    """A request that got no answer."""
    return Metered("refused", reason)


UNMETERED: Final = Metered()
"""A request that was served without any count of tokens."""
NO_SUCH_MODEL: Final = refused("unknown_model")
BY_BACKEND: Final = refused("backend_refused")


@attrs.frozen
class Otherwise:
    """The gateway's answer where it differs from Ollama's, and the reason."""

    why: str
    status: int
    text: str = ""
    """Text that its body contains."""
    kind: str | None = None
    """Its media type, if that differs."""
    is_cut: bool = False


@attrs.frozen(eq=False)
class Case:
    """A request and its answer.

    Args:
        title: the fact that it shows.
        status: Ollama's.
        kind: the media type of Ollama's answer.
        record: the audit record; None if the request leaves none.
        otherwise: the gateway's answer, if it differs.
        script: the backend's scripted behaviour.
        headers: headers beyond those of every request.

    """

    title: str
    method: str
    path: str
    body: object
    status: int
    kind: str
    record: Metered | None = None
    otherwise: Otherwise | None = None
    script: Script | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.title}"


def post(
    path: str, title: str, body: object, status: int = 200, kind: str = JSON, **more: Any
) -> Case:
    """A request with a body."""
    return Case(title, "POST", path, body, status, kind, **more)


def get(path: str, title: str, status: int = 200, kind: str = JSON, **more: Any) -> Case:
    """A request without a body."""
    return Case(title, "GET", path, b"", status, kind, **more)


def missing_model(
    path: str,
    body: Mapping[str, object],
    status: int = 404,
    kind: str = JSON,
    record: Metered | None = NO_SUCH_MODEL,
    model: str = MISSING_MODEL,
) -> Case:
    """A request for a missing model, which clients cannot tell from a forbidden one."""
    why = "an unknown model and a forbidden one are the same 403"
    otherwise = Otherwise(why, 403, UNAVAILABLE, JSON)
    asked = {"model": model, **body}
    return post(path, f"for {model!r}", asked, status, kind, record=record, otherwise=otherwise)


def unread(path: str, title: str, body: object, text: str, status: int = 400, **more: Any) -> Case:
    """A request whose ambiguous body the gateway refuses itself."""
    why = "the gateway reads the body first, and its error quotes none of it"
    otherwise = Otherwise(why, 400, text, JSON)
    record = refused(more.pop("reason", "invalid_body"))
    return post(path, title, body, status, record=record, otherwise=otherwise, **more)
