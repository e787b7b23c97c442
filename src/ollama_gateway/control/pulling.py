"""Pull a model onto several backends at once, and report the progress of each.

Backends are asked directly, as polls ask them. A pull may take as long as it needs if each line of
progress comes within a deadline. Pulls do not affect each other. Who leaves ends them: Ollama keeps
the layers that have come.

What a backend says is bounded: the length of a line, the layers that are counted, the lines read in
one turn of the event loop, and how often progress is reported.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, cast

import anyio
import anyio.lowlevel
import attrs
import httpx

from ollama_gateway.backends.backend import Backend
from ollama_gateway.printable import printable
from ollama_gateway.wire.dialects.progress import ProgressDialect
from ollama_gateway.wire.frames import FrameTooLong, LineFrames

REPORT_SECONDS: Final = 0.2
"""Seconds between two reports of progress."""
MAX_LINE: Final = 64 * 1024
"""Bytes of a line of progress; an honest one has some hundred."""
MAX_LAYERS: Final = 1000
"""The most layers whose bytes are counted; a real model has about five."""
MAX_ANSWER: Final = 64 * 1024
"""Bytes that are read of an answer that is not streamed."""
LINES_IN_A_TURN: Final = 50
_DIALECT: Final = ProgressDialect()
_JSON_TYPE: Final = [(b"content-type", b"application/json")]


class PullFailed(Exception):
    """A pull ended without `success`; the message is one printable line."""


@attrs.define(eq=False)
class Pull:
    """The progress of one backend's pull."""

    backend: str
    status: str = "connecting"
    error: str | None = None
    is_over: bool = False
    _layers: dict[str, tuple[int, int]] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """True if it has ended without an error."""
        return self.is_over and self.error is None

    @property
    def completed(self) -> int:
        """Bytes received, over all layers reported so far."""
        return sum(completed for completed, _ in self._layers.values())

    @property
    def total(self) -> int:
        """Bytes of these layers in total."""
        return sum(total for _, total in self._layers.values())

    def note(self, line: dict[str, object]) -> None:
        """Take in one line of progress."""
        self.status = printable(str(line.get("status", ""))[:60])
        digest, total = line.get("digest"), line.get("total")
        if not isinstance(digest, str) or type(total) is not int:
            return
        completed = line.get("completed")
        if digest in self._layers or len(self._layers) < MAX_LAYERS:
            self._layers[digest] = (completed if type(completed) is int else 0, total)

    def progress(self) -> dict[str, Any]:
        """Return how far it is, as a document."""
        return {
            "backend": self.backend,
            "status": self.status,
            "completed": self.completed,
            "total": self.total,
            "done": self.is_over,
            "error": self.error,
        }

    def result(self) -> dict[str, Any]:
        """Return how it ended, as a document."""
        return {"backend": self.backend, "ok": self.ok, "bytes": self.total, "error": self.error}


Report = Callable[[Pull], Awaitable[None]]
"""Called when a pull has got on, and when it is over; it may wait."""


@attrs.define(eq=False)
class _News:
    """The pulls that have got on since the last report."""

    pulls: dict[Pull, None] = attrs.field(factory=dict)
    event: anyio.Event = attrs.field(factory=anyio.Event)
    end: anyio.Event = attrs.field(factory=anyio.Event)
    """Set when a pull is over."""

    def add(self, pull: Pull) -> None:
        self.pulls[pull] = None
        self.event.set()
        if pull.is_over:
            self.end.set()

    async def next(self) -> list[Pull]:
        await self.event.wait()
        self.event, self.end = anyio.Event(), anyio.Event()
        news, self.pulls = list(self.pulls), {}
        return news


async def pull_all(
    backends: Sequence[Backend], model: str, idle: float, report: Report
) -> list[Pull]:
    """Pull on all backends at once; return the finished pulls in the order given.

    Args:
        backends: where.
        model: the name, as for `ollama pull`.
        idle: seconds within which each line of progress must come.
        report: gets each pull five times a second at most, and its end.

    """
    pulls, news = [Pull(backend.name) for backend in backends], _News()
    async with anyio.create_task_group() as tasks:
        for backend, pull in zip(backends, pulls, strict=True):
            tasks.start_soon(_pull, backend, model, idle, pull, news)
        while news.pulls or not all(pull.is_over for pull in pulls):
            for pull in await news.next():
                await report(pull)
            if all(pull.is_over for pull in pulls):
                continue
            with anyio.move_on_after(REPORT_SECONDS):
                await news.end.wait()
    return pulls


async def _pull(backend: Backend, model: str, idle: float, pull: Pull, news: _News) -> None:
    try:
        await _follow(backend, model, idle, pull, news)
    except PullFailed as failure:
        pull.error = str(failure)
    except TimeoutError:
        pull.error = "no progress in time"
    except httpx.ConnectError:
        pull.error = "cannot connect"
    except httpx.ConnectTimeout:
        pull.error = "no connection in time"
    except (httpx.TransportError, FrameTooLong):
        pull.error = "the answer broke off"
    pull.is_over = True
    news.add(pull)


async def _follow(backend: Backend, model: str, idle: float, pull: Pull, news: _News) -> None:
    body = json.dumps({"model": model, "stream": True}).encode()
    request = backend.outgoing.request("POST", "/api/pull", _JSON_TYPE, body)
    with anyio.fail_after(idle):
        response = await backend.transport.handle_async_request(request)
    try:
        chunks = aiter(cast("httpx.AsyncByteStream", response.stream))
        if not response.is_success:
            with anyio.fail_after(idle):
                body = await beginning_of(chunks)
            raise PullFailed(refusal_in(response.status_code, body))
        frames = LineFrames(MAX_LINE)
        while True:
            with anyio.fail_after(idle):
                data = await anext(chunks, b"")
            if not data:
                raise PullFailed("the answer ended early")
            for number, frame in enumerate(frames.feed(data), 1):
                if _note(frame, pull, news):
                    return
                if number % LINES_IN_A_TURN == 0:
                    await anyio.lowlevel.checkpoint()
    finally:
        await response.aclose()


def _note(frame: bytes, pull: Pull, news: _News) -> bool:
    """Take in a line and return whether it is the last; raises PullFailed if it is an error."""
    reading = _DIALECT.read_frame(frame)
    if reading.is_garbled or len(frame) > MAX_LINE:
        raise PullFailed("does not answer as an Ollama does")
    if reading.error is not None:
        raise PullFailed(printable(reading.error))
    pull.note(json.loads(frame.decode("utf-8", "replace")))
    news.add(pull)
    return reading.is_last


async def beginning_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the first bytes of an answer, all of an honest one that is not streamed."""
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_ANSWER:
            break
    return body[:MAX_ANSWER]


def refusal_in(status: int, body: bytes) -> str:
    """Return the error of an answer other than 2xx, as one printable line."""
    error = _DIALECT.read_body(body).error
    return printable(error) if error else f"answered {status}"
