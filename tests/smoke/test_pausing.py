"""Backends paused and resumed in running gateways, as processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.asking import CHAT, ask, rest_of
from tests.smoke.fleet import Fleet, Gateway, fleet
from tests.smoke.test_drain import begun_chat
from tests.support.patience import wait_until


@pytest.fixture
def two_gateways(tmp_path: Path) -> Iterator[Fleet]:
    """Run two gateways that share a directory and name the backend in responses."""
    directory = tmp_path / "data"
    with fleet(
        directory,
        gateways=2,
        GATEWAY_SERVER_EXPOSE_BACKEND="true",
        GATEWAY_RACE_HEDGE_AFTER="off",
    ) as started:
        yield started


def chat(fleet: Fleet, gateway: Gateway) -> tuple[int, str | None, str | None]:
    """Run a chat; return its status, its backend and Retry-After."""
    answer = ask(gateway.port, "/api/chat", fleet.key, CHAT)
    return answer.status, answer.headers["x-gateway-backend"], answer.headers["retry-after"]


def paused(gateway: Gateway) -> list[str]:
    """Return the backends that a gateway has paused."""
    return [backend["name"] for backend in gateway.status()["backends"] if backend["paused"]]


def listed(fleet: Fleet) -> dict[str, Any]:
    """Return the rows of `backends list`, by name."""
    return {entry["name"]: entry for entry in fleet.ctl_json("backends", "list")}


def test_a_backend_is_taken_out_and_brought_back(two_gateways: Fleet) -> None:
    """Streams of a paused backend finish, new chats go elsewhere, also after a restart."""
    started, (first, second) = two_gateways, two_gateways.gateways
    with begun_chat(started) as client:
        # Stopped, it neither ends its stream nor could answer another chat.
        started.simulators["a"].popen.send_signal(signal.SIGSTOP)
        try:
            done = started.ctl("backends", "pause", "a")
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith(
                "a is paused: no new requests go to it, 1 is still running\n"
            )
            wait_until(lambda: paused(second) == ["a"])
            assert chat(started, first) == (200, "b", None)
            assert chat(started, second) == (200, "b", None)
            assert (listed(started)["a"]["state"], listed(started)["a"]["in_flight"]) == (
                "paused, up",
                1,
            )
        finally:
            started.simulators["a"].popen.send_signal(signal.SIGCONT)
        rest = rest_of(client)
        assert b'"done":true' in rest
        assert rest.endswith(b"0\r\n\r\n")

    started.restart(0, signal.SIGTERM)
    assert paused(first) == ["a"]
    assert chat(started, first) == (200, "b", None)

    done = started.ctl("backends", "resume", "a")
    assert done.stdout.startswith("a is resumed: new requests go to it\n")
    assert chat(started, first) == (200, "a", None)
    wait_until(lambda: paused(second) == [])


def test_all_are_taken_out(two_gateways: Fleet) -> None:
    """If all backends are paused, clients get a 503 with Retry-After, and it is not ready."""
    started = two_gateways
    assert "warning" not in started.ctl("backends", "pause", "b").stderr
    last = started.ctl("backends", "pause", "a")

    assert (last.returncode, last.stderr.count("\n")) == (0, 1)
    assert "warning: all backends are paused now" in last.stderr
    status, _, retry_after = chat(started, started.gateways[0])
    assert (status, retry_after is not None) == (503, True)
    ready = started.ctl("health", "--ready")
    assert (ready.returncode, ready.stdout) == (1, "not ready: all backends are paused\n")


def test_a_gateway_lives_with_a_broken_file(two_gateways: Fleet, tmp_path: Path) -> None:
    """With a broken file the last state stays in force, until the file is good again."""
    started, gateway = two_gateways, two_gateways.gateways[0]
    started.ctl("backends", "pause", "a")
    file = tmp_path / "data" / "paused.json"
    file.write_text("oops")
    gateway.process.wait_for("pauses cannot be read")

    refused = started.ctl("backends", "resume", "a")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("gatewayctl backends: paused.json: not JSON")
    assert chat(started, gateway) == (200, "b", None)
    file.unlink()
    gateway.process.wait_for("pauses can be read again")
    wait_until(lambda: paused(gateway) == [])

    assert sum("pauses cannot be read" in line for line in gateway.process.lines) == 1
    assert chat(started, gateway) == (200, "a", None)


def test_a_gateway_starts_with_a_broken_file(two_gateways: Fleet, tmp_path: Path) -> None:
    """A gateway that starts with a broken file serves, with no backend paused."""
    (tmp_path / "data" / "paused.json").mkdir()
    two_gateways.restart(0, signal.SIGTERM)

    two_gateways.gateway.wait_for("paused.json: not a file")
    assert chat(two_gateways, two_gateways.gateways[0]) == (200, "a", None)
