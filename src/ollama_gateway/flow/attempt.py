"""One attempt: a request to one backend, up to its first good chunk.

A good chunk is the first whole frame of a 2xx that has the shape of an answer in this dialect, and
is of the kind that was asked for: a stream or a whole answer. Until it arrives the client
sees nothing of the attempt, so every failure is an `AttemptFailed`, and the race tries the next
candidate. An error that the client caused is final, because every backend would answer the same: it
is raised as `BackendRefused`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.contexts import answered_with, note_context
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.transport import BackendAnswer
from ollama_gateway.errors import Unavailable
from ollama_gateway.flow.admission import ModelCall
from ollama_gateway.flow.answers import AnswerBudget, AnswerMemory
from ollama_gateway.flow.failures import (
    AttemptFailed,
    error_as_answer,
    header_text,
    read_failure,
)
from ollama_gateway.flow.reading import begins_well, is_wordless, reading_of, slices
from ollama_gateway.flow.scrubbing import error_for_client
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.dialects import Reading
from ollama_gateway.wire.frames import FrameGarbled, Frames, FrameTooLong, LineFrames, frames_for
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.whole import WholeAnswer

DELIMITERS: Final = {b"content-length", b"transfer-encoding"}


@attrs.define(eq=False)
class GoodAnswer:
    """A backend's answer from its first good chunk on. Its owner closes it."""

    slot: Slot
    call: ModelCall
    status: int
    headers: list[tuple[bytes, bytes]]
    frames: Frames | WholeAnswer
    first: list[bytes]
    """The frames that came with the first good chunk; the relay empties it as it sends them."""
    _incoming: BackendAnswer
    memory: AnswerMemory
    """The memory that it takes until it has been sent."""
    is_delimited: bool = True
    """Whether its head says how the body ends, so that a cut is seen."""
    changed: tuple[str, ...] = ()
    """The names of what the gateway changed in its request."""
    client_frame: Callable[[bytes], bytes] = bytes
    """Returns the part of a frame that the client gets."""

    @property
    def backend(self) -> Backend:
        """The backend that answers."""
        return self.slot.backend

    @property
    def ended_cleanly(self) -> bool:
        """Whether a finished stream of lines was ended, not cut."""
        return self.is_delimited and isinstance(self.frames, LineFrames) and self.frames.is_between

    async def next(self) -> list[bytes]:
        """Return the next whole frames, at least one; empty at the end. Raises AttemptFailed.

        Call it once the frames before were sent. The last parts of a whole answer are returned when
        it `is_ended`.
        """
        if self.memory.taken:
            self.memory.give_back()
        return await _next_frames(self._incoming, self.frames)

    async def aclose(self) -> None:
        """Close the connection and give the slot back, quickly even when cancelled."""
        try:
            await self._incoming.aclose()
        finally:
            self.memory.give_back()
            self.slot.release()


async def try_backend(
    slot: Slot, call: ModelCall, key_id: str, budget: AnswerBudget, headers: Headers
) -> GoodAnswer:
    """Ask the backend of a slot for a good chunk, with these headers; the answer owns the slot.

    Raises AttemptFailed, BackendRefused, and Unavailable where `budget` has no room for the answer.
    Fails at once with `backend_down` when discovery finds that the backend is down.
    """
    unanswered = slot.backend.unanswered
    with trio.CancelScope() as scope:
        unanswered[scope] = call.model
        try:
            return await _ask(slot, call, key_id, AnswerMemory(budget), headers)
        finally:
            del unanswered[scope]
    raise AttemptFailed(Reason.BACKEND_DOWN, BackendFault.NONE)


