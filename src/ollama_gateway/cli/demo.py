"""`gatewayctl demo`: the gateway and two simulated backends in one process, without settings."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import trio
import typer

from ollama_gateway import log

StayOption = Annotated[
    bool, typer.Option("--stay", help="Keep gateway and key until Ctrl-C, to try them yourself.")
]


def demo(stay: StayOption = False) -> None:  # noqa: FBT002 - a flag
    """Show in 20 s what the gateway does when a machine is slow, dies, or a budget is used up."""
    # The simulator and the whole gateway, which no other command needs.
    from rich.console import Console  # noqa: PLC0415

    from ollama_gateway.cli.demo_run import run_demo  # noqa: PLC0415

    log.configure("error", "text")
    trio.run(partial(run_demo, Console(highlight=False), stay=stay))
