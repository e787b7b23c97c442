"""One attempt: a request to one backend, up to its first good chunk.

A good chunk is the first whole frame of a 2xx that is not an error. Until there is one, nothing
of the attempt can be seen by the client, so everything that goes wrong here is an
`AttemptFailed`, and the race tries the next candidate. Three kinds of answers are final instead,
because every backend would give the same: they are raised as `BackendRefused` and are the
client's own.
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
from ollama_gateway.flow.admission import Call
from ollama_gateway.flow.answers import AnswerBudget, Held
from ollama_gateway.flow.reading import reading_of, slices
from ollama_gateway.flow.scrubbing import scrubbed
from ollama_gateway.wire.dialects import Reading
from ollama_gateway.wire.frames import FrameGarbled, Frames, FrameTooLong, frames_for
from ollama_gateway.wire.whole import WholeAnswer

CLIENTS_OWN: Final = {400, 413, 415, 422}
"""Statuses that say the request is wrong, wherever it goes."""
FULL: Final = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
LACKING: Final = re.compile(r"model ['\"].*['\"] not found")
"""How Ollama says that it has not the model (server/routes.go)."""
MAX_ERROR_BODY: Final = 64 * 1024
"""Bytes of a backend's error answer that are read."""
ERROR_BODY_TIMEOUT: Final = 1.0
"""Seconds for that: the next candidate waits for it."""


class AttemptFailed(Exception):
    """This backend did not give a good chunk; another may.

    Args:
        reason: the operator's word for it.
        fault: what it says of the backend.
        status: the HTTP status, where the backend gave one.
        message: the backend's error text, without addresses and paths.
        retry_after: seconds, where the backend said so.

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
    """The backend's own 4xx (or a wrong option), in its own words: every one would say it."""

    blame = Blame.CLIENT
    default_reason = "backend_refused"

    def __init__(self, status: int, message: str | None) -> None:
        super().__init__(message or "bad request")
        self.status = status


@attrs.define(eq=False)
class Answer:
    """A backend's answer from its first good chunk on. Whoever holds it closes it."""

    slot: Slot
    status: int
    headers: list[tuple[bytes, bytes]]
    frames: Frames | WholeAnswer
    first: list[bytes]
    """The frames that came with the first good chunk; who sends them empties it."""
    _incoming: BackendAnswer
    held: Held
    """What of it is in memory until it has been sent."""
    shown: Callable[[bytes], bytes] = bytes
    """What the client gets of a frame."""

    @property
    def backend(self) -> Backend:
        """Who answers."""
        return self.slot.backend

    async def next(self) -> list[bytes]:
        """The next whole frames, at least one; empty at the end. Raises AttemptFailed.

        Those before have been sent. What a whole answer ends with comes when it `is_ended`.
        """
        if self.held.taken:
            self.held.give_back()
        return await _next_frames(self._incoming, self.frames)

    async def aclose(self) -> None:
        """Close the connection to the backend and give its slot back; quick, and safe under
        cancellation.
        """
        try:
            await self._incoming.aclose()
        finally:
            self.held.give_back()
            self.slot.release()


async def attempt(slot: Slot, call: Call, key_id: str, budget: AnswerBudget) -> Answer:
    """Ask the backend of a slot, which is the answer's then; `budget` is for what is held of it.

    Raises AttemptFailed, BackendRefused, and Unavailable where there is no room for the answer.

    Ends at once with `backend_down` when discovery finds that the backend is gone.
    """
    unanswered = slot.backend.unanswered
    with trio.CancelScope() as scope:
        unanswered.add(scope)
        try:
            return await _ask(slot, call, key_id, Held(budget))
        finally:
            unanswered.discard(scope)
    raise AttemptFailed("backend_down", BackendFault.NONE)


async def _ask(slot: Slot, call: Call, key_id: str, held: Held) -> Answer:
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
        return await _first_chunk(slot, call, incoming, held)
    except BaseException:
        held.give_back()
        await incoming.aclose()
        raise


async def _first_chunk(slot: Slot, call: Call, incoming: BackendAnswer, held: Held) -> Answer:
    backend, head = slot.backend, incoming.head
    if not httpx.codes.is_success(head.status):
        raise await _failure(backend, call, incoming)
    frames = frames_for(_text(head, b"content-type"))
    if frames is None or b"content-encoding" in head.fields:
        raise AttemptFailed("not_an_ollama", BackendFault.ERROR)
    dialect = call.endpoint.dialect
    if not frames.streamed:
        frames = WholeAnswer(dialect, is_kept=call.endpoint.group == "read")
    first = await _next_frames(incoming, frames, held)
    if not first:
        raise AttemptFailed("empty_answer", BackendFault.BROKEN)
    if isinstance(frames, WholeAnswer):
        reading = frames.reading
    else:
        reading = await reading_of(first[0], dialect)
    _check(reading, backend)
    return Answer(slot, head.status, head.headers, frames, first, incoming, held, call.shown)


def _check(reading: Reading, backend: Backend) -> None:
    if reading.is_garbled:
        raise AttemptFailed("garbled_answer", BackendFault.ERROR)
    if reading.error is not None:
        text = scrubbed(reading.error, backend)
        raise AttemptFailed("error_as_answer", BackendFault.ERROR, message=text)


async def _failure(backend: Backend, call: Call, incoming: BackendAnswer) -> Exception:
    """What a status that is not 2xx means: for the client, or for the race."""
    status = incoming.head.status
    error = call.endpoint.dialect.read_body(await _error_body(incoming)).error
    text = None if error is None else scrubbed(error, backend)
    if status in CLIENTS_OWN:
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


def _fault_of(status: int, text: str | None, backend: Backend, call: Call) -> BackendFault:
    """What an HTTP status says of the backend.

    A 404 speaks of the model only where it says so (a backend that lacks the route says other
    things), and the name was sent as the backend lists it.
    """
    if status in FULL:
        return BackendFault.FULL
    if status != httpx.codes.NOT_FOUND:
        return BackendFault.ERROR
    is_its_own = call.name_for(backend) == backend.spelling(call.model)
    speaks_of_it = text is not None and LACKING.match(text) is not None
    return BackendFault.LACKS_MODEL if is_its_own and speaks_of_it else BackendFault.NONE


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
    incoming: BackendAnswer, frames: Frames | WholeAnswer, held: Held | None = None
) -> list[bytes]:
    """Those that come next, while what came before is held; raises AttemptFailed, Unavailable."""
    try:
        while data := await incoming.read():
            if isinstance(frames, WholeAnswer):
                whole = await _next_parts(frames, data, held)
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


async def _next_parts(answer: WholeAnswer, data: bytes, held: Held | None) -> list[bytes]:
    parts: list[bytes] = []
    for part in slices(data):
        parts += answer.feed(part)
        if len(part) < len(data):
            await trio.lowlevel.checkpoint()
    if parts or held is None or held.take(len(data)):
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
