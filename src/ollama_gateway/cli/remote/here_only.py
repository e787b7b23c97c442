"""Options in the signature of a command, and commands that are for this machine alone."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.lines import exit_with
from ollama_gateway.cli.remote import VARIABLE

Command = Callable[..., Any]

_REFUSED: Final[dict[str, Any]] = {
    name: Annotated[str | None, typer.Option(f"--{name.replace('_', '-')}", hidden=True)]
    for name in ("server", "token_file", "ca_file", "context")
}


def here_only(why: str, *, even_in_use: bool = True) -> Callable[[Command], Command]:
    """Let a command refuse, with exit code 2, what names another gateway.

    Args:
        why: the rest of the sentence "it ...".
        even_in_use: whether it runs all the same where a context is merely in use. A command that
            could be taken for one on that gateway does not, but for `--config`.

    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> Any:
            named = [name for name in _REFUSED if given.pop(name) is not None]
            if named or os.environ.get(VARIABLE):
                flag = f"--{named[0].replace('_', '-')}" if named else f"${VARIABLE}"
                exit_with(2, f"{flag} does not go with this command: it {why}")
            if not even_in_use:
                _refuse_context(given.get("config"), why)
            return command(**given)

        return with_options(run, command, _REFUSED)

    return decorate


def _refuse_context(config: Any, why: str) -> None:
    from ollama_gateway.cli.remote.choice import GatewayChoice  # noqa: PLC0415 - `--help` needs less

    if GatewayChoice(config=config).remote():
        exit_with(2, f"this command is not for a context: it {why}; --config names its own")


def with_options(
    run: Command, command: Command, options: dict[str, Any], in_place_of: str | None = None
) -> Command:
    """Give `run`, which calls `command`, its signature with further options."""
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
