"""`gatewayctl backends`: list the backends, pause one, resume it.

`pause` and `resume` change a file that every gateway with the same data directory watches; no
gateway needs to run. Afterwards they ask the running gateway whether the change is in force. `list`
asks it for its figures, which are checked: an unexpected answer, for example of a gateway of
another version, counts as none.

Exit codes: 1 for an unknown name, and if the file cannot be used or the running gateway does not
follow it; 2 for settings that cannot be used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

from ollama_gateway.backends.pausing import PauseFile, PausesBroken
from ollama_gateway.cli.admin import NoAnswer, ask
from ollama_gateway.cli.completion import complete_backend
from ollama_gateway.cli.known_names import backend_names
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import exit_with, print_json, print_table, say
from ollama_gateway.cli.pending import pending_or_none, say_pending
from ollama_gateway.cli.table import Column, Row
from ollama_gateway.printable import printable
from ollama_gateway.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from ollama_gateway.control.pausing import PauseControl

app = typer.Typer(no_args_is_help=True, help="List, pause and resume backends.")

NameArgument = Annotated[
    str, typer.Argument(help="The backend's name in the settings.", autocompletion=complete_backend)
]

IN_FORCE_SECONDS: Final = 3.0
"""Time for a gateway to follow the file, which it reads twice a second."""
_NAP: Final = 0.1
_COLUMNS: Final = (
    Column("name"),
    Column("url"),
    Column("priority", 3, is_number=True),
    Column("slots", 2, is_number=True),
    Column("state"),
    Column("in flight", 1, is_number=True),
    Column("models", 4, is_number=True),
    Column("loaded", 5, is_number=True),
    Column("version", 6),
)


@attrs.frozen
class BackendStatus:
    """One backend in the running gateway."""

    priority: int
    slots: int
    paused: bool | None
    """None here and below: unknown, as no gateway answers."""
    up: bool | None = None
    in_flight: int | None = None
    """Attempts that are running there."""
    models: int | None = None
    loaded: int | None = None
    version: str | None = None
    learned_capacity: int | None = None
    """The largest of its models; it takes the place of `slots` where these are 0."""

    @property
    def state(self) -> str:
        """The state for people: `up`, `down`, `?`, or one of them after `paused, `."""
        state = {True: "up", False: "down", None: "?"}[self.up]
        return f"paused, {state}" if self.paused else state


@app.command("list")
def list_backends(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the backends, with the figures of the running gateway if one answers."""
    settings = load_for_stores(config)
    paused = _paused(settings)
    statuses = {**_from_settings(settings, paused), **_statuses(settings)}
    urls = {b.name: b.url for b in sorted(settings.backends, key=lambda b: b.priority)}
    rows = [_as_json(name, url, statuses[name]) for name, url in urls.items()]
    if as_json:
        print_json(rows)
    else:
        print_table(_COLUMNS, [_cells(row) for row in rows], wide=wide)
    pending = pending_or_none(settings.server)
    say_pending([change for change in pending if change.path.startswith("backends")])
    raise typer.Exit(1 if paused is None else 0)


