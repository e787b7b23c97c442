"""What `gatewayctl pull` runs: pull a model onto several backends at once, without a gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.build_backends import build_backends
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.cli.load_settings import load_or_exit
from ollama_gateway.cli.output import exit_with, print_json, say
from ollama_gateway.control.pulling import Pull, pull_all
from ollama_gateway.control.suggesting import unknown_backend
from ollama_gateway.errors import BadRequest
from ollama_gateway.settings import Settings
from ollama_gateway.wire.names import ModelName

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

OnProgress = Callable[[Pull], None]
"""Shows how far a pull is, or that it is over."""


def pull(model: str, on: str | None, config: Path | None, *, on_all: bool, as_json: bool) -> int:
    """Pull the model on these backends, show the progress, and return the exit code."""
    settings = load_or_exit(config).settings
    chosen = _chosen(settings, model, on, on_all=on_all)
    with _view(as_json=as_json) as on_progress:

        async def report(pull: Pull) -> None:
            on_progress(pull)

        pulls = trio.run(pull_all, chosen, model, settings.race.idle_timeout, report)
    if as_json:
        print_json([done.result() for done in pulls])
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
