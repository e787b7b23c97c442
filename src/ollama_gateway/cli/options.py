"""The options that most commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file (TOML). Default: $GATEWAY_CONFIG, else ./gateway.toml, else "
        "/etc/ollama-gateway/gateway.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WideOption = Annotated[
    bool, typer.Option("--wide", help="Print all columns, whatever the terminal's width.")
]
