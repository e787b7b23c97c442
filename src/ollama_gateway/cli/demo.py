"""`gatewayctl demo`: the gateway and two simulated backends in one process, without settings."""

from __future__ import annotations


def demo() -> None:
    """Stream a chat, kill the backend that answers, and show that the next chats still stream."""
    from ollama_gateway.cli.demo_run import run  # noqa: PLC0415 - it imports the simulator

    run()
