"""A hardened container with two simulated Ollamas, from its start to its end."""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import attrs
import pytest

from tests.podman.chat import MODEL, begun_chat, chatted
from tests.podman.conftest import Note
from tests.podman.podman import (
    FILES,
    IMAGE,
    NETWORK,
    container,
    events,
    inspected,
    is_ready,
    logged,
    podman,
    remove,
    revive,
    succeeds,
    wait_until,
    wait_until_healthy,
)

NAME: Final = "gateway"
DATA: Final = "/var/lib/ollama-gateway"
VOLUME: Final = "ollama-gateway-tests-data"
UNDER_SECRETS: Final = ("--tmpfs", "/run/secrets:mode=755")
"""Needed because podman 4.3 cannot write a secret under a read-only root."""
BACKENDS: Final = "ollama=http://host.containers.internal:11434"
"""The names on the page."""


def documented_line() -> list[str]:
    """Return the command of docs/operate/podman/run.md."""
    (found,) = re.findall(
        r"```console\n(podman run --detach.*?)```", (FILES / "run.md").read_text(), re.DOTALL
    )
    return shlex.split(found.replace("\\\n", " "))


def line_for(backends: str, token: str) -> list[str]:
    """Return that command with the tests' backends, a token from a secret, and a free port."""
    listed = [{"name": name, "url": f"http://{name}:11434"} for name in backends.split()]
    listed[0]["auth_token"] = {"file": f"/run/secrets/{token}"}  # type: ignore[assignment]
    changed = {
        "127.0.0.1:11435:11435": "127.0.0.1::11435",
        "ollama-gateway:/var/lib/ollama-gateway": f"{VOLUME}:/var/lib/ollama-gateway",
        f"OLLAMA_BACKENDS={BACKENDS}": f"OLLAMA_BACKENDS={json.dumps(listed)}",
    }
    line = documented_line()
    assert set(changed) < set(line)
    _, verb, *options, image = [changed.get(word, word) for word in line]
    return [verb, *options, "--network", NETWORK, "--secret", token, *UNDER_SECRETS, image]


@attrs.frozen
class Running:
    """The gateway's container."""

    port: int
    key: str
    created: float
    """The time of `podman run`, in seconds since the epoch."""


@pytest.fixture
def gateway(simulators: tuple[str, ...], token: str) -> Iterator[Running]:
    """Run a healthy container, and create a key."""
    for name in simulators:
        revive(name)
    created = time.time()
    try:
        podman(*line_for(" ".join(simulators), token))
        wait_until_healthy(NAME)
        port = int(podman("port", NAME, "11435/tcp").rpartition(":")[2])
        key = podman("exec", NAME, "gatewayctl", "keys", "create", "app").splitlines()[0]
        yield Running(port, key, created)
    finally:
        remove(NAME)
        podman("volume", "rm", "--force", VOLUME)


def test_a_chat_streams_and_survives_a_backend(
    gateway: Running, simulators: tuple[str, ...]
) -> None:
    """A chat streams, and the next one also streams after one Ollama was killed."""
    assert chatted(gateway.port, gateway.key) == 200
    podman("kill", "--signal", "KILL", simulators[0])
    assert chatted(gateway.port, gateway.key) == 200
    assert chatted(gateway.port, "ogw_nobody") == 401


def test_sigterm_in_a_stream_lets_it_finish(gateway: Running, note: Note) -> None:
    """After SIGTERM the stream ends properly, new clients are refused, and the exit code is 0."""
    with begun_chat(gateway.port, gateway.key) as remainder:
        stopping = threading.Thread(target=podman, args=("stop", NAME))
        began = time.monotonic()
        stopping.start()
        wait_until(lambda: any('"draining"' in line for line in logged(NAME)), "no drain")
        with pytest.raises(OSError, match="refused"):
            chatted(gateway.port, gateway.key)
        assert len(remainder()) > 1
        stopping.join()
    note(f"stop with a stream of 8 s in flight: {time.monotonic() - began:.1f} s")
    assert inspected(NAME, "{{.State.ExitCode}}") == "0"
    assert events(NAME)[-1]["event"] == "stopped"


def test_it_starts_and_stops_quickly(gateway: Running, note: Note) -> None:
    """The first client is served soon after `podman run`, and `podman stop` ends soon."""
    served = next(event for event in events(NAME) if event["event"] == "serving")
    took = datetime.fromisoformat(served["timestamp"]).timestamp() - gateway.created
    began = time.monotonic()
    podman("stop", NAME)
    note(f"start {took:.2f} s, stop of an idle one {time.monotonic() - began:.2f} s")
    assert inspected(NAME, "{{.State.ExitCode}}") == "0"


