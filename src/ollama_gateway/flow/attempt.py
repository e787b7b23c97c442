"""One attempt: a request to one backend, up to its first good chunk.

A good chunk is the first whole frame of a 2xx that is not an error. Until it arrives the client
sees nothing of the attempt, so every failure is an `AttemptFailed`, and the race tries the next
candidate. An error that the client caused is final, because every backend would answer the same: it
is raised as `BackendRefused`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import attrs
import httpx
import trio

from ollama_gateway.backends.backends import Backend
from ollama_gateway.backends.heads import Head
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.transport import BackendAnswer
from ollama_gateway.errors import Blame, GatewayError, Unavailable
from ollama_gateway.flow.admission import ModelCall
from ollama_gateway.flow.answers import AnswerBudget, AnswerMemory
from ollama_gateway.flow.reading import reading_of, slices
from ollama_gateway.flow.scrubbing import scrubbed
from ollama_gateway.wire.dialects import Reading
from ollama_gateway.wire.frames import FrameGarbled, Frames, FrameTooLong, frames_for
from ollama_gateway.wire.whole import WholeAnswer

CLIENT_ERROR_STATUSES: Final = {400, 413, 415, 422}
"""Statuses for a request that is wrong at every backend."""
FULL_STATUSES: Final = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
MODEL_NOT_FOUND: Final = re.compile(r"model ['\"].*['\"] not found")
"""Ollama's text for a model that it does not have (server/routes.go)."""
MAX_ERROR_BODY: Final = 64 * 1024
"""Bytes of a backend's error answer; a longer one is ignored."""
ERROR_BODY_TIMEOUT: Final = 1.0
"""Seconds for reading it, while the next candidate waits."""


