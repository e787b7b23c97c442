"""Several processes in one container: the first one reaps all others, also orphans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.podman import prerequisites
from tests.podman.podman import (
    IMAGE,
    NETWORK,
    container,
    is_ready,
    podman,
    succeeds,
    wait_until,
    wait_until_healthy,
)

NAME: Final = "gateway"
REDIS: Final = "ollama-gateway-tests-redis"
LOOK: Final = """
import os
for name in os.listdir("/proc"):
    if name.isdecimal() and int(name) not in (1, os.getpid()):
        try:
            stat, command = open(f"/proc/{name}/stat").read(), open(f"/proc/{name}/cmdline").read()
        except FileNotFoundError:
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        print(name, state, parent, "processes.child" in command)
"""
"""Prints each other process: its id, state, parent, and whether it serves."""


@pytest.fixture(scope="module")
def redis(image: str) -> Iterator[str]:
    """Run a Redis, in which several processes count limits; return its URL."""
    made = prerequisites.have_peers(Path(__file__).parent, prerequisites.REDIS)
    command = ("redis-server", "--protected-mode", "no", "--save", "")
    with container(REDIS, "--network", NETWORK, prerequisites.REDIS, *command) as name:
        wait_until(lambda: succeeds("exec", name, "redis-cli", "ping"), "no Redis")
        yield f"redis://{name}:6379/0"
    for name in made:
        podman("rmi", name)


@pytest.fixture
def gateway(simulators: tuple[str, ...], redis: str) -> Iterator[str]:
    """Run a container with two serving processes, and without `--init`."""
    variables = {
        "OLLAMA_BACKENDS": f"{simulators[1]}=http://{simulators[1]}:11434",
        "GATEWAY_REDIS_URL": redis,
        "GATEWAY_SERVER_PROCESSES": "2",
    }
    given = (word for name, value in variables.items() for word in ("--env", f"{name}={value}"))
    with container(NAME, "--network", NETWORK, *given, IMAGE):
        wait_until_healthy(NAME)
        wait_until(lambda: is_ready(NAME), "not ready")
        yield NAME


def others() -> list[list[str]]:
    """Return the other processes of the container, each as words of `LOOK`."""
    said = podman("exec", NAME, "python", "-c", LOOK)
    return [line.split() for line in said.splitlines()]


def serving() -> set[str]:
    """Return the ids of the serving processes."""
    return {pid for pid, state, _, serves in others() if serves == "True" and state != "Z"}


def test_a_killed_process_is_reaped_and_replaced(gateway: str) -> None:
    """After a kill no zombie is left, and another process serves beside the one that lives."""
    first = serving()
    assert len(first) == 2
    killed = min(first)
    podman("exec", gateway, "python", "-c", f"import os; os.kill({killed}, 9)")
    wait_until(lambda: killed not in serving() and len(serving()) == 2, "it is not replaced")
    assert (first - {killed}) < serving()
    assert [one for one in others() if one[1] == "Z"] == []
    assert {parent for _, _, parent, serves in others() if serves == "True"} == {"1"}
    assert is_ready(gateway)


def test_orphans_are_reaped(gateway: str) -> None:
    """Processes that `podman exec` leaves behind are reaped, those still running at their end."""
    podman("exec", gateway, "sh", "-c", "(sleep 0.3; exit 3) & (exit 4) & exit 0")
    wait_until(
        lambda: all(serves == "True" and state != "Z" for _, state, _, serves in others()),
        f"left in the container: {others()}",
    )
    assert len(serving()) == 2
    assert succeeds("healthcheck", "run", gateway)
