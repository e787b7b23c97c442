"""`gatewayctl demo`: the main job in one process, with nothing to install or configure."""

from __future__ import annotations

import trio

from ollama_gateway import log
from ollama_gateway.demo import show


def demo() -> None:
    """Stream a chat, kill the backend that served it, and stream the next one."""
    log.configure("error", "text")
    trio.run(show)
