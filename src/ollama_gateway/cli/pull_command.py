"""The options of `gatewayctl pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_gateway.cli.completion import complete_backend
from ollama_gateway.cli.options import ConfigOption, JsonOption
from ollama_gateway.cli.remote.here_only import here_only

PulledModelArgument = Annotated[str, typer.Argument(help="The model's name, as for `ollama pull`.")]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on", metavar="A,B", help="The names of the backends.", autocompletion=complete_backend
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Pull on all backends.")]


@here_only("asks the backends from this machine", even_in_use=False)
def pull(
    model: PulledModelArgument,
    on: OnOption = None,
    on_all: AllOption = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Pull MODEL on several backends at once; exit 1 if one of them fails."""
    from ollama_gateway.cli.pull import pull as run  # noqa: PLC0415 - imports Trio and httpx

    raise typer.Exit(run(model, on, config, on_all=on_all, as_json=as_json))