async def _ask(
    slot: Slot, call: ModelCall, key_id: str, memory: AnswerMemory, headers: Headers
) -> GoodAnswer:
    backend = slot.backend
    change = call.load_change(backend)
    context = change.num_ctx or call.load.asked.num_ctx
    if not slot.is_slotless:
        note_context(backend, call.model, context)
    body = call.body_for(backend, change)
    message = backend.outgoing.message(call.endpoint.method, call.path, headers, body)
    try:
        incoming = await backend.transport.ask(message, key_id)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise AttemptFailed(Reason.CONNECT_FAILED, BackendFault.UNREACHABLE) from error
    except httpx.TransportError as error:
        raise AttemptFailed(Reason.CONNECTION_BROKEN, BackendFault.BROKEN) from error
    slot.connected()
    try:
        answer = await _first_chunk(slot, call, incoming, memory)
        answer.changed = call.changed(change)
        if not slot.is_slotless:
            answered_with(backend, call.model, context)
    except BaseException:
        memory.give_back()
        await incoming.aclose()
        raise
    return answer


async def _first_chunk(
    slot: Slot, call: ModelCall, incoming: BackendAnswer, memory: AnswerMemory
) -> GoodAnswer:
    backend, head = slot.backend, incoming.head
    if not httpx.codes.is_success(head.status):
        raise await read_failure(backend, call, incoming)
    frames = frames_for(header_text(head, b"content-type"))
    if frames is None or b"content-encoding" in head.fields:
        raise AttemptFailed(Reason.NOT_AN_OLLAMA, BackendFault.ERROR)
    dialect = call.endpoint.dialect
    if not frames.streamed:
        is_kept = call.endpoint.is_rewritten
        frames = WholeAnswer(dialect, call.shape, is_kept=is_kept, renaming=call.renaming())
    first = await _next_frames(incoming, frames, memory)
    if not first:
        raise AttemptFailed(Reason.EMPTY_ANSWER, BackendFault.BROKEN)
    if isinstance(frames, WholeAnswer):
        _check(frames.reading, slot, call)
        is_good = not call.streams or is_wordless(first, dialect)
    else:
        _check(await reading_of(first[0], dialect), slot, call)
        is_good = call.streams and await begins_well(first[0], dialect, call.shape)
    if not is_good:
        raise AttemptFailed(Reason.GARBLED_ANSWER, BackendFault.ERROR)
    if slot.placement is not None:
        slot.placement.answer_id = dialect.answer_id(first[0])
    return GoodAnswer(
        slot,
        call,
        head.status,
        head.headers,
        frames,
        first,
        incoming,
        memory,
        is_delimited=not DELIMITERS.isdisjoint(head.fields),
        client_frame=call.client_frames(),
    )


def _check(reading: Reading, slot: Slot, call: ModelCall) -> None:
    if reading.is_garbled:
        raise AttemptFailed(Reason.GARBLED_ANSWER, BackendFault.ERROR)
    if reading.error is not None:
        raise error_as_answer(error_for_client(reading.error, slot.backend, call))


async def _next_frames(
    incoming: BackendAnswer, frames: Frames | WholeAnswer, memory: AnswerMemory | None = None
) -> list[bytes]:
    """Return the next whole frames; `memory` holds the parts of a whole answer until then.

    Raises AttemptFailed, Unavailable.
    """
    try:
        while data := await incoming.read():
            if isinstance(frames, WholeAnswer):
                whole = await _next_parts(frames, data, memory)
            else:
                whole = frames.feed(data)
            if whole:
                return whole
        return frames.finish()
    except httpx.TransportError as error:
        raise AttemptFailed(Reason.CONNECTION_BROKEN, BackendFault.BROKEN) from error
    except FrameTooLong as error:
        raise AttemptFailed(Reason.FRAME_TOO_LONG, BackendFault.ERROR) from error
    except FrameGarbled as error:
        raise AttemptFailed(Reason.GARBLED_ANSWER, BackendFault.ERROR) from error


async def _next_parts(answer: WholeAnswer, data: bytes, memory: AnswerMemory | None) -> list[bytes]:
    parts: list[bytes] = []
    for part in slices(data):
        parts += answer.feed(part)
        if len(part) < len(data):
            await trio.lowlevel.checkpoint()
    if parts or memory is None or memory.take(len(data)):
        return parts
    parts = answer.pass_on()
    if not answer.is_good:
        raise Unavailable(
            "the gateway holds too many answers, try again",
            reason=Reason.ANSWERS_FULL,
            retry_after=1,
        )
    return parts