def test_it_is_hardened(gateway: Running) -> None:
    """The container has no capabilities, a read-only root, a system call filter, no root user."""
    status = podman("exec", NAME, "cat", "/proc/1/status")
    shown = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert shown["Uid"].split() == ["10001"] * 4
    assert int(shown["CapEff"], 16) == int(shown["CapBnd"], 16) == 0
    assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("1", "2")
    assert not succeeds("exec", NAME, "touch", "/opt/gateway/x")
    assert not succeeds("exec", NAME, "touch", "/opt/x")
    assert succeeds("exec", NAME, "touch", "/var/lib/ollama-gateway/x")


@pytest.mark.parametrize(
    "options",
    [
        ("--user", "1000800000:0"),
        ("--tmpfs", DATA),
        ("--user", "1000800000:0", "--tmpfs", DATA),
    ],
    ids=["user", "tmpfs", "both"],
)
def test_any_user_of_group_0_and_a_tmpfs(
    simulators: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """An arbitrary user id, as OpenShift gives one, and a tmpfs can hold the data."""
    given = ("--env", f"OLLAMA_BACKENDS={simulators[1]}=http://{simulators[1]}:11434")
    with container(NAME, "--network", NETWORK, *given, "--read-only", *options, IMAGE):
        wait_until_healthy(NAME)
        assert podman("exec", NAME, "gatewayctl", "keys", "create", "app").startswith("ogw_")


def test_health_needs_no_key(gateway: Running, simulators: tuple[str, ...]) -> None:
    """Without backends `health` exits with 0 and `health --ready` does not."""
    assert podman("exec", NAME, "gatewayctl", "health", "--ready") == "ready"
    for name in simulators:
        podman("kill", "--signal", "KILL", name)
    wait_until(lambda: not is_ready(NAME), "it stays ready")
    said = podman("exec", NAME, "gatewayctl", "health").splitlines()
    assert said[0] == "not ready: no backend is up"
    assert said[1].startswith(
        "degraded: 3 of 3 backends down: ollama-gateway-tests-a (cannot connect"
    )
    assert succeeds("healthcheck", "run", NAME)


def test_the_log_is_json_without_a_secret(gateway: Running) -> None:
    """Every line of stderr is an object with time, level and event, and stdout is empty."""
    chatted(gateway.port, gateway.key)
    wait_until(lambda: any(e["event"] == "exchange" for e in events(NAME)), "no line of a request")
    assert all({"event", "level", "timestamp"} <= set(event) for event in events(NAME))
    whole = "\n".join(logged(NAME))
    assert "the backend's token" not in whole
    assert gateway.key not in whole


def test_the_first_process_reaps_orphans(gateway: Running) -> None:
    """The first process reaps a process that `podman exec` leaves behind."""
    podman("exec", NAME, "sh", "-c", "(sleep 0.3; exit 3) & (exit 4) & exit 0")
    wait_until(lambda: _others() == [], f"left in the container: {_others()}")


def _others() -> list[str]:
    """Return the other processes of the container, without `ps` itself, as `comm state`."""
    each = "[ $p = /proc/1 ] || [ $p = /proc/$$ ] || cut -d' ' -f2,3 $p/stat"
    look = f"for p in /proc/[0-9]*; do {each}; done 2>&1"
    found = podman("exec", NAME, "sh", "-c", look).splitlines()
    return [line for line in found if not line.startswith(("(cut)", "cut:"))]


def test_keys_outlive_the_container(
    gateway: Running, simulators: tuple[str, ...], token: str
) -> None:
    """A new container on the same volume knows the key and continues the journal."""
    assert chatted(gateway.port, gateway.key) == 200
    podman("stop", NAME)
    remove(NAME)
    podman(*line_for(" ".join(simulators), token))
    wait_until_healthy(NAME)
    port = int(podman("port", NAME, "11435/tcp").rpartition(":")[2])
    assert chatted(port, gateway.key) == 200
    wait_until(lambda: len(_records()) == 2, "the records of both containers")
    assert [json.loads(record)["model"] for record in _records()] == [MODEL, MODEL]
    assert succeeds("exec", NAME, "gatewayctl", "audit", "verify")


def _records() -> list[str]:
    return podman("exec", NAME, "gatewayctl", "audit", "list", "--json").splitlines()
