"""Start the application for each request of a connection, with its request stream and writer."""

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
"""An ASGI application whose `receive` is a `RequestStream`, which can do more than ASGI asks."""


class AppTasks(TaskGroup):
    """hypercorn's task group without its application wrapper: our application needs none."""

    http: Protocol

    async def spawn_app(
        self,
        app: Any,
        config: Config,  # noqa: ARG002 - hypercorn's signature
        scope: Scope,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[None]]:
        """Start an application; return the function to which hypercorn gives its events."""
        request_stream = self.http.request_stream
        self.spawn(_run_app, app, scope, request_stream, ResponseWriter(self.http, send))

        async def put(_event: Any) -> None:
            request_stream.close()  # `Protocol` sends all other events to the stream itself

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
        await send(None)  # tells hypercorn that no more will come: it cuts an unfinished answer
