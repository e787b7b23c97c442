"""Read what an operation is given: the query, and the body, of which everything wrong is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.control.shapes import Flag, Integer, Shape, Text
from ollama_gateway.errors import BadRequest, BodyTooLarge
from ollama_gateway.flow.ask import Downstream
from ollama_gateway.printable import printable
from ollama_gateway.server.admin_api.operation import Operation
from ollama_gateway.storage.batcher import in_thread
from ollama_gateway.wire.body import parse

MAX_BODY: Final = 1024 * 1024
"""Bytes of a body."""
IN_PLACE: Final = 16 * 1024
"""Bytes of a body that are parsed on the event loop."""
MAX_QUERY_FIELDS: Final = 50
MAX_PROBLEMS: Final = 20
"""Problems that an answer names."""
_FLAGS: Final = {"true": True, "false": False}


def read_query(operation: Operation, query: str) -> dict[str, Any]:
    """Return the values of the query parameters; raises WrongInput."""
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise WrongInput([Problem("query", "has too many parameters")]) from None
    problems, found = [], dict[str, Any]()
    for name, count in Counter(name for name, _ in given).items():
        if name not in operation.query:
            problems.append(Problem(printable(name), "is unknown"))
        elif count > 1:
            problems.append(Problem(name, "is given twice"))
    for name, text in dict(given).items():
        if name in operation.query:
            value = _value_of(operation.query[name], text)
            problems += operation.query[name].problems(value, name)
            found[name] = value
    _refuse(problems)
    return found


def _value_of(shape: Text | Integer | Flag, text: str) -> object:
    """Return the value that a text stands for; the text itself if it is none."""
    match shape:
        case Integer() if text.isascii() and text.isdigit() and len(text) < len(str(2**63)):
            return int(text)
        case Flag():
            return _FLAGS.get(text, text)
    return text


def read_path(given: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a path, decoded; raises WrongInput."""
    found = {name: unquote(value, errors="surrogateescape") for name, value in given.items()}
    problems = [p for name, value in found.items() for p in Text().problems(value, name)]
    _refuse(problems)
    return found


async def read_body(operation: Operation, downstream: Downstream) -> Any:
    """Return the document, of the operation's shape; None without one.

    Raises BadRequest, BodyTooLarge, RequestTimeout, WrongInput.
    """
    body = await received(downstream)
    if operation.takes is None:
        if body:
            raise BadRequest("this operation takes no body")
        return None
    if not body.strip() and operation.is_body_optional:
        return None
    read = partial(_document, operation.takes, body)
    return read() if len(body) <= IN_PLACE else await in_thread(read)


async def received(downstream: Downstream) -> bytes:
    """Return the body as sent, up to `MAX_BODY`; raises BodyTooLarge, RequestTimeout."""
    body = bytearray()
    if (downstream.announced or 0) > MAX_BODY:
        raise BodyTooLarge
    while chunk := await downstream.next_chunk():
        body += chunk
        if len(body) > MAX_BODY:
            raise BodyTooLarge
    return bytes(body)


def _document(shape: Shape, body: bytes) -> dict[str, object]:
    document = parse(body)
    _refuse(list(shape.problems(document)))
    return document


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise WrongInput(problems[:MAX_PROBLEMS])
