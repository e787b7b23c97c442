"""Send a management request to its one backend, once, and relay the answer unchanged.

Nothing is retried or sent elsewhere, since a command may be half done. Its client is an operator,
who may read the answer as the backend wrote it, errors included. Only a status about the gateway's
own access to the backend becomes a 502.

A pull may take hours, so there is no total deadline. If progress is streamed, each line has a
deadline. If only the end is reported, the request may take as long as discovery finds the backend
up. A blob must arrive as fast as any body, and the backend must take each chunk within the deadline
of a line.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, cast

import anyio
import attrs
import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.transport import ONCE
from ollama_gateway.backends.uploading import ONE_WRITE, BodyFailed
from ollama_gateway.errors import GatewayError, Unavailable, UpstreamFailed, UpstreamTimeout
from ollama_gateway.flow.ask import Ask, Downstream
from ollama_gateway.flow.command import Command
from ollama_gateway.flow.failures import BackendRefused
from ollama_gateway.flow.forwarding import attempt_headers
from ollama_gateway.flow.relay import Finish
from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.reasons import AnyReason, Reason, reason_of
from ollama_gateway.wire.dialects import Dialect, Reading
from ollama_gateway.wire.frames import Frames, FrameTooLong, WholeBody, frames_for
from ollama_gateway.wire.headers import UNBUFFERED, Headers, downstream_headers
from ollama_gateway.wire.large import RequestBody, chunks_of

PASSED_ON_STATUSES: Final = {400, 404, 405, 409, 413, 422, 429}
"""Statuses below 500 that are passed on; others would mislead the client."""
MAX_REPLY_BYTES: Final = 256 * 1024
"""Bytes of an answer that is not streamed."""


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
        """Return the next whole frames, empty at the end; raises UpstreamFailed."""
        try:
            async for data in self._chunks:
                if whole := self.frames.feed(data):
                    return whole
            return self.frames.finish()
        except httpx.TransportError as error:
            raise _failed("the backend's answer broke off", Reason.CONNECTION_BROKEN) from error
        except FrameTooLong as error:
            raise _failed("the backend's answer broke", Reason.FRAME_TOO_LONG) from error


@asynccontextmanager
async def send_command(
    backend: Backend, command: Command, ask: Ask, record: AuditRecord, idle: float
) -> AsyncIterator[Reply]:
    """Send the command to the backend, and keep its answer open for the block.

    Raises UpstreamFailed, UpstreamTimeout, Unavailable, and the errors of reading a body.
    """
    note = Attempt(backend.name, anyio.current_time() - ask.arrived)
    record.attempts.append(note)
    try:
        headers = attempt_headers(command.headers, record, note)
        response = await _send(backend, command, headers, ask.downstream, record, idle)
    except BaseException as error:
        note.ended = anyio.current_time() - ask.arrived
        if isinstance(error, GatewayError):
            note.reason = error.reason
        raise
    note.first_chunk = record.ttft = anyio.current_time() - ask.arrived
    try:
        yield _reply(response, is_account=command.endpoint.is_account)
    finally:
        await response.aclose()


async def _send(
    backend: Backend,
    command: Command,
    headers: Headers,
    downstream: Downstream,
    record: AuditRecord,
    idle: float,
) -> httpx.Response:
    seconds = math.inf if command.reports_only_the_end else idle
    with _time_limit(backend, seconds) as waiting:
        content: bytes | httpx.AsyncByteStream
        if isinstance(command.body, bytes):
            content = command.body
        elif command.body is not None:
            content = _LargeBody(command.body)
            headers.append((b"content-length", b"%d" % len(command.body)))
        else:
            content = _RelayedBody(downstream, record, idle, waiting)
            if downstream.announced is not None:
                headers.append((b"content-length", b"%d" % downstream.announced))
        request = backend.outgoing.request(command.endpoint.method, command.path, headers, content)
        request.extensions[ONCE] = True
        try:
            return await backend.transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(reason=Reason.CONNECT_FAILED) from error
        except httpx.TransportError as error:
            raise _failed("the backend did not answer", Reason.CONNECTION_BROKEN) from error
        except BodyFailed as failure:
            raise failure.error from None
    raise AssertionError("the block above returns or raises")


@contextmanager
def _time_limit(backend: Backend, seconds: float) -> Iterator[trio.CancelScope]:
    """Limit the block to some seconds or, if infinite, until discovery finds the backend down."""
    with trio.CancelScope(deadline=anyio.current_time() + seconds) as waiting:
        if math.isinf(seconds):
            backend.unanswered[waiting] = None
        try:
            yield waiting
        finally:
            backend.unanswered.pop(waiting, None)
    if waiting.cancelled_caught and math.isinf(seconds):
        raise _failed("the backend stopped answering", Reason.BACKEND_DOWN)
    if waiting.cancelled_caught:
        raise UpstreamTimeout("the backend stopped answering", reason=Reason.IDLE_TIMEOUT)


@attrs.frozen(eq=False)
class _LargeBody(httpx.AsyncByteStream):
    """A large body that has arrived."""

    body: RequestBody

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in chunks_of(self.body, ONE_WRITE):
            yield chunk


@attrs.define(eq=False)
class _RelayedBody(httpx.AsyncByteStream):
    """The client's body, as it arrives; the deadline of `waiting` counts for the backend only."""

    downstream: Downstream
    record: AuditRecord
    idle: float
    waiting: trio.CancelScope

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.waiting.deadline = math.inf
        try:
            chunk = await self.downstream.next_chunk()
        except GatewayError as error:
            raise BodyFailed(error) from error
        self.waiting.deadline = anyio.current_time() + self.idle
        self.record.bytes_in += len(chunk)
        if not chunk:
            raise StopAsyncIteration
        return chunk


