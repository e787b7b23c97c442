"""Every error of the admin API as problem details (RFC 9457)."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any, Final

from ollama_gateway.control.errors import (
    AlreadyThere,
    ChangedMeanwhile,
    Conflict,
    ControlError,
    NoSuchThing,
    Problem,
    WrongInput,
)
from ollama_gateway.control.shapes import Fields, Integer, ListOf, Text
from ollama_gateway.errors import GatewayError, MethodNotAllowed
from ollama_gateway.keys.key import (
    KeyChanged,
    KeyRefused,
    KeyTaken,
    NoSuchKey,
    StoreError,
    WrongValue,
)
from ollama_gateway.ledger.operator_change import ChangeNotRecorded
from ollama_gateway.printable import printable
from ollama_gateway.wire.headers import Headers

MEDIA_TYPE: Final = "application/problem+json"
KNOWN: Final = (ControlError, GatewayError, StoreError, KeyRefused, ChangeNotRecorded)
"""Errors with a message for operators; any other is a fault of the gateway."""
SHAPE: Final = Fields(
    {
        "type": Text(),
        "title": Text("The status in words."),
        "status": Integer("The HTTP status.", 400, 599),
        "detail": Text("What is wrong, in one line."),
        "request_id": Text("The id of the request, as in `X-Request-Id`."),
        "problems": ListOf(
            Fields({"where": Text(), "detail": Text()}), "Each thing that is wrong."
        ),
    },
    needed=("type", "title", "status", "detail", "request_id"),
)
_STATUSES: Final = (
    (NoSuchThing, HTTPStatus.NOT_FOUND),
    (AlreadyThere, HTTPStatus.CONFLICT),
    (ChangedMeanwhile, HTTPStatus.PRECONDITION_FAILED),
    (Conflict, HTTPStatus.CONFLICT),
    (WrongInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ControlError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NoSuchKey, HTTPStatus.NOT_FOUND),
    (KeyTaken, HTTPStatus.CONFLICT),
    (KeyChanged, HTTPStatus.PRECONDITION_FAILED),
    (WrongValue, HTTPStatus.UNPROCESSABLE_ENTITY),
    (KeyRefused, HTTPStatus.CONFLICT),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ChangeNotRecorded, HTTPStatus.SERVICE_UNAVAILABLE),
)


def status_of(error: Exception) -> int:
    """Return the status of an answer to a request that ended in an error."""
    if isinstance(error, GatewayError):
        return error.status
    return next((s for kind, s in _STATUSES if isinstance(error, kind)), 500)


def problem(error: Exception, request_id: str) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of the answer."""
    status = HTTPStatus(status_of(error))
    detail = str(error) if isinstance(error, KNOWN) else "internal error"
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": printable(detail)[: Text().longest],
        "request_id": request_id,
    }
    if isinstance(error, WrongInput):
        document["problems"] = [_shown(one) for one in error.problems]
    return status.value, [_TYPE, *_headers(error)], json.dumps(document).encode()


_TYPE: Final = (b"content-type", MEDIA_TYPE.encode())


def _headers(error: Exception) -> Headers:
    found: Headers = []
    if isinstance(error, MethodNotAllowed):
        found.append((b"allow", error.allow.encode()))
    if isinstance(error, GatewayError) and error.retry_after is not None:
        found.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
    if status_of(error) == HTTPStatus.UNAUTHORIZED:
        found.append((b"www-authenticate", b"Bearer"))
    return found


def _shown(one: Problem) -> dict[str, str]:
    return {"where": printable(one.where), "detail": printable(one.detail)}
