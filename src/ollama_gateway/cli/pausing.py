"""`gatewayctl backends`: list the backends, pause one, resume it.

Exit codes: 1 for an unknown name, and if the change cannot be made or the running gateway does not
follow it; 2 for settings that cannot be used.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.backend_port import backends_of
from ollama_gateway.cli.completion import complete_backend
from ollama_gateway.cli.options import JsonOption, WideOption
from ollama_gateway.cli.output import exit_with, print_json, print_table, say
from ollama_gateway.cli.pending import say_pending
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.cli.table import Column, Row
from ollama_gateway.printable import printable

app = typer.Typer(no_args_is_help=True, help="List, pause and resume backends.")

NameArgument = Annotated[
    str, typer.Argument(help="The backend's name in the settings.", autocompletion=complete_backend)
]

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


@app.command("list")
@anywhere
def list_backends(
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the backends, with the figures of the running gateway if one answers."""
    backends = backends_of(gateway)
    documents = backends.documents()
    if as_json:
        print_json(documents)
    else:
        print_table(_COLUMNS, [_cells(one) for one in documents], wide=wide)
    say_pending([change for change in backends.pending() if change.path.startswith("backends")])
    raise typer.Exit(0 if backends.is_whole else 1)


@app.command()
@anywhere
def pause(
    name: NameArgument,
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Send no new requests to a backend, also after restarts; its running requests finish."""
    _report(backends_of(gateway).set_paused(name, is_paused=True), as_json=as_json)


@app.command()
@anywhere
def resume(
    name: NameArgument,
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Send requests to a paused backend again."""
    _report(backends_of(gateway).set_paused(name, is_paused=False), as_json=as_json)


def _report(done: dict[str, Any], *, as_json: bool) -> None:
    """Print the result; exit with code 1 if the running gateway does not follow it."""
    if as_json:
        print_json(done)
    elif done["in_force"] is not False:
        say(_done(done))
    if done["in_force"] is False:
        exit_with(
            1,
            "gatewayctl backends: the gateway does not follow;"
            " does it have another storage.data_dir?",
        )


def _done(done: dict[str, Any]) -> str:
    name, in_flight = printable(done["name"]), done["in_flight"]
    if not done["paused"]:
        return f"{name} is resumed: new requests go to it"
    told = f"{name} is paused: no new requests go to it"
    if in_flight is None:
        return told
    running = {0: "none is", 1: "1 is"}.get(in_flight, f"{in_flight} are")
    return f"{told}, {running} still running"


def _cells(document: dict[str, Any]) -> Row:
    cells = [document[column.name.replace(" ", "_")] for column in _COLUMNS]
    if document["slots"] == 0 and document["learned_capacity"]:
        slots = [column.name for column in _COLUMNS].index("slots")
        cells[slots] = f"{document['learned_capacity']} (learned)"
    return tuple("-" if cell is None else str(cell) for cell in cells)