class AttemptFailed(Exception):
    """This backend gave no good chunk; another may.

    Args:
        reason: the operator's word for the failure.
        fault: what the failure shows about the backend.
        status: the HTTP status, if the backend sent one.
        message: the backend's error text, without addresses and paths.
        retry_after: seconds, if the backend sent `Retry-After`.

    """

    def __init__(
        self,
        reason: str,
        fault: BackendFault,
        *,
        status: int | None = None,
        message: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.fault, self.status = reason, fault, status
        self.message, self.retry_after = message, retry_after


class BackendRefused(GatewayError):
    """A 4xx (or a wrong option) in the backend's words; every backend would answer so."""

    blame = Blame.CLIENT
    default_reason = "backend_refused"

    def __init__(self, status: int, message: str | None) -> None:
        super().__init__(message or "bad request")
        self.status = status


@attrs.define(eq=False)
class GoodAnswer:
    """A backend's answer from its first good chunk on. Its owner closes it."""

    slot: Slot
    status: int
    headers: list[tuple[bytes, bytes]]
    frames: Frames | WholeAnswer
    first: list[bytes]
    """The frames that came with the first good chunk; the relay empties it as it sends them."""
    _incoming: BackendAnswer
    memory: AnswerMemory
    """The memory that it takes until it has been sent."""
    client_frame: Callable[[bytes], bytes] = bytes
    """Returns the part of a frame that the client gets."""

    @property
    def backend(self) -> Backend:
        """The backend that answers."""
        return self.slot.backend

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


async def try_backend(slot: Slot, call: ModelCall, key_id: str, budget: AnswerBudget) -> GoodAnswer:
    """Ask the backend of a slot for a good chunk; the answer then owns the slot.

    Raises AttemptFailed, BackendRefused, and Unavailable where `budget` has no room for the answer.
    Fails at once with `backend_down` when discovery finds that the backend is down.
    """
    unanswered = slot.backend.unanswered
    with trio.CancelScope() as scope:
        unanswered.add(scope)
        try:
            return await _ask(slot, call, key_id, AnswerMemory(budget))
        finally:
            unanswered.discard(scope)
    raise AttemptFailed("backend_down", BackendFault.NONE)


async def _ask(slot: Slot, call: ModelCall, key_id: str, memory: AnswerMemory) -> GoodAnswer:
    backend = slot.backend
    body = call.body_for(backend)
    message = backend.outgoing.message(call.endpoint.method, call.path, call.headers, body)
    try:
        incoming = await backend.transport.ask(message, key_id)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise AttemptFailed("connect_failed", BackendFault.UNREACHABLE) from error
    except httpx.TransportError as error:
        raise AttemptFailed("connection_broken", BackendFault.BROKEN) from error
    slot.connected()
    try:
        return await _first_chunk(slot, call, incoming, memory)
    except BaseException:
        memory.give_back()
        await incoming.aclose()
        raise


async def _first_chunk(
    slot: Slot, call: ModelCall, incoming: BackendAnswer, memory: AnswerMemory
) -> GoodAnswer:
    backend, head = slot.backend, incoming.head
    if not httpx.codes.is_success(head.status):
        raise await _failure(backend, call, incoming)
    frames = frames_for(_text(head, b"content-type"))
    if frames is None or b"content-encoding" in head.fields:
        raise AttemptFailed("not_an_ollama", BackendFault.ERROR)
    dialect = call.endpoint.dialect
    if not frames.streamed:
        frames = WholeAnswer(dialect, is_kept=call.endpoint.is_rewritten)
    first = await _next_frames(incoming, frames, memory)
    if not first:
        raise AttemptFailed("empty_answer", BackendFault.BROKEN)
    if isinstance(frames, WholeAnswer):
        reading = frames.reading
    else:
        reading = await reading_of(first[0], dialect)
    _check(reading, backend)
    return GoodAnswer(
        slot, head.status, head.headers, frames, first, incoming, memory, call.client_frame
    )


def _check(reading: Reading, backend: Backend) -> None:
    if reading.is_garbled:
        raise AttemptFailed("garbled_answer", BackendFault.ERROR)
    if reading.error is not None:
        text = scrubbed(reading.error, backend)
        raise AttemptFailed("error_as_answer", BackendFault.ERROR, message=text)


async def _failure(backend: Backend, call: ModelCall, incoming: BackendAnswer) -> Exception:
    """Return the error that a status other than 2xx means, for the client or for the race."""
    status = incoming.head.status
    error = call.endpoint.dialect.read_body(await _error_body(incoming)).error
    text = None if error is None else scrubbed(error, backend)
    if status in CLIENT_ERROR_STATUSES:
        return BackendRefused(status, text)
    if status == httpx.codes.INTERNAL_SERVER_ERROR and text and text.startswith('option "'):
        return BackendRefused(status, text)
    return AttemptFailed(
        f"status_{status}",
        _fault_of(status, text, backend, call),
        status=status,
        message=text,
        retry_after=_seconds(_text(incoming.head, b"retry-after")),
    )


def _fault_of(status: int, text: str | None, backend: Backend, call: ModelCall) -> BackendFault:
    """Return what an HTTP status shows about the backend.

    A 404 means that the model is missing only if its text says so (a backend that lacks the route
    says something else) and the name was sent as the backend lists it.
    """
    if status in FULL_STATUSES:
        return BackendFault.FULL
    if status != httpx.codes.NOT_FOUND:
        return BackendFault.ERROR
    is_its_spelling = call.name_for(backend) == backend.spelling(call.model)
    is_about_model = text is not None and MODEL_NOT_FOUND.match(text) is not None
    return BackendFault.LACKS_MODEL if is_its_spelling and is_about_model else BackendFault.NONE


async def _error_body(incoming: BackendAnswer) -> bytes:
    body = b""
    with trio.move_on_after(ERROR_BODY_TIMEOUT):
        try:
            while chunk := await incoming.read():
                body += chunk
                if len(body) > MAX_ERROR_BODY:
                    return b""
        except httpx.TransportError:
            return b""
        return body
    return b""


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
        raise AttemptFailed("connection_broken", BackendFault.BROKEN) from error
    except FrameTooLong as error:
        raise AttemptFailed("frame_too_long", BackendFault.ERROR) from error
    except FrameGarbled as error:
        raise AttemptFailed("garbled_answer", BackendFault.ERROR) from error


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
            "the gateway holds too many answers, try again", reason="answers_full", retry_after=1
        )
    return parts


def _text(head: Head, name: bytes) -> str:
    return head.fields.get(name, b"").decode("latin-1")


def _seconds(retry_after: str) -> float | None:
    return (
        min(float(retry_after), 3600.0)
        if retry_after.isascii() and retry_after.isdecimal()
        else None
    )
