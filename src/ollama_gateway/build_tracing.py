"""Puts the tracing together; imported only where the environment asks for traces.

The collector gets its requests over the same transport as the backends: no redirect is followed, no
proxy of the environment is used, and of its answer only the status and `Retry-After` count.
"""

from __future__ import annotations

import os
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import version
from typing import Final

import anyio
import attrs
import httpx

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.connecting import connect_fault, tcp
from ollama_gateway.backends.outgoing import Outgoing
from ollama_gateway.backends.transport import BackendAnswer, Transport
from ollama_gateway.certificates import client_context
from ollama_gateway.flow.endpoints import INFERENCE
from ollama_gateway.metrics import Metrics
from ollama_gateway.tracing.context import Tracer
from ollama_gateway.tracing.environment import TracingSettings, read_tracing
from ollama_gateway.tracing.exporter import Delivery, Exporter, drained
from ollama_gateway.tracing.spans import Address, SpanMaker

MAX_ANSWER: Final = 64 * 1024
"""Bytes of a collector's answer that are read, so that its connection can be used again."""
ANSWER_SECONDS: Final = 1.0
"""Seconds for the body of an answer: its status is all that counts."""
SLOW: Final = "no answer in time"
CONTENT: Final = [(b"content-type", b"application/json")]


@attrs.frozen
class Tracing:
    """What a gateway needs to trace its requests."""

    tracer: Tracer
    exporter: Exporter


@asynccontextmanager
async def open_tracing(
    environ: Mapping[str, str], backends: Backends, metrics: Metrics
) -> AsyncIterator[Tracing | None]:
    """Trace for the length of the block, and then export the rest; None if it is off."""
    settings, _ = read_tracing(environ)  # the warnings are those of the settings
    if settings is None:
        yield None
        return
    collector = Collector.of(settings)
    maker = SpanMaker(
        resource=_resource(settings),
        version=version("ollama-gateway"),
        operations={one.path: one.operation for one in INFERENCE if one.operation},
        address_of=lambda name: _address(backends, name),
    )
    try:
        async with drained(Exporter(maker, collector.post, metrics)) as exporter:
            yield Tracing(Tracer(settings.sampler), exporter)
    finally:
        await collector.transport.aclose()


@attrs.frozen
class Collector:
    """The collector, as far as a post sees it."""

    transport: Transport
    outgoing: Outgoing
    timeout: float
    """Seconds for a post, its answer included."""

    @classmethod
    def of(cls, settings: TracingSettings) -> Collector:
        """Return the collector of the settings; nothing is connected yet."""
        url = httpx.URL(settings.endpoint)
        is_secure = url.scheme == "https"
        port = url.port or (443 if is_secure else 80)
        context = cache(_context) if is_secure else None
        connect = tcp(url.host, port, connect_timeout=settings.timeout, ssl_context=context)
        agent = f"ollama-gateway/{version('ollama-gateway')}"
        headers = {"user-agent": agent, **dict(settings.headers)}
        return cls(
            Transport(connect, most_idle=1, name="collector"),
            Outgoing.of(url, headers),
            settings.timeout,
        )

    async def post(self, body: bytes) -> Delivery:
        """Post a batch, and read its answer as far as that is bounded."""
        with anyio.move_on_after(self.timeout):
            try:
                answer = await self.transport.ask(self.outgoing.message("POST", "", CONTENT, body))
                await _read(answer)
            except httpx.ConnectError as error:
                return Delivery(None, connect_fault(error) or "cannot connect")
            except httpx.TimeoutException:
                return Delivery(None, SLOW)
            except httpx.TransportError:
                return Delivery(None, "the connection broke")
            asked = answer.head.fields.get(b"retry-after")
            return Delivery(answer.head.status, retry_after=_seconds(asked))
        return Delivery(None, SLOW)


async def _read(answer: BackendAnswer) -> None:
    """Read a small answer to its end, so that its connection can be used again; close any other."""
    size = 0
    try:
        with anyio.move_on_after(ANSWER_SECONDS), suppress(httpx.TransportError):
            while size < MAX_ANSWER and (chunk := await answer.read()):
                size += len(chunk)
    finally:
        await answer.aclose()


def _context() -> ssl.SSLContext:
    return client_context(None, None, None, verify=True)


def _seconds(value: bytes | None) -> float | None:
    """Return the seconds of a `Retry-After`; None for none, and for a date."""
    return float(value[:9]) if value is not None and value.isdigit() else None


def _resource(settings: TracingSettings) -> dict[str, str | int]:
    own: dict[str, str | int] = {
        "service.name": settings.service,
        "service.version": version("ollama-gateway"),
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "telemetry.sdk.name": "ollama-gateway",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": version("ollama-gateway"),
    }
    return {**own, **dict(settings.attributes)}


def _address(backends: Backends, name: str) -> Address | None:
    backend = backends.named(name)
    if backend is None:
        return None
    url = backend.url
    return url.host, url.port or (443 if url.scheme == "https" else 80)
