"""Serve the operations of the admin API: find one, let its actor in, read, do, answer.

An answer to a good request is JSON, with an ETag where the thing has one; lists come in pages.
Whatever goes wrong is answered with problem details (`problems.py`), also by paths and methods that
do not exist.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import attrs

from ollama_gateway.control.actor import Actor
from ollama_gateway.errors import BadRequest, Forbidden, MethodNotAllowed, NotFound
from ollama_gateway.flow.ask import Ask
from ollama_gateway.log import get_logger
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_api.encoding import encoded
from ollama_gateway.server.admin_api.openapi import described
from ollama_gateway.server.admin_api.operation import (
    PREFIX,
    AdminCall,
    AdminReply,
    Operation,
    SendLine,
)
from ollama_gateway.server.admin_api.problems import KNOWN, problem
from ollama_gateway.server.admin_api.reading import read_body, read_path, read_query
from ollama_gateway.server.reload_handlers import JSON_HEADERS
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.headers import Headers

NDJSON_HEADERS: Final[Headers] = [(b"content-type", b"application/x-ndjson")]
METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS")
"""Methods that get an answer of the API, be it 405."""
MAX_ETAG: Final = 200

FindActor = Callable[[Ask], Awaitable[Actor]]
"""Returns who asks; raises Unauthorized, Forbidden, Misdirected, LimitReached."""

PassOn = Callable[[str, Actor, Ask], Awaitable[None]]
"""Answers a method, of this actor, in another process."""

log = get_logger("admin-api")


@attrs.frozen
class AdminAPI:
    """The admin API of one listener."""

    operations: Sequence[Operation]
    find_actor: FindActor
    pass_on: PassOn | None = None
    """Answers what is no operation here, methods and paths that do not exist among it."""

    @classmethod
    def of(cls, operations: Sequence[Operation], find_actor: FindActor) -> AdminAPI:
        """Return the API of these operations, and of one that describes them."""
        return cls([*operations, described(operations)], find_actor)

    async def serve(self, method: str, ask: Ask) -> None:
        """Serve a request; `ask.parameter` is its path below `PREFIX`."""
        try:
            await self._serve(method, ask)
        except KNOWN as error:
            await self._fail(error, ask)
        except Exception as error:
            log.exception("request failed", request_id=ask.request_id)
            await self._fail(error, ask)

    async def _serve(self, method: str, ask: Ask) -> None:
        actor = await self.find_actor(ask)
        method = "GET" if method == "HEAD" else method
        if self.pass_on is not None and not self._has(method, ask.parameter):
            await self.pass_on(method, actor, ask)
            return
        operation, path = self._find(method, ask.parameter)
        if not actor.may(operation.role):
            who = "an admin token" if actor.name == "-" else f"the role {operation.role}"
            raise Forbidden(f"this needs {who}", reason=Reason.ROLE_TOO_LOW)
        call = AdminCall(
            actor,
            read_path(path),
            read_query(operation, ask.query),
            await read_body(operation, ask.downstream),
            _if_match(ask.headers) if operation.honours_etag else None,
        )
        reply = await operation.serve(call)
        if reply.write is not None:
            await _send_written(reply.write, ask)
        elif reply.lines is not None:
            await _send_lines(reply.lines, ask)
        else:
            await _send(operation, reply, ask)

    def _has(self, method: str, path: str) -> bool:
        return any(one.method == method and one.match(path) is not None for one in self.operations)

    def _find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        found = [
            (one, parameters)
            for one in self.operations
            if (parameters := one.match(path)) is not None
        ]
        # `/keys/update` is a path of its own, although it could be the key of that id
        exact = [match for match in found if not match[1]] or found
        for one, parameters in exact:
            if one.method == method:
                return one, parameters
        if exact:
            raise MethodNotAllowed(", ".join(sorted({one.method for one, _ in exact})))
        raise NotFound(f"the admin API has no path {PREFIX}{path}")

    async def _fail(self, error: Exception, ask: Ask) -> None:
        if ask.downstream.has_started:
            return  # the answer has no end: the connection is closed abnormally
        await ask.downstream.respond(*problem(error, ask.request_id))


async def _send(operation: Operation, reply: AdminReply, ask: Ask) -> None:
    extra: Headers = []
    if reply.etag is not None:
        extra.append((b"etag", f'"{reply.etag}"'.encode()))
    if reply.location is not None:
        extra.append((b"location", f"{PREFIX}{reply.location}".encode()))
    if operation.answer is None:
        await ask.downstream.start(HTTPStatus.NO_CONTENT, extra)  # without a length (RFC 9110, 8.6)
        await ask.downstream.end()
        return
    body = await in_turns(encoded(reply.document))
    await ask.downstream.respond(operation.status, [*JSON_HEADERS, *extra], body)


async def _send_lines(lines: AsyncIterator[Any], ask: Ask) -> None:
    has_begun = False
    async for line in lines:
        if not has_begun:  # an error before the first line gets a status of its own
            await ask.downstream.start(HTTPStatus.OK, NDJSON_HEADERS)
            has_begun = True
        await ask.downstream.send(_line(line))
    if not has_begun:
        await ask.downstream.start(HTTPStatus.OK, NDJSON_HEADERS)
    await ask.downstream.end()


async def _send_written(write: Callable[[SendLine], Awaitable[None]], ask: Ask) -> None:
    async def send(document: Any) -> None:
        if not ask.downstream.has_started:
            await ask.downstream.start(HTTPStatus.OK, NDJSON_HEADERS)
        await ask.downstream.send(_line(document))

    await write(send)
    await ask.downstream.end()


def _line(document: Any) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _if_match(headers: Headers) -> str | None:
    """Return the one entity tag of `If-Match`; None without one, or for `*`. Raises BadRequest."""
    given = [value.decode("latin-1").strip() for name, value in headers if name == b"if-match"]
    if not given or given == ["*"]:
        return None
    [tag, *others] = given
    if others or len(tag) > MAX_ETAG or not (tag.startswith('"') and tag.endswith('"')):
        raise BadRequest("If-Match must be one ETag, as the API gave it")
    return tag[1:-1]
