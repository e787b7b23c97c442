"""`gatewayctl serve`."""

from __future__ import annotations

import typer

from ollama_gateway.cli.load_settings import settings_or_exit
from ollama_gateway.cli.options import ConfigOption


def serve(config: ConfigOption = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit 0; a second signal ends it at once."""
    loaded = settings_or_exit(config)
    from ollama_gateway.cli.serve import serve as run  # noqa: PLC0415 - imports the whole gateway

    raise typer.Exit(run(loaded))
