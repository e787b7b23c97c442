"""docs/operate/podman/pod.yaml: gateway, Redis and PostgreSQL in one pod, by `podman kube play`."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.podman import prerequisites
from tests.podman.chat import begun_chat, chatted
from tests.podman.podman import (
    FILES,
    NETWORK,
    events,
    inspected,
    is_ready,
    podman,
    secret,
    succeeds,
    wait_until,
    wait_until_healthy,
)
from tests.smoke.fleet import free_port

POD: Final = "ollama-gateway"
PARTS: Final = ("gateway", "redis", "postgres")
VOLUMES: Final = tuple(f"{POD}-{name}" for name in ("data", "postgres"))


@attrs.frozen
class Pod:
    """The running pod, and a key with a limit and one without."""

    file: Path
    port: int
    key: str
    bounded: str


def ctl(*arguments: str) -> str:
    """Run `gatewayctl` in the gateway's container."""
    return podman("exec", f"{POD}-gateway", "gatewayctl", *arguments)


def played(file: Path, backends: str, port: int) -> Path:
    """Return the file with the tests' backends, on a free port."""
    text = (FILES / "pod.yaml").read_text()
    for old, new in {
        "ollama=http://host.containers.internal:11434": backends,
        "hostPort: 11435": f"hostPort: {port}",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    return file


def passwords() -> str:
    """Return the secret of docs/operate/podman/pod.md: a JSON object with values in base64."""
    password = secrets.token_urlsafe(24)
    values = {
        "database-password": password,
        "database-url": f"postgresql://gateway:{password}@127.0.0.1/gateway",
    }
    return json.dumps({k: base64.b64encode(v.encode()).decode() for k, v in values.items()})


@pytest.fixture(scope="module")
def peers() -> Iterator[None]:
    """Provide the images of Redis and PostgreSQL."""
    made = prerequisites.have_peers(
        Path(__file__).parent, prerequisites.REDIS, prerequisites.POSTGRES
    )
    yield
    for name in made:
        podman("rmi", name)


@pytest.fixture(scope="module")
def pod(backends: str, peers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """Run the pod, healthy and migrated, with two keys."""
    port = free_port()
    file = played(tmp_path_factory.mktemp("pod") / "pod.yaml", backends, port)
    with secret(POD, passwords()):
        try:
            podman("kube", "play", "--network", NETWORK, str(file))
            for part in PARTS:
                wait_until_healthy(f"{POD}-{part}")
            wait_until(lambda: _ended("migrate") == "exited 0", "the tables are not made")
            wait_until(
                lambda: is_ready(f"{POD}-gateway"),
                "not ready",
            )
            key = ctl("keys", "create", "app").splitlines()[0]
            bounded = ctl("keys", "create", "bounded", "--requests-per-minute", "2").splitlines()[0]
            yield Pod(file, port, key, bounded)
        finally:
            podman("pod", "rm", "--force", "--ignore", "--time", "5", POD)
            podman("volume", "rm", "--force", *VOLUMES)


def _ended(part: str) -> str:
    return inspected(f"{POD}-{part}", "{{.State.Status}} {{.State.ExitCode}}")


def test_a_limit_is_in_redis(pod: Pod) -> None:
    """A key of 2 requests a minute gets a 429 for its third, and Redis has the count."""
    statuses = [chatted(pod.port, pod.bounded) for _ in range(3)]
    assert statuses == [200, 200, 429]
    key_id = pod.bounded.split("_")[1]
    found = podman("exec", f"{POD}-redis", "redis-cli", "--scan", "--pattern", f"*{key_id}*")
    assert found.splitlines()


def test_a_record_is_in_postgresql(pod: Pod) -> None:
    """A served request becomes a row of `gateway_audit`, and `audit list` shows it."""
    assert chatted(pod.port, pod.key) == 200
    query = "SELECT request_id FROM gateway_audit WHERE key_name = 'app' AND outcome = 'completed'"
    wait_until(lambda: bool(_sql(query)), "no record in PostgreSQL")
    listed = [json.loads(record) for record in ctl("audit", "list", "--json").splitlines()]
    assert _sql(query)[0] in {record["request_id"] for record in listed}
    assert ctl("audit", "verify")


def _sql(query: str) -> list[str]:
    connect = ("--username", "gateway", "--dbname", "gateway", "--no-align", "--tuples-only")
    return podman("exec", f"{POD}-postgres", "psql", *connect, "--command", query).splitlines()


def test_a_killed_gateway_is_started_again(pod: Pod) -> None:
    """The restart policy starts a killed gateway again, and its keys still work."""
    first = inspected(f"{POD}-gateway", "{{.State.Pid}}")
    os.kill(int(first), signal.SIGKILL)  # after `podman kill` the restart policy does not apply
    wait_until(lambda: inspected(f"{POD}-gateway", "{{.State.Pid}}") not in (first, "0"), "down")
    wait_until(lambda: is_ready(f"{POD}-gateway"), "not ready")
    assert chatted(pod.port, pod.key) == 200


def test_the_pod_is_stopped_after_a_drain(pod: Pod) -> None:
    """If the gateway is stopped first, as the page says, a stream finishes before the pod ends."""
    with begun_chat(pod.port, pod.key) as remainder:
        stopping = threading.Thread(target=podman, args=("stop", "--time", "45", f"{POD}-gateway"))
        stopping.start()
        assert len(remainder()) > 1
        stopping.join()
    assert _ended("gateway") == "exited 0"
    assert events(f"{POD}-gateway")[-1]["event"] == "stopped"
    podman("kube", "down", str(pod.file))
    assert not succeeds("pod", "exists", POD)
    assert all(succeeds("volume", "exists", name) for name in VOLUMES)
