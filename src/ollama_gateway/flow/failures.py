"""The failures of attempts, and what a backend's error answer means.

A failure says whether another backend may serve the request (`AttemptFailed`) or every one would
refuse it alike (`BackendRefused`).
"""

from __future__ import annotations

import re
from typing import Final

import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.heads import Head
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.transport import BackendAnswer
from ollama_gateway.errors import Blame, GatewayError
from ollama_gateway.flow.admission import ModelCall
from ollama_gateway.flow.scrubbing import error_for_client
from ollama_gateway.reasons import AnyReason, Reason, reason_of
from ollama_gateway.wire.encoding import GZIP, unzipped

CLIENT_ERROR_STATUSES: Final = {400, 413, 415, 422}
"""Statuses for a request that is wrong at every backend."""
INVALID_REQUEST: Final = (
    'option "',  # api/types.go, Options.FromMap
    "invalid format: ",  # llm/server.go, Completion: the schema is read after the load
    "template: ",  # text/template, passed on by server/prompt.go
    "this model only supports one image",  # server/prompt.go, chatPrompt
)
"""How the errors begin that Ollama sends with status 500, or older versions as the first line of a
stream, although the request is wrong.
"""
FULL_STATUSES: Final = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
MODEL_NOT_FOUND: Final = re.compile(r"model ['\"].*['\"] not found")
"""Ollama's text for a model that it does not have (server/routes.go)."""
MAX_ERROR_BODY: Final = 64 * 1024
"""Bytes of a backend's error answer; a longer one is ignored."""
ERROR_BODY_TIMEOUT: Final = 1.0
"""Seconds for reading it, while the next candidate waits."""


class AttemptFailed(Exception):
    """This backend gave no good chunk; another may.

    Args:
        reason: the operator's word for the failure.
        fault: what the failure shows about the backend.
        status: the HTTP status, if the backend sent one.
        message: the backend's error text, without addresses and paths.
        retry_after: seconds, if the backend sent `Retry-After`.

    """

    def __init__(
        self,
        reason: AnyReason,
        fault: BackendFault,
        *,
        status: int | None = None,
        message: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.fault, self.status = reason, fault, status
        self.message, self.retry_after = message, retry_after


class BackendRefused(GatewayError):
    """A 4xx (or a wrong option) in the backend's words; every backend would answer so."""

    blame = Blame.CLIENT
    default_reason = Reason.BACKEND_REFUSED

    def __init__(self, status: int, message: str | None) -> None:
        super().__init__(message or "bad request")
        self.status = status


def error_as_answer(text: str) -> Exception:
    """Return the error that an answer with status 200 means, if it is only an error."""
    if text.startswith(INVALID_REQUEST):
        return BackendRefused(httpx.codes.INTERNAL_SERVER_ERROR, text)
    return AttemptFailed(Reason.ERROR_AS_ANSWER, BackendFault.ERROR, message=text)


async def read_failure(backend: Backend, call: ModelCall, incoming: BackendAnswer) -> Exception:
    """Return the error that a status other than 2xx means, for the client or for the race."""
    status = incoming.head.status
    error = call.endpoint.dialect.read_body(await _error_body(incoming)).error
    text = None if error is None else error_for_client(error, backend, call)
    if status in CLIENT_ERROR_STATUSES:
        return BackendRefused(status, text)
    if status == httpx.codes.INTERNAL_SERVER_ERROR and text and text.startswith(INVALID_REQUEST):
        return BackendRefused(status, text)
    return AttemptFailed(
        reason_of(status),
        _fault_of(status, text, backend, call),
        status=status,
        message=text,
        retry_after=_seconds(header_text(incoming.head, b"retry-after")),
    )


def _fault_of(status: int, text: str | None, backend: Backend, call: ModelCall) -> BackendFault:
    """Return what an HTTP status shows about the backend.

    A 404 means that the model is missing only if its text says so (a backend that lacks the route
    says something else) and the name was sent as the backend lists it.
    """
    if status in FULL_STATUSES:
        return BackendFault.FULL
    if status != httpx.codes.NOT_FOUND:
        return BackendFault.ERROR
    is_its_spelling = call.name_for(backend) == backend.spelling(call.model)
    is_about_model = text is not None and MODEL_NOT_FOUND.match(text) is not None
    return BackendFault.LACKS_MODEL if is_its_spelling and is_about_model else BackendFault.NONE


async def _error_body(incoming: BackendAnswer) -> bytes:
    body = b""
    with trio.move_on_after(ERROR_BODY_TIMEOUT):
        try:
            while chunk := await incoming.read():
                body += chunk
                if len(body) > MAX_ERROR_BODY:
                    return b""
        except httpx.TransportError:
            return b""
        is_zipped = header_text(incoming.head, b"content-encoding").lower() in GZIP
        return unzipped(body, MAX_ERROR_BODY) if is_zipped else body
    return b""


def header_text(head: Head, name: bytes) -> str:
    """Return a header of a backend's answer, or an empty text."""
    return head.fields.get(name, b"").decode("latin-1")


def _seconds(retry_after: str) -> float | None:
    return (
        min(float(retry_after), 3600.0)
        if retry_after.isascii() and retry_after.isdecimal()
        else None
    )
