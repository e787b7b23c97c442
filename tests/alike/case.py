"""One line of the table: a request, what Ollama says to it, and what the gateway says instead."""

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
NOBODYS: Final = "nobody-has-this"
UNAVAILABLE: Final = "this model or endpoint is not available to this key"


@attrs.frozen
class Metered:
    """What the row of a request says."""

    outcome: str = "completed"
    reason: str | None = None
    prompt: int | None = None
    completion: int | None = None
    source: str | None = None


def reported(prompt: int, completion: int) -> Metered:
    """A request whose tokens the backend told."""
    return Metered(prompt=prompt, completion=completion, source="reported")


def counted(prompt: int | None, completion: int) -> Metered:
    """A request whose tokens the gateway counted."""
    return Metered(prompt=prompt, completion=completion, source="counted")


def refused(reason: str) -> Metered:
    """A request that had no answer."""
    return Metered("refused", reason)


UNMETERED: Final = Metered()
"""A request that was served, and of whose tokens nobody said anything."""
NO_SUCH_MODEL: Final = refused("unknown_model")
BY_BACKEND: Final = refused("backend_refused")


@attrs.frozen
class Otherwise:
    """What the gateway says in place of Ollama, and why."""

    why: str
    status: int
    text: str = ""
    """What its body holds."""
    kind: str | None = None
    """Its media type, where that is another one."""
    is_cut: bool = False


@attrs.frozen(eq=False)
class Case:
    """A request and its answer.

    Args:
        title: what it shows.
        status: Ollama's.
        kind: the media type of Ollama's answer.
        row: what is metered; None where the request leaves no row.
        otherwise: what the gateway answers, where that is not the same.
        script: what befalls the backend.
        headers: besides those that each request has.

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
    """A request without one."""
    return Case(title, "GET", path, b"", status, kind, **more)


def nobodys(
    path: str,
    body: Mapping[str, object],
    status: int = 404,
    kind: str = JSON,
    record: Metered | None = NO_SUCH_MODEL,
    model: str = NOBODYS,
) -> Case:
    """A request for a model that is not there, which may not be told from one that is forbidden."""
    why = "what nobody hosts and what a key may not use are the same 403"
    otherwise = Otherwise(why, 403, UNAVAILABLE, JSON)
    asked = {"model": model, **body}
    return post(path, f"for {model!r}", asked, status, kind, record=record, otherwise=otherwise)


def unread(path: str, title: str, body: object, text: str, status: int = 400, **more: Any) -> Case:
    """A body that the gateway cannot read in exactly one way, and refuses itself."""
    why = "the gateway reads the body first, and its words quote nothing of it"
    otherwise = Otherwise(why, 400, text, JSON)
    record = refused(more.pop("reason", "invalid_body"))
    return post(path, title, body, status, record=record, otherwise=otherwise, **more)
