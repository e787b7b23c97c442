"""`gatewayctl demo`: the main job in one process, with nothing to install or configure."""

from __future__ import annotations

import trio

from ollama_gateway import log


def demo() -> None:
    """Stream a chat, kill the backend that served it, and stream the next one."""
    from ollama_gateway.cli.demo_run import run_demo  # noqa: PLC0415 - it brings the simulator

    log.configure("error", "text")
    trio.run(run_demo)
