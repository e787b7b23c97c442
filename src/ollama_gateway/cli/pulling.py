"""One model pulled on several backends at once, each followed by its own lines of progress.

The backends are asked themselves, as `probe` does: same transport, same headers. Within the idle
timeout of each line a pull goes on for as long as it takes; what one backend does is nothing to
the others.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, cast

import anyio
import attrs
import httpx

from ollama_gateway.backends.backends import Backend
from ollama_gateway.printable import printable
from ollama_gateway.wire.dialects.progress import ProgressDialect
from ollama_gateway.wire.frames import FrameTooLong, LineFrames

DIALECT: Final = ProgressDialect()
MOST_LAYERS: Final = 1000
"""Layers that are counted; a real model has about five."""
JSON_TYPE: Final = [(b"content-type", b"application/json")]


class PullFailed(Exception):
    """A pull ended otherwise than by `success`; the message is one printable line."""


@attrs.define(eq=False)
class Pull:
    """One backend's pull, as far as it has come."""

    backend: str
    status: str = "connecting"
    error: str | None = None
    is_over: bool = False
    _layers: dict[str, tuple[int, int]] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it has ended well."""
        return self.is_over and self.error is None

    @property
    def completed(self) -> int:
        """Bytes that are there, of all layers told of so far."""
        return sum(completed for completed, _ in self._layers.values())

    @property
    def total(self) -> int:
        """Bytes of these layers."""
        return sum(total for _, total in self._layers.values())

    def note(self, line: dict[str, object]) -> None:
        """Take in one line of progress."""
        self.status = printable(str(line.get("status", "")))[:60]
        digest, total = line.get("digest"), line.get("total")
        if not isinstance(digest, str) or type(total) is not int:
            return
        completed = line.get("completed")
        if digest in self._layers or len(self._layers) < MOST_LAYERS:
            self._layers[digest] = (completed if type(completed) is int else 0, total)


OnProgress = Callable[[Pull], None]
"""Called whenever a pull has come further, and once when it is over."""


async def pull_all(
    backends: Sequence[Backend], model: str, idle: float, on_progress: OnProgress
) -> list[Pull]:
    """Pull on all at once; in the order given, each with its end."""
    pulls = [Pull(backend.name) for backend in backends]
    async with anyio.create_task_group() as tasks:
        for backend, pull in zip(backends, pulls, strict=True):
            tasks.start_soon(_pull, backend, model, idle, pull, on_progress)
    return pulls


async def _pull(
    backend: Backend, model: str, idle: float, pull: Pull, on_progress: OnProgress
) -> None:
    try:
        await _follow(backend, model, idle, pull, on_progress)
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
    on_progress(pull)


async def _follow(
    backend: Backend, model: str, idle: float, pull: Pull, on_progress: OnProgress
) -> None:
    body = json.dumps({"model": model, "stream": True}).encode()
    request = backend.request("POST", "/api/pull", JSON_TYPE, body)
    with anyio.fail_after(idle):
        response = await backend.transport.handle_async_request(request)
    try:
        chunks = aiter(cast("httpx.AsyncByteStream", response.stream))
        if not response.is_success:
            raise PullFailed(await _refusal(response.status_code, chunks, idle))
        frames = LineFrames()
        while True:
            with anyio.fail_after(idle):
                data = await anext(chunks, b"")
            if not data:
                raise PullFailed("the answer ended early")
            if any(_note(frame, pull, on_progress) for frame in frames.feed(data)):
                return
    finally:
        await response.aclose()


def _note(frame: bytes, pull: Pull, on_progress: OnProgress) -> bool:
    """Take in a line; whether it is the last. Raises PullFailed where it is an error."""
    reading = DIALECT.read(frame)
    if reading.is_garbled:
        raise PullFailed("does not answer as an Ollama does")
    if reading.error is not None:
        raise PullFailed(printable(reading.error))
    pull.note(json.loads(frame.decode("utf-8", "replace")))
    on_progress(pull)
    return reading.is_last


async def _refusal(status: int, chunks: AsyncIterator[bytes], idle: float) -> str:
    """What an answer that is no 2xx says, as far as it fits on a line."""
    body = b""
    with anyio.fail_after(idle):
        async for chunk in chunks:
            body += chunk
            if len(body) > 64 * 1024:
                break
    error = DIALECT.read_body(body).error
    return printable(error) if error else f"answered {status}"
