"""`gatewayctl context`: name gateways, so that commands reach them without further options.

Nothing is asked of a gateway here. Exit codes: 1 for a name that is unknown or in use, 2 for a
server or a file that cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import attrs
import typer

from ollama_gateway.cli.completion import complete_context
from ollama_gateway.cli.lines import exit_with
from ollama_gateway.cli.options import JsonOption, WideOption
from ollama_gateway.cli.output import print_json, print_table, say
from ollama_gateway.cli.remote.address import AdminAddress, WrongChoice, base_url
from ollama_gateway.cli.remote.choice import unknown_context
from ollama_gateway.cli.remote.contexts import (
    Contexts,
    ContextsBroken,
    GatewayContext,
    read_contexts,
    write_contexts,
)
from ollama_gateway.cli.table import Column
from ollama_gateway.settings.addresses import is_name

app = typer.Typer(no_args_is_help=True, help="Name gateways on other machines, and choose one.")

NewNameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="1 to 64 of A-Z a-z 0-9 . _ -")
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The context's name.", autocompletion=complete_context)
]
NoneOption = Annotated[
    bool, typer.Option("--none", help="Use none: commands are for this machine again.")
]
_COLUMNS: Final = (
    Column("in use"),
    Column("name"),
    Column("server"),
    Column("token file", 1),
    Column("ca file", 2),
)


@app.command()
def add(
    name: NewNameArgument,
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="The URL of its admin listener.")
    ],
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="The file that holds an admin token."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", metavar="FILE", help="The authorities (PEM) to trust."),
    ] = None,
) -> None:
    """Add a context. The token stays in its file, whose path is kept."""
    if not is_name(name):
        exit_with(2, "gatewayctl context: a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    token_file, ca_file = _absolute(token_file), _absolute(ca_file)
    with _faults():
        context = GatewayContext(base_url(server), token_file, ca_file)
        AdminAddress.of_url(context.server, token_file, ca_file)
        contexts = read_contexts()
        if name in contexts.by_name:
            exit_with(1, f"gatewayctl context: {name} is there already: remove it first")
        write_contexts(attrs.evolve(contexts, by_name={**contexts.by_name, name: context}))
    say(f"added {name}; gatewayctl context use {name} makes it the one for all commands")


@app.command()
def use(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The context's name.", autocompletion=complete_context),
    ] = None,
    none: NoneOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Use a context for all commands that name no gateway."""
    if (name is None) != none:
        raise typer.BadParameter("give the NAME of a context, or --none")
    with _faults():
        contexts = read_contexts() if name is None else _with(name)
        write_contexts(attrs.evolve(contexts, in_use=name))
    server = "this machine's gateway" if name is None else contexts.by_name[name].server
    say(f"using {name or 'no context'}: {server}")


@app.command("list")
def list_contexts(
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the contexts, and which is in use."""
    with _faults():
        contexts = read_contexts()
    found = {name: one.document() for name, one in contexts.by_name.items()}
    if as_json:
        print_json([{"name": n, "in_use": n == contexts.in_use, **one} for n, one in found.items()])
        return
    rows = [
        (
            "*" if name == contexts.in_use else "",
            name,
            one.server,
            str(one.token_file or "-"),
            str(one.ca_file or "-"),
        )
        for name, one in contexts.by_name.items()
    ]
    print_table(_COLUMNS, rows, wide=wide)


@app.command()
def remove(name: NameArgument) -> None:
    """Remove a context; its token file stays. If it was in use, none is afterwards."""
    with _faults():
        contexts = _with(name)
        others = {other: one for other, one in contexts.by_name.items() if other != name}
        write_contexts(Contexts(others, None if contexts.in_use == name else contexts.in_use))
    say(f"removed {name}")


def _with(name: str) -> Contexts:
    """Return all contexts; exit with code 1 if none has this name."""
    contexts = read_contexts()
    if name not in contexts.by_name:
        exit_with(1, f"gatewayctl context: {unknown_context(name, contexts)}")
    return contexts


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()


@contextmanager
def _faults() -> Iterator[None]:
    """Print faults of the file or of options, and exit with code 2."""
    try:
        yield
    except (ContextsBroken, WrongChoice) as error:
        exit_with(2, f"gatewayctl context: {error}")