def _reply(response: httpx.Response, *, is_account: bool) -> Reply:
    status, kind = response.status_code, response.headers.get("content-type", "")
    is_own = status in PASSED_ON_STATUSES or (is_account and status == httpx.codes.UNAUTHORIZED)
    if not response.is_success and not is_own and status < 500:  # noqa: PLR2004
        raise _failed("the backend refused the gateway", reason_of(status))
    frames = frames_for(kind)
    is_odd = response.is_success and kind and frames is None
    if is_odd or "content-encoding" in response.headers:
        raise _failed("the backend's answer broke", Reason.NOT_AN_OLLAMA)
    if frames is None or not frames.streamed:
        frames = WholeBody(limit=MAX_REPLY_BYTES)
    chunks = aiter(cast("httpx.AsyncByteStream", response.stream))
    return Reply(status, response.headers.raw, frames, chunks)


async def relay_reply(
    reply: Reply, ask: Ask, record: AuditRecord, finish: Finish, idle: float, extra: Headers
) -> None:
    """Send the answer to the client, and call `finish` before its last byte leaves."""
    record.status = reply.status
    record.backend = record.attempts[-1].backend if reply.is_success else None
    headers = downstream_headers(reply.headers) + extra
    if reply.frames.streamed and reply.is_success:
        await ask.downstream.start(reply.status, [*headers, UNBUFFERED])
        await _stream(reply, ask, record, finish, idle)
        return
    body = b"".join(await _next(reply, idle))
    _note_outcome(reply, ask.endpoint.dialect.read_body(body) if body else Reading(), record)
    record.bytes_out = len(body)
    await finish()
    await ask.downstream.respond(reply.status, headers, body)


async def _stream(reply: Reply, ask: Ask, record: AuditRecord, finish: Finish, idle: float) -> None:
    while frames := await _next(reply, idle):
        whole, last = _examine(frames, ask.endpoint.dialect)
        record.bytes_out += sum(map(len, whole))
        if last is not None and not last.is_garbled:
            _note_outcome(reply, last, record)
            await finish()
        if whole:
            await ask.downstream.send(b"".join(whole))
        if last is not None and last.is_garbled:
            raise _failed("the backend's answer broke", Reason.GARBLED_ANSWER)
        if last is not None:
            await ask.downstream.end()
            return
    raise _failed("the backend's answer ended early", Reason.NO_TERMINAL_MARKER)


def _examine(frames: list[bytes], dialect: Dialect) -> tuple[list[bytes], Reading | None]:
    """Return the frames to send, and the meaning of the last one if it ends the stream."""
    for place, frame in enumerate(frames):
        reading = dialect.read_frame(frame)
        if reading.is_garbled:
            return frames[:place], reading
        if reading.is_last:
            return frames[: place + 1], reading
    return frames, None


def _note_outcome(reply: Reply, reading: Reading, record: AuditRecord) -> None:
    """Note in the audit record how the command ended; the client reads it in the answer."""
    if reply.is_success and reading.error is not None:
        record.fail(_failed(None, Reason.ERROR_IN_STREAM))
    elif reply.status >= 500:  # noqa: PLR2004
        record.fail(_failed(None, reason_of(reply.status)))
    elif not reply.is_success:
        record.fail(BackendRefused(reply.status, None))


async def _next(reply: Reply, idle: float) -> list[bytes]:
    try:
        with anyio.fail_after(idle):
            return await reply.next()
    except TimeoutError:
        raise UpstreamTimeout("the backend stopped answering", reason=Reason.IDLE_TIMEOUT) from None


def _failed(message: str | None, reason: AnyReason) -> UpstreamFailed:
    return UpstreamFailed(message, reason=reason)
