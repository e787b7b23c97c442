"""The options that say which gateway a command is for, and commands that take them or refuse them.

A command that takes them has one parameter, `gateway`; its signature, as typer reads it, has the
options in its place.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.completion import complete_context
from ollama_gateway.cli.lines import exit_with
from ollama_gateway.cli.options import ConfigOption
from ollama_gateway.cli.remote.choice import VARIABLE, GatewayChoice

Command = Callable[..., Any]

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
_REFUSED: Final[dict[str, Any]] = {
    name: Annotated[str | None, typer.Option(f"--{name.replace('_', '-')}", hidden=True)]
    for name in _OPTIONS
    if name != "config"
}


def anywhere(command: Command) -> Command:
    """Give a command the options that say which gateway it is for."""

    @wraps(command)
    def run(**given: Any) -> Any:
        chosen = {name: given.pop(name) for name in _OPTIONS}
        return command(**given, gateway=GatewayChoice(**chosen))

    return _with_options(run, command, _OPTIONS, in_place_of="gateway")


def here_only(why: str) -> Callable[[Command], Command]:
    """Let a command refuse, with exit code 2, the options that name another gateway.

    A context that is merely in use does not matter to it.

    Args:
        why: the rest of the sentence "NAME ".

    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> Any:
            refused = {name: given.pop(name) for name in _REFUSED}
            named = [name for name, value in refused.items() if value is not None]
            if named or os.environ.get(VARIABLE):
                flag = f"--{named[0].replace('_', '-')}" if named else f"${VARIABLE}"
                exit_with(2, f"{flag} does not go with this command: it {why}")
            return command(**given)

        return _with_options(run, command, _REFUSED)

    return decorate


def _with_options(
    run: Command, command: Command, options: dict[str, Any], in_place_of: str | None = None
) -> Command:
    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation
        )
        for name, annotation in options.items()
    ]
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += added if name == in_place_of else [parameter]
    if in_place_of is None:
        parameters += added
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run
