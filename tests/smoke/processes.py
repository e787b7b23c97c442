"""Observe a gateway of several processes from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.smoke.asking import ask
from tests.smoke.fleet import TWO, Fleet, Gateway, fleet
from tests.support.redis_server import redis_server

COUNT: Final = 2


@contextmanager
def several(
    directory: Path, simulators: Mapping[str, Sequence[str]] = TWO, **settings: str
) -> Iterator[Fleet]:
    """Run a fleet whose only gateway has several processes."""
    with redis_server() as url:
        shared = {"GATEWAY_REDIS_URL": url, "GATEWAY_SERVER_PROCESSES": str(COUNT)}
        with fleet(directory, simulators, 1, **{**shared, **settings}) as started:
            yield started


def members(gateway: Gateway) -> list[Any]:
    """Return its processes, as it reports them."""
    found: list[Any] = gateway.status()["processes"]
    return found


def pids(gateway: Gateway) -> list[int]:
    """Return the ids of its processes."""
    return [member["pid"] for member in members(gateway)]


def all_serve(gateway: Gateway) -> bool:
    """Return whether each of its processes answers."""
    return all(member["status"] for member in members(gateway))


def figures(gateway: Gateway) -> dict[str, float]:
    """Return its metrics, by sample."""
    lines = ask(gateway.admin_port, "/metrics").body.decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def readiness(gateway: Gateway) -> Any:
    """Return the answer of `/readyz`; fail if it is not ready."""
    answer = ask(gateway.admin_port, "/readyz")
    assert answer.status == 200
    return answer.document


def completed(gateway: Gateway) -> float:
    """Return the number of completed requests, by its metrics."""
    return sum(
        value
        for name, value in figures(gateway).items()
        if name.startswith("ollama_gateway_requests_total") and 'outcome="completed"' in name
    )


def is_alive(pid: int) -> bool:
    """Return whether a process runs that is not our child."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # its parent may reap it late
