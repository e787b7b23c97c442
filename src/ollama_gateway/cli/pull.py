"""`gatewayctl pull`: one model onto several backends, without a running gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import attrs
import trio
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from ollama_gateway.backends.backends import Backend
from ollama_gateway.build_backends import build_backends
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.cli.config import ConfigOption, JsonOption, load_or_exit
from ollama_gateway.cli.output import print_json, say
from ollama_gateway.cli.pulling import OnProgress, Pull, pull_all
from ollama_gateway.errors import BadRequest
from ollama_gateway.settings import Settings
from ollama_gateway.wire.names import ModelName

PulledModelArgument = Annotated[
    str, typer.Argument(help="What to pull, as `ollama pull` takes it.")
]
OnOption = Annotated[
    str | None, typer.Option("--on", metavar="A,B", help="The backends, by their names.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All backends.")]


def pull(
    model: PulledModelArgument,
    on: OnOption = None,
    on_all: AllOption = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Pull MODEL on some backends at once; exit 1 when any of them fails."""
    settings = load_or_exit(config).settings
    chosen = _chosen(settings, model, on, on_all=on_all)
    with _view(as_json=as_json) as on_progress:
        pulls = trio.run(pull_all, chosen, model, settings.race.idle_timeout, on_progress)
    if as_json:
        print_json([_result(done) for done in pulls])
    raise typer.Exit(0 if all(done.ok for done in pulls) else 1)


def _chosen(settings: Settings, model: str, on: str | None, *, on_all: bool) -> list[Backend]:
    try:
        ModelName.parse(model)
        backends = build_backends(settings)
    except (BadRequest, TLSFilesBroken) as error:
        _exit(str(error))
    if on_all == (on is not None):
        _exit("say where: --on A,B or --all")
    wanted = list(dict.fromkeys(name.strip() for name in (on or "").split(",")))
    found = list(backends.all) if on_all else [backends.named(name) for name in wanted]
    chosen = [backend for backend in found if backend is not None]
    if len(chosen) < len(found):
        names = ", ".join(backend.name for backend in backends.all)
        _exit(f"no such backend; there are {names}")
    return chosen


@contextmanager
def _view(*, as_json: bool) -> Iterator[OnProgress]:
    """What is seen meanwhile: nothing, bars on a terminal, else a line for each new status."""
    if as_json:
        yield lambda _pull: None
    elif sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, TextColumn("{task.fields[status]}", markup=False)) as progress:
            yield _Bars(progress).on_progress
    else:
        yield _Lines().on_progress


@attrs.define(eq=False)
class _Bars:
    """A bar for each backend."""

    progress: Progress
    _tasks: dict[str, TaskID] = attrs.field(factory=dict)

    def on_progress(self, pull: Pull) -> None:
        """Move a bar."""
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
    """A line whenever a backend does something else than before."""

    _last_status: dict[str, str] = attrs.field(factory=dict)

    def on_progress(self, pull: Pull) -> None:
        """Print what is new."""
        status = _status(pull)
        if self._last_status.get(pull.backend) != status:
            self._last_status[pull.backend] = status
            say(f"{pull.backend}: {status}")


def _status(pull: Pull) -> str:
    return pull.status if pull.error is None else f"failed: {pull.error}"


def _result(pull: Pull) -> dict[str, Any]:
    return {"backend": pull.backend, "ok": pull.ok, "bytes": pull.total, "error": pull.error}


def _exit(message: str) -> NoReturn:
    say(f"gatewayctl pull: {message}", err=True)
    raise typer.Exit(2)
