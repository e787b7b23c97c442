"""The options of `gatewayctl models`, and of its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_gateway.cli.completion import complete_backend, complete_model
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="The model's name, as the backend lists it.", autocompletion=complete_model
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", metavar="B", help="The backend's name.", autocompletion=complete_backend
    ),
]

app = typer.Typer(invoke_without_command=True)


@app.callback()
def models(
    context: typer.Context,
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the models of each backend and of all together, from the copy in Redis if any.

    Exit 1 if a backend does not answer.
    """
    if context.invoked_subcommand is not None:
        return
    from ollama_gateway.cli.backends import models as run  # noqa: PLC0415 - imports Trio and httpx

    raise typer.Exit(run(config, wide=wide, as_json=as_json))


@app.command()
def load(
    model: ModelArgument,
    backend: BackendOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Load MODEL into a backend's memory, and wait until it is there."""
    from ollama_gateway.cli.model_loading import run  # noqa: PLC0415 - imports Trio and httpx

    raise typer.Exit(run("load", model, backend, config, as_json=as_json))


@app.command()
def unload(
    model: ModelArgument,
    backend: BackendOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Unload MODEL from a backend's memory once its requests have ended."""
    from ollama_gateway.cli.model_loading import run  # noqa: PLC0415 - as above

    raise typer.Exit(run("unload", model, backend, config, as_json=as_json))
