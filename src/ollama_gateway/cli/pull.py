"""What `gatewayctl pull` runs: pull a model onto several backends at once, without a gateway.

It asks the backends directly, as `probe` does: same transport, same headers. A pull may take as
long as it needs if each line of progress comes within `race.idle_timeout`. Pulls do not affect each
other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import attrs
import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.build_backends import build_backends
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.cli.known_names import unknown_backend
from ollama_gateway.cli.load_settings import load_or_exit
from ollama_gateway.cli.output import exit_with, print_json, say
from ollama_gateway.errors import BadRequest
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.wire.dialects.progress import ProgressDialect
from ollama_gateway.wire.frames import FrameTooLong, LineFrames
from ollama_gateway.wire.names import ModelName

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_DIALECT: Final = ProgressDialect()
_MAX_LAYERS: Final = 1000
"""The most layers whose bytes are counted; a real model has about five."""
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
        self.status = printable(str(line.get("status", "")))[:60]
        digest, total = line.get("digest"), line.get("total")
        if not isinstance(digest, str) or type(total) is not int:
            return
        completed = line.get("completed")
        if digest in self._layers or len(self._layers) < _MAX_LAYERS:
            self._layers[digest] = (completed if type(completed) is int else 0, total)


OnProgress = Callable[[Pull], None]
"""Called after each line of progress, and once when the pull is over."""


def pull(model: str, on: str | None, config: Path | None, *, on_all: bool, as_json: bool) -> int:
    """Pull the model on these backends, show the progress, and return the exit code."""
    settings = load_or_exit(config).settings
    chosen = _chosen(settings, model, on, on_all=on_all)
    with _view(as_json=as_json) as on_progress:
        pulls = trio.run(pull_all, chosen, model, settings.race.idle_timeout, on_progress)
    if as_json:
        print_json([_result(done) for done in pulls])
    return 0 if all(done.ok for done in pulls) else 1


def _chosen(settings: Settings, model: str, on: str | None, *, on_all: bool) -> list[Backend]:
    try:
        ModelName.parse(model)
        backends = build_backends(settings)
    except (BadRequest, TLSFilesBroken) as error:
        exit_with(2, f"gatewayctl pull: {error}")
    if on_all == (on is not None):
        exit_with(2, "gatewayctl pull: name the backends: --on A,B or --all")
    wanted = list(dict.fromkeys(name.strip() for name in (on or "").split(",")))
    found = list(backends.all) if on_all else [backends.named(name) for name in wanted]
    chosen = [backend for backend in found if backend is not None]
    if len(chosen) < len(found):
        known = [backend.name for backend in backends.all]
        unknown = next(name for name in wanted if name not in known)
        exit_with(1, f"gatewayctl pull: {unknown_backend(unknown, known)}")
    return chosen


async def pull_all(
    backends: Sequence[Backend], model: str, idle: float, on_progress: OnProgress
) -> list[Pull]:
    """Pull on all backends at once; return the finished pulls in the order given."""
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
    request = backend.outgoing.request("POST", "/api/pull", _JSON_TYPE, body)
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
    """Take in a line and return whether it is the last; raises PullFailed if it is an error."""
    reading = _DIALECT.read_frame(frame)
    if reading.is_garbled:
        raise PullFailed("does not answer as an Ollama does")
    if reading.error is not None:
        raise PullFailed(printable(reading.error))
    pull.note(json.loads(frame.decode("utf-8", "replace")))
    on_progress(pull)
    return reading.is_last


async def _refusal(status: int, chunks: AsyncIterator[bytes], idle: float) -> str:
    """Return the error of an answer other than 2xx, as one line."""
    body = b""
    with anyio.fail_after(idle):
        async for chunk in chunks:
            body += chunk
            if len(body) > 64 * 1024:
                break
    error = _DIALECT.read_body(body).error
    return printable(error) if error else f"answered {status}"


@contextmanager
def _view(*, as_json: bool) -> Iterator[OnProgress]:
    """Show progress: nothing for JSON, bars on a terminal, else a line for each new status."""
    if as_json:
        yield lambda _pull: None
    elif sys.stdout.isatty():
        from rich.progress import (  # noqa: PLC0415 - only where there is a terminal
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, TextColumn("{task.fields[status]}", markup=False)) as progress:
            yield _Bars(progress).on_progress
    else:
        yield _Lines().on_progress


@attrs.define(eq=False)
class _Bars:
    """Progress as a bar for each backend."""

    progress: Progress
    _tasks: dict[str, TaskID] = attrs.field(factory=dict)

    def on_progress(self, pull: Pull) -> None:
        """Update the bar of this backend."""
        if pull.backend not in self._tasks:
            self._tasks[pull.backend] = self.progress.add_task(pull.backend, status="")
        total = pull.total or (1 if pull.is_over else None)
        self.progress.update(
            self._tasks[pull.backend],
            total=total,
            completed=total if pull.ok else pull.completed,
            status=_status(pull),
        )


@attrs.define(eq=False)
class _Lines:
    """Progress as a line for each new status of a backend."""

    _last_status: dict[str, str] = attrs.field(factory=dict)

    def on_progress(self, pull: Pull) -> None:
        """Print the status if it is new."""
        status = _status(pull)
        if self._last_status.get(pull.backend) != status:
            self._last_status[pull.backend] = status
            say(f"{pull.backend}: {status}")


def _status(pull: Pull) -> str:
    return pull.status if pull.error is None else f"failed: {pull.error}"


def _result(pull: Pull) -> dict[str, Any]:
    return {"backend": pull.backend, "ok": pull.ok, "bytes": pull.total, "error": pull.error}
