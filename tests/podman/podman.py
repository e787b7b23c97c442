"""Run `podman`, and wait for the effects of other programs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ROOT / "docs" / "operate" / "podman"
IMAGE: Final = "localhost/ollama-gateway:latest"
NETWORK: Final = "ollama-gateway-tests"
PATIENCE: Final = 60.0
"""Seconds after which a wait has failed."""
PAUSE: Final = 0.05
"""Seconds between two checks of a condition."""


class PodmanFailed(Exception):
    """A podman command exited with another code than 0; the message is its output."""


def podman(*arguments: str, given: str | None = None, timeout: float = 600.0) -> str:
    """Run a command and return its output; raises PodmanFailed with its errors."""
    done = subprocess.run(
        ["podman", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise PodmanFailed(f"podman {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout.strip()


def succeeds(*arguments: str) -> bool:
    """Return whether a podman command exits with 0."""
    return not subprocess.run(["podman", *arguments], capture_output=True, check=False).returncode


def inspected(name: str, template: str) -> str:
    """Return a field of a container, by a Go template."""
    return podman("inspect", name, "--format", template)


def logged(name: str) -> list[str]:
    """Return the lines that a container has written to stderr."""
    done = subprocess.run(["podman", "logs", name], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def events(name: str) -> list[dict[str, Any]]:
    """Return the log of a gateway; fail if a line is not JSON."""
    return [json.loads(line) for line in logged(name)]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds; fail if it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(PAUSE)


def wait_until_healthy(name: str) -> None:
    """Run the container's own health check until it succeeds."""
    wait_until(lambda: succeeds("healthcheck", "run", name), f"{name} is not healthy")


def is_ready(name: str) -> bool:
    """Return whether the gateway in a container is ready."""
    return succeeds("exec", name, "gatewayctl", "health", "--ready")


def remove(name: str) -> None:
    """Remove a container and its unnamed volumes, if it exists."""
    podman("rm", "--force", "--volumes", "--ignore", "--time", "2", name)


@contextmanager
def container(name: str, *arguments: str) -> Iterator[str]:
    """Run a container during the block; `arguments` are those of `podman run --detach`."""
    podman("run", "--detach", "--name", name, *arguments)
    try:
        yield name
    finally:
        remove(name)


@contextmanager
def volume(name: str) -> Iterator[str]:
    """Create a named volume for the block."""
    podman("volume", "create", name)
    try:
        yield name
    finally:
        podman("volume", "rm", "--force", name)


@contextmanager
def secret(name: str, text: str) -> Iterator[str]:
    """Create a podman secret for the block."""
    podman("secret", "create", name, "-", given=text)
    try:
        yield name
    finally:
        podman("secret", "rm", name)


@contextmanager
def simulator(name: str, *arguments: str) -> Iterator[str]:
    """Run a simulated Ollama from the gateway's image, on the tests' network as http://NAME:11434."""
    options = ("--network", NETWORK, "--entrypoint", "python", IMAGE)
    module = ("-m", "ollama_gateway.simulator", "--host", "0.0.0.0", "--port", "11434")
    with container(name, *options, *module, *arguments):
        revive(name)
        yield name


def revive(name: str) -> None:
    """Start a simulator again if it was killed, and wait until it listens."""
    look = "import socket; socket.create_connection(('127.0.0.1', 11434)).close()"
    podman("start", name)
    wait_until(lambda: succeeds("exec", name, "python", "-c", look), f"{name} is not up")
