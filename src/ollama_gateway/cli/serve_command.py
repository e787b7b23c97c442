"""`gatewayctl serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_gateway.cli.load_settings import settings_or_exit
from ollama_gateway.cli.options import ConfigOption
from ollama_gateway.cli.remote.here_only import here_only

WatchOption = Annotated[
    bool,
    typer.Option("--watch", help="Reload the settings whenever their file changes."),
]


@here_only("runs a gateway on this machine")
def serve(
    config: ConfigOption = None,
    watch: WatchOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit 0; a second signal ends it at once."""
    loaded = settings_or_exit(config)
    from ollama_gateway.cli.serve import serve as run  # noqa: PLC0415 - imports the whole gateway

    raise typer.Exit(run(loaded, config, watch=watch))
