"""A management request at its one backend: sent once, answered unchanged.

Nothing here is tried again or elsewhere: what it does may be half done. The answer is an
operator's, who may read it as the backend wrote it, errors too; only a status that speaks of the
gateway's own access to the backend becomes a 502.

A pull may take hours, so there is no deadline for the whole. Where progress is streamed, one for
each line; where only the end is told, it may take as long as discovery finds the backend up. A blob
must come as fast as any body, and be taken as a line must come.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, cast

import anyio
import attrs
import httpx
import trio

from ollama_gateway.backends.backends import Backend
from ollama_gateway.backends.transport import ONCE
from ollama_gateway.backends.uploading import ONE_WRITE, BodyFailed
from ollama_gateway.errors import GatewayError, Unavailable, UpstreamFailed, UpstreamTimeout
from ollama_gateway.flow.ask import Ask, Downstream
from ollama_gateway.flow.attempt import BackendRefused
from ollama_gateway.flow.command import Command
from ollama_gateway.ledger.record import Attempt, AuditRecord
from ollama_gateway.wire.dialects import Dialect, Reading
from ollama_gateway.wire.frames import Frames, FrameTooLong, WholeBody, frames_for
from ollama_gateway.wire.headers import Headers, downstream_headers
from ollama_gateway.wire.large import RequestBody, pieces_of

CLIENTS_OWN: Final = {400, 404, 405, 409, 413, 422, 429}
"""Statuses below 500 that are passed on; of others the client cannot know what they mean."""
LONGEST: Final = 256 * 1024
"""Bytes of an answer that is not a stream."""

Finish = Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Reply:
    """The backend's answer, from its head on."""

    status: int
    headers: Headers
    frames: Frames
    _chunks: AsyncIterator[bytes]

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return httpx.codes.is_success(self.status)

    async def next(self) -> list[bytes]:
        """The next whole frames; empty at the end. Raises UpstreamFailed."""
        try:
            async for data in self._chunks:
                if whole := self.frames.feed(data):
                    return whole
            return self.frames.finish()
        except httpx.TransportError as error:
            raise _failed("the backend's answer broke off", "connection_broken") from error
        except FrameTooLong as error:
            raise _failed("the backend's answer broke", "frame_too_long") from error


@asynccontextmanager
async def told(
    backend: Backend, command: Command, ask: Ask, record: AuditRecord, idle: float
) -> AsyncIterator[Reply]:
    """Tell the backend what to do, and hold its answer for the length of the block.

    Raises UpstreamFailed, UpstreamTimeout, Unavailable, and what reading the client's body raises.
    """
    note = Attempt(backend.name, anyio.current_time() - ask.arrived)
    record.attempts.append(note)
    try:
        response = await _send(backend, command, ask.downstream, record, idle)
    except GatewayError as error:
        note.reason = error.reason
        raise
    note.first_chunk = record.ttft = anyio.current_time() - ask.arrived
    try:
        yield _reply(response)
    finally:
        await response.aclose()


async def _send(
    backend: Backend, command: Command, downstream: Downstream, record: AuditRecord, idle: float
) -> httpx.Response:
    patience = math.inf if command.says_only_the_end else idle
    with _patient(backend, patience) as waiting:
        headers = list(command.headers)
        content: bytes | httpx.AsyncByteStream
        if isinstance(command.body, bytes):
            content = command.body
        elif command.body is not None:
            content = _Whole(command.body)
            headers.append((b"content-length", b"%d" % len(command.body)))
        else:
            content = _PassedOn(downstream, record, idle, waiting)
            if downstream.announced is not None:
                headers.append((b"content-length", b"%d" % downstream.announced))
        request = backend.outgoing.request(command.endpoint.method, command.path, headers, content)
        request.extensions[ONCE] = True
        try:
            return await backend.transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(reason="connect_failed") from error
        except httpx.TransportError as error:
            raise _failed("the backend did not answer", "connection_broken") from error
        except BodyFailed as failure:
            raise failure.error from None
    raise AssertionError("the block above returns or raises")


@contextmanager
def _patient(backend: Backend, seconds: float) -> Iterator[trio.CancelScope]:
    """Wait for so long; or, without a bound, until discovery finds that the backend is gone."""
    with trio.CancelScope(deadline=anyio.current_time() + seconds) as waiting:
        if math.isinf(seconds):
            backend.unanswered.add(waiting)
        try:
            yield waiting
        finally:
            backend.unanswered.discard(waiting)
    if waiting.cancelled_caught and math.isinf(seconds):
        raise _failed("the backend stopped answering", "backend_down")
    if waiting.cancelled_caught:
        raise UpstreamTimeout("the backend stopped answering", reason="idle_timeout")


