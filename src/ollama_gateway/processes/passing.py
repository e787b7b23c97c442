"""Pass a request of the admin API on to one of several processes, and its answer back.

The parent has let the operator in, and says to the process who asks. A process that cannot be
reached is left out. Once a process has the request it may have made the change, so no other gets
it, unless it only reads. There is no deadline but the client's patience: to load a model takes
minutes. A client that leaves ends the request at the process, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast

import anyio
import attrs
import httpx
from anyio.abc import ByteStream

from ollama_gateway.backends.transport import ONCE, Transport
from ollama_gateway.control.actor import Actor
from ollama_gateway.errors import Unavailable
from ollama_gateway.flow.ask import Ask, Downstream
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_api.operation import PREFIX
from ollama_gateway.server.admin_api.passed_on import passed_headers
from ollama_gateway.server.admin_api.reading import received
from ollama_gateway.wire.headers import Headers

CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2.0
"""Seconds that each process has for its part of an answer of all."""
FORWARDED: Final = frozenset({b"content-type", b"if-match"})
"""Headers of a request that a process gets."""
RETURNED: Final = frozenset(
    {b"content-type", b"content-length", b"etag", b"location", b"allow", b"retry-after"}
)
"""Headers of an answer that the client gets."""


@attrs.frozen
class PassedAPI:
    """The admin API of the processes, for their parent."""

    paths: Callable[[], Sequence[Path]]
    """Returns the admin sockets of the processes that serve, in the order to ask them."""

    async def pass_on(self, method: str, actor: Actor, ask: Ask) -> None:
        """Answer a request as one process does.

        Raises Unavailable if none can be reached, or if the one that was asked has ended.
        """
        headers = [(name, value) for name, value in ask.headers if name.lower() in FORWARDED]
        headers += passed_headers(actor, ask.request_id)
        target = f"{PREFIX}{ask.parameter}{f'?{ask.query}' if ask.query else ''}"
        request = partial(_request, method, target, headers, await received(ask.downstream))
        for path in self.paths():
            try:
                response = await _transport(path).handle_async_request(request())
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.TransportError:
                if method in {"GET", "HEAD"}:
                    continue
                raise _ENDED from None
            return await _send_back(response, ask.downstream)
        raise Unavailable("no process answers, try again", reason=Reason.NO_PROCESS, retry_after=1)

    async def ask_all(
        self, method: str, target: str, actor: Actor, request_id: str
    ) -> list[tuple[int, Any]]:
        """Ask all processes at once; return status and document of those that answer in time.

        Args:
            method: its method; there is no body.
            target: the path below `PREFIX`, with its query.
            actor: who asks.
            request_id: the id of the request that this is a part of.

        """
        headers = passed_headers(actor, request_id)
        paths = list(self.paths())
        answers: dict[Path, tuple[int, Any]] = {}

        async def ask(path: Path) -> None:
            request = _request(method, f"{PREFIX}{target}", headers, b"")
            try:
                with anyio.fail_after(ANSWER_SECONDS):
                    response = await _transport(path).handle_async_request(request)
                    body = await response.aread()
            except (httpx.TransportError, TimeoutError):
                return
            answers[path] = response.status_code, json.loads(body) if body else None

        async with anyio.create_task_group() as tasks:
            for path in paths:
                tasks.start_soon(ask, path)
        return [answers[path] for path in paths if path in answers]


_ENDED: Final = Unavailable(
    "the process that was asked has ended: look whether it made the change",
    reason=Reason.NO_PROCESS,
)


def _transport(path: Path) -> Transport:
    async def connect() -> ByteStream:
        with anyio.fail_after(CONNECT_SECONDS):
            return await anyio.connect_unix(path)

    return Transport(connect)


def _request(method: str, target: str, headers: Headers, body: bytes) -> httpx.Request:
    url = httpx.URL("http://localhost").copy_with(raw_path=target.encode())
    return httpx.Request(method, url, headers=headers, content=body, extensions={ONCE: True})


async def _send_back(response: httpx.Response, downstream: Downstream) -> None:
    head = [(name.lower(), value) for name, value in response.headers.raw]
    head = [(name, value) for name, value in head if name in RETURNED]
    async with aclosing(response):
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise Unavailable("the process did not let its parent in", reason=Reason.NO_PROCESS)
        await downstream.start(response.status_code, head)
        try:
            async for chunk in cast("httpx.AsyncByteStream", response.stream):
                await downstream.send(chunk)
        except httpx.TransportError:
            return  # the answer has no end here either: the client sees it cut
        await downstream.end()
