"""The options of `gatewayctl health`."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_gateway.cli.health import HealthQuestion, answer
from ollama_gateway.cli.options import JsonOption
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice

ReadyOption = Annotated[bool, typer.Option("--ready", help="Exit 0 only if it is ready.")]


@anywhere
def health(
    gateway: GatewayChoice = HERE,
    ready: ReadyOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Exit 0 if the gateway is alive; say whether it is ready, and if not, why."""
    raise typer.Exit(answer(HealthQuestion(gateway, ready, as_json)))
