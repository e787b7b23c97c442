"""The options of `gatewayctl probe`."""

from __future__ import annotations

import typer

from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption


def probe(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Ask every backend over the connection that requests use; exit 1 if one does not answer."""
    from ollama_gateway.cli.backends import probe as run  # noqa: PLC0415 - imports Trio and httpx

    raise typer.Exit(run(config, wide=wide, as_json=as_json))
