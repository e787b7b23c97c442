"""The arguments of `gatewayctl init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollama_gateway.cli.remote.here_only import here_only

UrlsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="URL",
        help="Ollama servers: a URL, host or host:port, or NAME=URL. Without a port it is 11434.",
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]

DEFAULT_FILE = Path("gateway.toml")


@here_only("writes settings on this machine")
def init(
    urls: UrlsArgument,
    output: OutputOption = DEFAULT_FILE,
    force: ForceOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Probe the given servers and write settings for them, also for those that are down."""
    from ollama_gateway.cli.init import init as run  # noqa: PLC0415 - imports Trio and httpx

    run(urls, output, force=force)
