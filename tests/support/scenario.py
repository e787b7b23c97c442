"""Scenarios: client -> gateway -> simulator, in memory and in virtual time.

Everything between the ASGI edge and the backends' streams is real, SQLite included; its work runs
in place, because virtual time would take a waiting thread for an idle process.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from ollama_gateway.backends.transport import Transport
from ollama_gateway.build import Gateway, build
from ollama_gateway.http.request_stream import RequestStream
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.settings import load
from ollama_gateway.simulator import Model, Simulator, memory_server
from ollama_gateway.storage.batcher import in_place

CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}


@attrs.frozen
class TimedBody:
    """A body that arrives in chunks."""

    chunks: Sequence[tuple[float, bytes]]
    """Each chunk, after its seconds since the one before."""
    is_announced: bool = False
    """Whether the head has a Content-Length; else the body is chunked."""

    @property
    def whole(self) -> bytes:
        """All chunks joined."""
        return b"".join(chunk for _, chunk in self.chunks)

    async def send(self, request_stream: RequestStream) -> None:
        """Send them."""
        for seconds, chunk in self.chunks:
            await trio.sleep(seconds)
            request_stream.put(chunk)
        request_stream.end()


@attrs.define
class Reply:
    """The answer as one client saw it."""

    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    is_complete: bool = False
    """Whether the answer was ended, not cut."""
    first_chunk_at: float | None = None
    ended_at: float | None = None

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The body as NDJSON."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def text(self) -> str:
        """The text of a native chat."""
        return "".join(line["message"]["content"] for line in self.lines if "message" in line)


@attrs.define
class Scenario:
    """A gateway, its simulators and the audit records that it wrote."""

    gateway: Gateway
    simulators: Mapping[str, Simulator]
    store: SQLiteKeys
    key: str
    records: list[AuditRecord]

    async def ask(
        self,
        path: str = "/api/chat",
        body: object = CHAT,
        *,
        method: str = "POST",
        key: str | None = "",
        leave_at: float | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        watch: Callable[[Reply], Awaitable[None]] | None = None,
        is_admin: bool = False,
    ) -> Reply:
        """Send one request and wait for its end.

        Args:
            path: the path, with its query.
            body: JSON, bytes, or a `TimedBody`.
            method: the method.
            key: the API key; empty for the scenario's own (at the admin listener, for no token),
                None for no key.
            leave_at: seconds until the client leaves.
            headers: further headers, or replacements of the usual ones.
            watch: called after each part of the answer, which waits for it.
            is_admin: whether to ask the admin listener.

        """
        reply = Reply()
        parts = body if isinstance(body, TimedBody) else _at_once(method, body)
        request_stream = RequestStream()
        if not parts.chunks[0][0]:  # the body arrives with the head
            await parts.send(request_stream)
        more = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        usual = {"host": "localhost" if is_admin else "h"}
        if parts.is_announced:
            usual["content-length"] = str(len(parts.whole))
        if key is not None and (key or not is_admin):
            usual["authorization"] = f"Bearer {key or self.key}"
        given = [pair for pair in usual.items() if pair[0] not in dict(more)] + more

        async def leave() -> None:
            await trio.sleep(float("inf") if leave_at is None else leaving - trio.current_time())
            request_stream.close()

        async def send(event: Any) -> None:
            await trio.lowlevel.checkpoint()
            note(reply, event)
            if watch is not None:
                await watch(reply)

        leaving = trio.current_time() + (leave_at or 0)
        path, _, query = path.partition("?")
        scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "http_version": "1.1",
            "headers": [(name.encode(), value.encode()) for name, value in given],
            "client": ("192.0.2.7", 4000),
        }
        listener = self.gateway.admin_listener if is_admin else self.gateway.listener
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            if parts.chunks[0][0]:
                nursery.start_soon(parts.send, request_stream)
            await listener.app(scope, request_stream, send)
            reply.ended_at = trio.current_time()
            nursery.cancel_scope.cancel()
        return reply

    def manager(self) -> str:
        """Return a new key that may manage models."""
        rights = frozenset({"inference", "embeddings", "read", "manage"})
        return self.store.create("manager", endpoints=rights)[1]

    async def poll(self) -> None:
        """Poll every backend once, as discovery does."""
        for backend in self.gateway.backends.all:
            await self.gateway.parts.discovery.poll_once(backend)


def _at_once(method: str, body: object) -> TimedBody:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return TimedBody([(0, b"" if method in {"GET", "HEAD"} else raw)], is_announced=True)


def note(reply: Reply, event: Any) -> None:
    """Add an event that went to the client."""
    if event["type"] == "http.response.start":
        reply.status = event["status"]
        reply.headers = {n.decode(): v.decode() for n, v in event["headers"]}
    elif event["type"] == "http.response.body":
        if event.get("body") and reply.first_chunk_at is None:
            reply.first_chunk_at = trio.current_time()
        reply.body += event.get("body", b"")
        reply.is_complete = not event.get("more_body", False)


@asynccontextmanager
async def open_scenario(
    given: Mapping[str, Simulator] | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    models: tuple[Model, ...] = (Model("m1:latest"),),
    slots: int = 0,
    is_one_tier: bool = False,
) -> AsyncIterator[Scenario]:
    """Open a gateway with simulators by name; by default `a` and `b`, which host `models`."""
    simulators = given or {"a": Simulator(models), "b": Simulator(models)}
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backends = [
            {
                "name": name,
                "url": f"http://{name}",
                "slots": slots,
                "priority": 1 if is_one_tier else place,
            }
            for place, name in enumerate(simulators, 1)
        ]
        environment = {
            "OLLAMA_BACKENDS": json.dumps(backends),
            "GATEWAY_STORAGE_DATA_DIR": str(directory),
            "GATEWAY_SERVER_EXPOSE_BACKEND": "true",
            **(settings or {}),
        }
        transports = {
            name: Transport(await stack.enter_async_context(memory_server(simulator)))
            for name, simulator in simulators.items()
        }
        store = SQLiteKeys(directory / KEYS_FILE)
        stack.callback(store.close)
        _, key = store.create("tester")
        records: list[AuditRecord] = []
        gateway = await stack.enter_async_context(
            build(
                load(environ=environment, cwd=directory).settings,
                transports=transports,
                runner=in_place,
                sinks=(records.append,),
            )
        )
        scenario = Scenario(gateway, simulators, store, key, records)
        await scenario.poll()
        yield scenario
        open_now = [transport.open_connections for transport in transports.values()]
        assert not any(open_now), "an upstream connection was left open"
        in_flight = [backend.in_flight for backend in gateway.backends.all]
        assert not any(in_flight), "a slot was left taken"
        assert len(gateway.backends.line) == 0, "a request was left waiting"
