"""From the first good chunk to the end: whole frames, unchanged, as fast as the client reads.

From here on there is no second backend. Only the dialect's own terminal marker makes a stream
complete: all of Ollama's failures in the middle of a stream end with a valid body. What is not
complete raises, and `server/app.py` turns that into an error event and an abnormal close.

A large whole answer is passed on as it comes, too, but has no place for an error event: what is cut
lacks its last brace, and its connection ends abnormally.

When the end is seen the request is finished before that end is sent on: what it held is settled, so
that whoever has a whole answer can ask again at once, and in strict mode its row is on the disk.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from ollama_gateway import clock
from ollama_gateway.backends.backends import Backend
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.attempt import Answer, AttemptFailed
from ollama_gateway.flow.reading import reading_of
from ollama_gateway.flow.scrubbing import scrubbed
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.wire.dialects import Dialect, Usage
from ollama_gateway.wire.dialects.reading import MOST_TEXT
from ollama_gateway.wire.headers import Headers, downstream_headers
from ollama_gateway.wire.whole import WholeAnswer

Finish = Callable[[], Awaitable[None]]
Following = Callable[[], Awaitable[list[bytes]]]
NO_END: Final = "no_terminal_marker"


async def relay(
    answer: Answer,
    ask: Ask,
    record: AuditRecord,
    finish: Finish,
    idle_timeout: float,
    extra: Headers,
) -> None:
    """Send the answer to the client, `extra` among its headers.

    `finish` is called when all of it is there; `idle_timeout` is seconds between two chunks.
    """
    record.status = answer.status
    headers = downstream_headers(answer.headers) + extra
    whole = answer.frames if isinstance(answer.frames, WholeAnswer) else None
    if whole is not None and whole.is_ended:  # nothing is waited for any more
        await _relay_whole(answer, whole, ask, record, finish, headers, answer.next)
        return
    # One scope for all of it, whose deadline moves: one for each chunk cost as much as it.
    with trio.CancelScope() as idle:
        following = partial(_next, answer, idle, idle_timeout)
        if whole is not None:
            await _relay_whole(answer, whole, ask, record, finish, headers, following)
        else:
            await ask.downstream.start(answer.status, headers)
            await _pass_on(answer, ask, record, finish, following)
    if idle.cancelled_caught:
        timeout = UpstreamTimeout("the backend stopped answering", reason="idle_timeout")
        raise _broken(answer, timeout)


async def _relay_whole(
    answer: Answer,
    whole: WholeAnswer,
    ask: Ask,
    record: AuditRecord,
    finish: Finish,
    headers: Headers,
    following: Following,
) -> None:
    """Send it at once where all of it is there; else as it comes, and its last brace at the end."""
    parts, is_passed_on = answer.first, not whole.is_ended
    answer.first = []  # it may take long to send, and is in memory only until then
    try:
        if is_passed_on:
            await ask.downstream.start(answer.status, headers, tells_errors=False)
        while not whole.is_ended:
            while parts:
                part = parts.pop(0)
                record.bytes_out += len(part)
                await ask.downstream.send(part)
            parts = await following()
    finally:
        _note_whole(answer, whole, ask, record, parts)
    if whole.reading.error is not None or whole.reading.is_garbled:
        raise _failure(whole.reading.error, answer.backend)
    record.bytes_out += sum(map(len, parts))
    await finish()
    if is_passed_on:
        await ask.downstream.end(b"".join(parts))
    else:
        await ask.downstream.respond(answer.status, headers, b"".join(parts))


def _note_whole(
    answer: Answer, whole: WholeAnswer, ask: Ask, record: AuditRecord, parts: list[bytes]
) -> None:
    """Take down what it cost, as far as it came."""
    usage, embeds = whole.reading.usage, ask.endpoint.inputs is not None
    if usage is not None:
        _note_usage(record, usage, answer)
    if whole.is_ended:
        record.heard = clock.now()
    if embeds and record.prompt_tokens is not None:
        record.completion_tokens = 0  # it has none
    if record.completion_tokens is None and not embeds:
        record.text = record.bytes_out + ask.endpoint.dialect.text(b"".join(parts))


async def _pass_on(
    answer: Answer, ask: Ask, record: AuditRecord, finish: Finish, following: Following
) -> None:
    frames, answer.first = answer.first, []
    while frames:
        good, failure, is_last = await _examine(frames, ask.endpoint.dialect, record, answer)
        whole = [shown for shown in map(answer.shown, good) if shown]
        _count(record, whole, ask.endpoint.dialect)
        if is_last:
            await finish()
            await ask.downstream.end(b"".join(whole))
            return
        if whole:
            await ask.downstream.send(b"".join(whole))
        if failure is not None:
            raise failure
        frames = await following()
    # Ollama itself ends a stream so when a model repeats itself: no fault of the backend's.
    answer.slot.failed(BackendFault.NONE, NO_END, clock.now())
    raise UpstreamFailed("the backend's answer ended early", reason=NO_END)


async def _examine(
    frames: list[bytes], dialect: Dialect, record: AuditRecord, answer: Answer
) -> tuple[list[bytes], GatewayError | None, bool]:
    """The frames that may be sent, what is wrong with the next one, and whether it is the end."""
    for place, frame in enumerate(frames):
        is_short = len(frame) <= MOST_TEXT
        reading = dialect.read(frame) if is_short else await reading_of(frame, dialect)
        if reading.usage is not None:
            _note_usage(record, reading.usage, answer)
        if reading.error is not None or reading.is_garbled:
            return frames[:place], _failure(reading.error, answer.backend), False
        if reading.is_last:
            return frames[: place + 1], None, True
    return frames, None, False


def _failure(error: str | None, backend: Backend) -> GatewayError:
    if error is None:
        return UpstreamFailed("the backend's answer broke", reason="garbled_answer")
    return UpstreamFailed(scrubbed(error, backend), reason="error_in_stream")


def _count(record: AuditRecord, frames: list[bytes], dialect: Dialect) -> None:
    record.heard = clock.now()
    record.chunks += len(frames)
    record.bytes_out += sum(map(len, frames))
    record.text += sum(map(dialect.text, frames))


def _note_usage(record: AuditRecord, usage: Usage, answer: Answer) -> None:
    """Take down what it cost, and how fast that backend writes."""
    record.report(usage.prompt, usage.completion)
    seconds = usage.seconds
    if usage.completion is None:
        return
    if seconds is None and usage.completion <= 2 * record.chunks:  # it came as it was written
        seconds = clock.now() - record.arrived - (record.ttft or 0)
    if seconds:
        answer.slot.health.wrote(usage.completion, seconds)


async def _next(answer: Answer, idle: trio.CancelScope, seconds: float) -> list[bytes]:
    """The next frames; `idle` is cancelled where they take so long. What a client takes is not."""
    idle.deadline = clock.now() + seconds
    try:
        return await answer.next()
    except AttemptFailed as failure:
        broken = UpstreamFailed("the backend's answer broke off", reason=failure.reason)
        raise _broken(answer, broken) from failure
    finally:
        idle.deadline = math.inf


def _broken(answer: Answer, error: GatewayError) -> GatewayError:
    """The same error, once it has been counted against the backend."""
    answer.slot.failed(BackendFault.BROKEN, error.reason, clock.now())
    return error
