"""Relay an answer from its first good chunk to its end: whole frames, as fast as the client reads.

From here on there is no second backend. Only the dialect's terminal marker makes a stream complete,
because Ollama ends a stream with a valid body even when it fails in the middle. An incomplete
answer raises, and `server/app.py` turns the error into an error event and an abnormal close.

A large whole answer is passed on as it arrives, too, but it has no place for an error event. If it
is cut, it lacks its last brace, and its connection ends abnormally.

The request is finished before the end of the answer is sent. Its reservation is settled, so that a
client with a complete answer can ask again at once; in strict mode its audit record is on disk.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from ollama_gateway import clock
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.attempt import GoodAnswer
from ollama_gateway.flow.failures import AttemptFailed
from ollama_gateway.flow.reading import reading_of
from ollama_gateway.flow.scrubbing import error_for_client
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.dialects import Dialect, ReportedUsage
from ollama_gateway.wire.dialects.reading import MAX_PARSED_FRAME
from ollama_gateway.wire.headers import UNBUFFERED, Headers, downstream_headers
from ollama_gateway.wire.whole import WholeAnswer

Finish = Callable[[], Awaitable[None]]
NextFrames = Callable[[], Awaitable[list[bytes]]]


async def relay(
    answer: GoodAnswer,
    ask: Ask,
    record: AuditRecord,
    finish: Finish,
    idle_timeout: float,
    extra: Headers,
) -> None:
    """Send the answer to the client.

    Args:
        answer: the winner of the race.
        ask: the request.
        record: notes the bytes sent and the tokens they cost.
        finish: called once the answer is complete, before its end is sent.
        idle_timeout: seconds between two chunks.
        extra: further headers.

    """
    record.status = answer.status
    headers = downstream_headers(answer.headers) + extra
    whole = answer.frames if isinstance(answer.frames, WholeAnswer) else None
    if whole is not None and whole.is_ended:  # complete: there is nothing left to wait for
        await _relay_whole(answer, whole, ask, record, finish, headers, answer.next)
        return
    # One scope whose deadline moves: a scope for each chunk would cost as much as the chunk.
    with trio.CancelScope() as idle:
        next_frames = partial(_next, answer, idle, idle_timeout)
        if whole is not None:
            await _relay_whole(answer, whole, ask, record, finish, headers, next_frames)
        else:
            if not ask.downstream.has_started:
                await ask.downstream.start(answer.status, [*headers, UNBUFFERED])
            await _pass_on(answer, ask, record, finish, next_frames)
    if idle.cancelled_caught:
        timeout = UpstreamTimeout("the backend stopped answering", reason=Reason.IDLE_TIMEOUT)
        raise _broken(answer, timeout)


async def _relay_whole(
    answer: GoodAnswer,
    whole: WholeAnswer,
    ask: Ask,
    record: AuditRecord,
    finish: Finish,
    headers: Headers,
    next_frames: NextFrames,
) -> None:
    """Send a complete answer at once, and others as they arrive, the last brace at the end."""
    parts, is_passed_on = answer.first, not whole.is_ended
    answer.first = []  # sending may take long; parts leave memory as they are sent
    try:
        if is_passed_on:
            await ask.downstream.start(answer.status, headers, tells_errors=False)
        while not whole.is_ended:
            while parts:
                part = parts.pop(0)
                record.bytes_out += len(part)
                await ask.downstream.send(part)
            parts = await next_frames()
    finally:
        _note_whole(answer, whole, ask, record, parts)
    if whole.reading.error is not None or whole.reading.is_garbled:
        raise _failure(whole.reading.error, answer)
    record.bytes_out += sum(map(len, parts))
    await finish()
    if is_passed_on:
        await ask.downstream.end(b"".join(parts))
    else:
        await ask.downstream.respond(answer.status, headers, b"".join(parts))


def _note_whole(
    answer: GoodAnswer, whole: WholeAnswer, ask: Ask, record: AuditRecord, parts: list[bytes]
) -> None:
    """Note the usage of an answer, as far as it arrived."""
    usage, embeds = whole.reading.usage, ask.endpoint.inputs is not None
    if usage is not None:
        _note_usage(record, usage, answer)
    if whole.is_ended:
        record.heard = clock.now()
    if embeds and record.prompt_tokens is not None:
        record.completion_tokens = 0  # an embedding has none
    if record.completion_tokens is None and not embeds:
        record.text = record.bytes_out + ask.endpoint.dialect.text_size(b"".join(parts))


async def _pass_on(
    answer: GoodAnswer, ask: Ask, record: AuditRecord, finish: Finish, next_frames: NextFrames
) -> None:
    frames, answer.first = answer.first, []
    while frames:
        good, failure, is_last = await _examine(frames, ask.endpoint.dialect, record, answer)
        whole = [sent for sent in map(answer.client_frame, good) if sent]
        _count(record, whole, ask.endpoint.dialect)
        if is_last:
            answer.slot.ended_stream(record.heard, record.chunks)
            await finish()
            await ask.downstream.end(b"".join(whole))
            return
        if whole:
            await ask.downstream.send(b"".join(whole))
        if failure is not None:
            raise failure
        frames = await next_frames()
    if answer.ended_cleanly:
        # Ollama ends a stream like this when a model repeats itself (llm/llama_server.go).
        record.reason = Reason.NO_TERMINAL_MARKER
        await finish()
        await ask.downstream.end()
        return
    answer.slot.failed(BackendFault.NONE, Reason.NO_TERMINAL_MARKER, clock.now())
    raise UpstreamFailed("the backend's answer ended early", reason=Reason.NO_TERMINAL_MARKER)


async def _examine(
    frames: list[bytes], dialect: Dialect, record: AuditRecord, answer: GoodAnswer
) -> tuple[list[bytes], GatewayError | None, bool]:
    """Return the frames to send, the error of the next frame, and whether they end the stream."""
    for place, frame in enumerate(frames):
        is_short = len(frame) <= MAX_PARSED_FRAME
        reading = dialect.read_frame(frame) if is_short else await reading_of(frame, dialect)
        if reading.usage is not None:
            _note_usage(record, reading.usage, answer)
        if reading.error is not None or reading.is_garbled:
            return frames[:place], _failure(reading.error, answer), False
        if reading.is_last:
            return frames[: place + 1], None, True
    return frames, None, False


def _failure(error: str | None, answer: GoodAnswer) -> GatewayError:
    if error is None:
        return UpstreamFailed("the backend's answer broke", reason=Reason.GARBLED_ANSWER)
    text = error_for_client(error, answer.backend, answer.call)
    return UpstreamFailed(text, reason=Reason.ERROR_IN_STREAM)


def _count(record: AuditRecord, frames: list[bytes], dialect: Dialect) -> None:
    record.heard = clock.now()
    record.chunks += len(frames)
    record.bytes_out += sum(map(len, frames))
    record.text += sum(map(dialect.text_size, frames))


def _note_usage(record: AuditRecord, usage: ReportedUsage, answer: GoodAnswer) -> None:
    """Note the tokens that the backend reported, and how fast it writes."""
    record.report(usage.prompt, usage.completion, usage.cached)
    if usage.prompt is not None and answer.slot.placement is not None:
        answer.slot.placement.reported(usage.prompt, usage.cached, usage.prompt_seconds)
    seconds = usage.seconds
    if usage.completion is None:
        return
    # An answer of about a chunk for each token was sent as it was written.
    if seconds is None and usage.completion <= 2 * record.chunks:
        seconds = clock.now() - record.arrived - (record.ttft or 0)
    if seconds:
        answer.slot.health.wrote(usage.completion, seconds)


async def _next(answer: GoodAnswer, idle: trio.CancelScope, seconds: float) -> list[bytes]:
    """Return the next frames; `idle` is cancelled if the backend takes too long for them."""
    idle.deadline = clock.now() + seconds
    try:
        return await answer.next()
    except AttemptFailed as failure:
        broken = UpstreamFailed("the backend's answer broke off", reason=failure.reason)
        raise _broken(answer, broken) from failure
    finally:
        idle.deadline = math.inf


def _broken(answer: GoodAnswer, error: GatewayError) -> GatewayError:
    """Count an error against the backend, and return it."""
    answer.slot.failed(BackendFault.BROKEN, error.reason, clock.now())
    return error