@app.command()
def pause(
    name: NameArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Send no new requests to a backend, also after restarts; its running requests finish."""
    from ollama_gateway.control.actor import LOCAL  # noqa: PLC0415 - `list` needs less

    settings = load_for_stores(config)
    known = backend_names(settings)
    with _control(settings) as control:
        paused = control.pause(name, known, LOCAL)
    if paused.issuperset(known):
        say("warning: all backends are paused now: the gateway refuses requests (503)", err=True)
    _report(settings, name, is_paused=True, as_json=as_json)


@app.command()
def resume(
    name: NameArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Send requests to a paused backend again."""
    from ollama_gateway.control.actor import LOCAL  # noqa: PLC0415 - `list` needs less

    settings = load_for_stores(config)
    known = backend_names(settings)
    with _control(settings) as control:
        control.resume(name, known, LOCAL)
    _report(settings, name, is_paused=False, as_json=as_json)


@contextmanager
def _control(settings: Settings) -> Iterator[PauseControl]:
    """Open the pause file of the settings; exit with code 1 if it cannot be changed."""
    from ollama_gateway.cli.recording import local_changes  # noqa: PLC0415 - see there
    from ollama_gateway.control.errors import NoSuchThing  # noqa: PLC0415
    from ollama_gateway.control.pausing import PauseControl  # noqa: PLC0415

    try:
        with local_changes(settings, "gatewayctl backends") as recorder:
            yield PauseControl(PauseFile(settings.storage.data_dir), recorder)
    except PausesBroken as error:
        exit_with(1, _fault(settings, error))
    except NoSuchThing as error:
        exit_with(1, f"gatewayctl backends: {error}")


def _paused(settings: Settings) -> frozenset[str] | None:
    """Read the names in the pause file; if that fails, print a line on stderr and return None."""
    try:
        return PauseFile(settings.storage.data_dir).read()
    except PausesBroken as error:
        say(_fault(settings, error), err=True)
        return None


def _fault(settings: Settings, error: PausesBroken) -> str:
    directory = printable(str(settings.storage.data_dir))
    return f"gatewayctl backends: {error} (in {directory})"


def _statuses(settings: Settings) -> dict[str, BackendStatus]:
    """Ask the running gateway for its backends, by name; print missing ones on stderr."""
    address = settings.server.admin_bind
    try:
        found = ask_statuses(settings.server)
    except NoAnswer:
        say(f"no gateway answers on {address}", err=True)
        return {}
    if missing := [b.name for b in settings.backends if b.name not in found]:
        names = ", ".join(map(printable, missing))
        say(f"the gateway on {address} was started without: {names}", err=True)
    return found


def _from_settings(settings: Settings, paused: frozenset[str] | None) -> dict[str, BackendStatus]:
    return {
        b.name: BackendStatus(b.priority, b.slots, None if paused is None else b.name in paused)
        for b in settings.backends
    }


def _report(settings: Settings, name: str, *, is_paused: bool, as_json: bool) -> None:
    """Print the result; exit with code 1 if the running gateway does not follow it."""
    status = _when_in_force(settings, name, is_paused=is_paused)
    is_in_force = status and status.paused == is_paused
    if as_json:
        in_flight = status and status.in_flight
        done = {"name": name, "paused": is_paused, "in_flight": in_flight, "in_force": is_in_force}
        print_json(done)
    elif is_in_force is not False:
        say(_done(name, status, is_paused=is_paused))
        directory = printable(str(settings.storage.data_dir))
        say(f"takes effect within a second in every gateway whose data_dir is {directory}")
    if is_in_force is False:
        exit_with(
            1,
            f"gatewayctl backends: the gateway on {settings.server.admin_bind} does not follow; "
            "does it have another storage.data_dir?",
        )


def _when_in_force(settings: Settings, name: str, *, is_paused: bool) -> BackendStatus | None:
    """Wait until the change is in force, but not longer than its time, and return the status."""
    deadline = time.monotonic() + IN_FORCE_SECONDS
    status = _statuses(settings).get(name)
    while status and status.paused != is_paused and time.monotonic() < deadline:
        time.sleep(_NAP)
        with suppress(NoAnswer):
            status = ask_statuses(settings.server).get(name)
    return status


def _done(name: str, status: BackendStatus | None, *, is_paused: bool) -> str:
    if not is_paused:
        return f"{printable(name)} is resumed: new requests go to it"
    done = f"{printable(name)} is paused: no new requests go to it"
    if status is None:
        return done
    running = {0: "none is", 1: "1 is"}.get(status.in_flight or 0, f"{status.in_flight} are")
    return f"{done}, {running} still running"


def _as_json(name: str, url: str, status: BackendStatus) -> dict[str, Any]:
    return {"name": name, "url": url, "state": status.state, **attrs.asdict(status)}


def _cells(row: dict[str, Any]) -> Row:
    cells = [row[column.name.replace(" ", "_")] for column in _COLUMNS]
    if row["slots"] == 0 and row["learned_capacity"]:
        slots = [column.name for column in _COLUMNS].index("slots")
        cells[slots] = f"{row['learned_capacity']} (learned)"
    return tuple("-" if cell is None else str(cell) for cell in cells)


def ask_statuses(server: ServerSettings) -> dict[str, BackendStatus]:
    """Ask the running gateway for its backends, by name.

    Raises:
        NoAnswer: no gateway answers, or the answer is not one of a gateway.

    """
    answer = ask(server, "/status.json")
    backends = answer.value.get("backends")
    if answer.status != HTTPStatus.OK or not isinstance(backends, list):
        raise NoAnswer
    return dict(map(_read, backends))


def _read(value: object) -> tuple[str, BackendStatus]:
    match value:
        case {
            "name": str(name),
            "priority": int(priority),
            "slots": int(slots),
            "paused": bool(paused),
            "up": bool(up),
            "in_flight": int(in_flight),
            "models": int(models),
            "loaded": int(loaded),
            "version": str() | None as version,
            **others,
        }:
            learned = _learned(others.get("by_model"))
            return name, BackendStatus(
                priority, slots, paused, up, in_flight, models, loaded, version, learned
            )
    raise NoAnswer


def _learned(by_model: object) -> int | None:
    """Return the largest learned capacity of a backend's models; each begins with 1."""
    if not isinstance(by_model, dict):
        return None
    found = [
        model.get("learned_capacity") for model in by_model.values() if isinstance(model, dict)
    ]
    return max((value for value in found if isinstance(value, int)), default=1)
