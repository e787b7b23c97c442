"""The tasks of one connection's requests: an application with its way in and its way out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import Scope

from ollama_gateway.http.protocol import Protocol
from ollama_gateway.http.request_stream import RequestStream
from ollama_gateway.http.response_writer import ResponseWriter

ASGIApp = Callable[[Scope, RequestStream, Callable[[Any], Awaitable[None]]], Any]
"""ASGI; its `receive` can do more (`inbox.py`)."""


class AppTasks(TaskGroup):
    """hypercorn's task group with its application wrapper replaced: ours contains nothing."""

    http: Protocol

    async def spawn_app(
        self,
        app: Any,
        config: Config,  # noqa: ARG002 - hypercorn's signature
        scope: Scope,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[None]]:
        """Start an application; what is returned takes hypercorn's events for it."""
        request_stream = self.http.request_stream
        self.spawn(_run_app, app, scope, request_stream, ResponseWriter(self.http, send))

        async def put(_event: Any) -> None:
            request_stream.close()  # the only event that does not come from `Protocol` itself

        return put


async def _run_app(
    app: ASGIApp,
    scope: Scope,
    request_stream: RequestStream,
    send: Callable[[Any], Awaitable[None]],
) -> None:
    try:
        await app(scope, request_stream, send)
    finally:
        await send(None)  # hypercorn's sign that no more will come: an unfinished answer is cut
