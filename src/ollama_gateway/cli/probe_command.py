"""The options of `gatewayctl probe` and `gatewayctl models`."""

from __future__ import annotations

import typer

from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.remote.here_only import here_only


@here_only("asks the backends from this machine", even_in_use=False)
def probe(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Ask every backend over the connection that requests use; exit 1 if one does not answer."""
    from ollama_gateway.cli.backends import probe as run  # noqa: PLC0415 - imports Trio and httpx

    raise typer.Exit(run(config, wide=wide, as_json=as_json))


@here_only("asks the backends from this machine", even_in_use=False)
def models(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the models of each backend and of all together, from the copy in Redis if any.

    Exit 1 if a backend does not answer.
    """
    from ollama_gateway.cli.backends import models as run  # noqa: PLC0415 - as above

    raise typer.Exit(run(config, wide=wide, as_json=as_json))
