"""The options that say which gateway a command is for.

A command that takes them has one parameter, `gateway`; its signature, as typer reads it, has the
options in its place.
"""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.completion import complete_context
from ollama_gateway.cli.options import ConfigOption
from ollama_gateway.cli.remote.choice import GatewayChoice
from ollama_gateway.cli.remote.here_only import Command, with_options

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Ask the gateway whose admin listener has this URL, not the one of this machine.",
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Its admin token, for --server."),
]
CAFileOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="The authorities (PEM) to trust with --server, in place of the system's.",
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Ask the gateway of this context: see `gatewayctl context`.",
        autocompletion=complete_context,
    ),
]
_OPTIONS: Final[dict[str, Any]] = {
    "config": ConfigOption,
    "server": ServerOption,
    "token_file": TokenFileOption,
    "ca_file": CAFileOption,
    "context": ContextOption,
}


def anywhere(command: Command) -> Command:
    """Give a command the options that say which gateway it is for."""

    @wraps(command)
    def run(**given: Any) -> Any:
        chosen = {name: given.pop(name) for name in _OPTIONS}
        return command(**given, gateway=GatewayChoice(**chosen))

    return with_options(run, command, _OPTIONS, in_place_of="gateway")
