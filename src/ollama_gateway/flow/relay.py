"""From the first good chunk to the end: whole frames, unchanged, as fast as the client reads.

From here on there is no second backend. Only the dialect's own terminal marker makes a stream
complete: all of Ollama's failures in the middle of a stream end with a valid body. What is not
complete raises, and `server/app.py` turns that into an error event and an abnormal close.

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
from ollama_gateway.backends.health import Fault
from ollama_gateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from ollama_gateway.flow.ask import Ask, Headers
from ollama_gateway.flow.attempt import Answer, AttemptFailed, scrubbed
from ollama_gateway.ledger.record import Row
from ollama_gateway.wire.dialects import Dialect, Usage
from ollama_gateway.wire.headers import downstream_headers

Finish = Callable[[], Awaitable[None]]
Following = Callable[[], Awaitable[list[bytes]]]
NO_END: Final = "no_terminal_marker"


async def relay(
    answer: Answer,
    ask: Ask,
    row: Row,
    finish: Finish,
    idle_timeout: float,
    extra: Headers,
) -> None:
    """Send the answer to the client, `extra` among its headers.

    `finish` is called when all of it is there; `idle_timeout` is seconds between two chunks.
    """
    row.status = answer.status
    headers = downstream_headers(answer.headers) + extra
    if answer.frames.streamed:
        await ask.downstream.start(answer.status, headers)
        await _stream(answer, ask, row, finish, idle_timeout)
        return
    body = answer.first[0]
    row.bytes_out, row.heard = len(body), clock.now()
    if answer.reading.usage is not None:
        _note_usage(row, answer.reading.usage, answer)
    if ask.endpoint.inputs is None and row.completion_tokens is None:
        row.text = ask.endpoint.dialect.text(body)
    elif row.prompt_tokens is not None:
        row.completion_tokens = row.completion_tokens or 0  # an embedding has none
    await finish()
    await ask.downstream.respond(answer.status, headers, body)


async def _stream(answer: Answer, ask: Ask, row: Row, finish: Finish, idle_timeout: float) -> None:
    # One scope for the whole stream, whose deadline moves: one for each chunk cost as much as it.
    with trio.CancelScope() as idle:
        await _pass_on(answer, ask, row, finish, partial(_next, answer, idle, idle_timeout))
    if idle.cancelled_caught:
        timeout = UpstreamTimeout("the backend stopped answering", reason="idle_timeout")
        raise _broken(answer, timeout)


async def _pass_on(
    answer: Answer, ask: Ask, row: Row, finish: Finish, following: Following
) -> None:
    frames = answer.first
    while frames:
        good, failure, is_last = _examine(frames, ask.endpoint.dialect, row, answer)
        whole = [shown for shown in map(answer.shown, good) if shown]
        _count(row, whole, ask.endpoint.dialect)
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
    answer.slot.failed(Fault.NONE, NO_END, clock.now())
    raise UpstreamFailed("the backend's answer ended early", reason=NO_END)


def _examine(
    frames: list[bytes], dialect: Dialect, row: Row, answer: Answer
) -> tuple[list[bytes], GatewayError | None, bool]:
    """The frames that may be sent, what is wrong with the next one, and whether it is the end."""
    for place, frame in enumerate(frames):
        reading = dialect.read(frame)
        if reading.usage is not None:
            _note_usage(row, reading.usage, answer)
        if reading.error is not None or reading.is_garbled:
            return frames[:place], _failure(reading.error, answer.backend), False
        if reading.is_last:
            return frames[: place + 1], None, True
    return frames, None, False


def _failure(error: str | None, backend: Backend) -> GatewayError:
    if error is None:
        return UpstreamFailed("the backend's answer broke", reason="garbled_answer")
    return UpstreamFailed(scrubbed(error, backend), reason="error_in_stream")


def _count(row: Row, frames: list[bytes], dialect: Dialect) -> None:
    row.heard = clock.now()
    row.chunks += len(frames)
    row.bytes_out += sum(map(len, frames))
    row.text += sum(map(dialect.text, frames))


def _note_usage(row: Row, usage: Usage, answer: Answer) -> None:
    """Take down what it cost, and how fast that backend writes."""
    row.report(usage.prompt, usage.completion)
    seconds = usage.seconds
    if usage.completion is None:
        return
    if seconds is None and usage.completion <= 2 * row.chunks:  # it came as it was written
        seconds = clock.now() - row.arrived - (row.ttft or 0)
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
    answer.slot.failed(Fault.BROKEN, error.reason, clock.now())
    return error