@attrs.frozen(eq=False)
class _Whole(httpx.AsyncByteStream):
    """A large body that is there."""

    body: RequestBody

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in pieces_of(self.body, ONE_WRITE):
            yield piece


@attrs.define(eq=False)
class _PassedOn(httpx.AsyncByteStream):
    """The client's body, as it comes; `waiting` is the deadline of the backend alone."""

    downstream: Downstream
    record: AuditRecord
    idle: float
    waiting: trio.CancelScope

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.waiting.deadline = math.inf
        try:
            piece = await self.downstream.next_piece()
        except GatewayError as error:
            raise BodyFailed(error) from error
        self.waiting.deadline = anyio.current_time() + self.idle
        self.record.bytes_in += len(piece)
        if not piece:
            raise StopAsyncIteration
        return piece


def _reply(response: httpx.Response) -> Reply:
    status, kind = response.status_code, response.headers.get("content-type", "")
    if not response.is_success and status not in CLIENTS_OWN and status < 500:  # noqa: PLR2004
        raise _failed("the backend refused the gateway", f"status_{status}")
    frames = frames_for(kind)
    is_odd = response.is_success and kind and frames is None
    if is_odd or "content-encoding" in response.headers:
        raise _failed("the backend's answer broke", "not_an_ollama")
    if frames is None or not frames.streamed:
        frames = WholeBody(limit=LONGEST)
    chunks = aiter(cast("httpx.AsyncByteStream", response.stream))
    return Reply(status, response.headers.raw, frames, chunks)


async def pass_on(
    reply: Reply, ask: Ask, record: AuditRecord, finish: Finish, idle: float, extra: Headers
) -> None:
    """Send the answer to the client; `finish` is called before its last byte leaves."""
    record.status = reply.status
    record.backend = record.attempts[-1].backend if reply.is_success else None
    headers = downstream_headers(reply.headers) + extra
    if reply.frames.streamed and reply.is_success:
        await ask.downstream.start(reply.status, headers)
        await _stream(reply, ask, record, finish, idle)
        return
    body = b"".join(await _next(reply, idle))
    _judge(reply, ask.endpoint.dialect.read_body(body) if body else Reading(), record)
    record.bytes_out = len(body)
    await finish()
    await ask.downstream.respond(reply.status, headers, body)


async def _stream(reply: Reply, ask: Ask, record: AuditRecord, finish: Finish, idle: float) -> None:
    while frames := await _next(reply, idle):
        whole, last = _examine(frames, ask.endpoint.dialect)
        record.bytes_out += sum(map(len, whole))
        if last is not None and not last.is_garbled:
            _judge(reply, last, record)
            await finish()
        if whole:
            await ask.downstream.send(b"".join(whole))
        if last is not None and last.is_garbled:
            raise _failed("the backend's answer broke", "garbled_answer")
        if last is not None:
            await ask.downstream.end()
            return
    raise _failed("the backend's answer ended early", "no_terminal_marker")


def _examine(frames: list[bytes], dialect: Dialect) -> tuple[list[bytes], Reading | None]:
    """The frames to be sent, and what the one that ends the stream means, if one does."""
    for place, frame in enumerate(frames):
        reading = dialect.read(frame)
        if reading.is_garbled:
            return frames[:place], reading
        if reading.is_last:
            return frames[: place + 1], reading
    return frames, None


def _judge(reply: Reply, reading: Reading, record: AuditRecord) -> None:
    """Say in the row how it ended; the client reads it in the answer itself."""
    if reply.is_success and reading.error is not None:
        record.fail(_failed(None, "error_in_stream"))
    elif reply.status >= 500:  # noqa: PLR2004
        record.fail(_failed(None, f"status_{reply.status}"))
    elif not reply.is_success:
        record.fail(BackendRefused(reply.status, None))


async def _next(reply: Reply, idle: float) -> list[bytes]:
    try:
        with anyio.fail_after(idle):
            return await reply.next()
    except TimeoutError:
        raise UpstreamTimeout("the backend stopped answering", reason="idle_timeout") from None


def _failed(message: str | None, reason: str) -> UpstreamFailed:
    return UpstreamFailed(message, reason=reason)
