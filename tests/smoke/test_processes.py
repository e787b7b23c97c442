"""Several processes share an address, and their parent answers for them."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.keys.key import KeyLimits
from tests.smoke.asking import rest_of
from tests.smoke.fleet import PATIENCE, TWO, Fleet, alone, free_port, running
from tests.smoke.processes import (
    COUNT,
    all_serve,
    completed,
    figures,
    is_alive,
    members,
    pids,
    readiness,
    several,
)
from tests.smoke.test_drain import begun_chat, remainder_of
from tests.support.patience import wait_until
from tests.support.redis_server import redis_server


@pytest.fixture(scope="module")
def running_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A gateway whose number of processes the test does not change."""
    key = "SECRET-of-the-chain"
    with several(tmp_path_factory.mktemp("data"), GATEWAY_AUDIT_CHAIN_KEY=key) as started:
        yield started


@pytest.fixture
def own_processes(tmp_path: Path) -> Iterator[Fleet]:
    """A gateway of several processes that the test may kill."""
    one = {"a": TWO["a"]}
    (tmp_path / "tmp").mkdir()
    settings = {"GATEWAY_SERVER_DRAIN_TIMEOUT": "5s", "TMPDIR": str(tmp_path / "tmp")}
    with several(tmp_path / "data", one, **settings) as started:
        yield started


def shared_out(stack: ExitStack, fleet: Fleet) -> list[socket.socket]:
    """Start chats until each process has one."""
    chats: list[socket.socket] = []
    while not chats or not all(m["status"]["requests"] for m in members(fleet.gateways[0])):
        chats.append(stack.enter_context(begun_chat(fleet)))
    return chats


def test_processes_share_what_comes(running_processes: Fleet) -> None:
    """Each process gets chats; status and metrics are those of all together."""
    gateway = running_processes.gateways[0]
    before = completed(gateway)
    with ExitStack() as stack:
        chats = shared_out(stack, running_processes)
        status, during = gateway.status(), figures(gateway)
        assert all(b'"done":true' in rest_of(chat) for chat in chats)
    wait_until(lambda: completed(gateway) == before + len(chats))

    assert status["requests"] == sum(m["status"]["requests"] for m in status["processes"])
    assert during["ollama_gateway_processes"] == COUNT
    assert during['ollama_gateway_backend_up{backend="a"}'] == 1


def test_a_new_key_works_in_each_process_at_once(running_processes: Fleet) -> None:
    """A new key works in each process at once."""
    key, text = running_processes.create_key("new", KeyLimits(concurrent_requests=9))
    known, running_processes.key = running_processes.key, text
    try:
        with ExitStack() as stack:
            chats = shared_out(stack, running_processes)
            assert running_processes.gateways[0].used(key.id)["concurrency"] >= COUNT
            assert len(chats) >= COUNT
    finally:
        running_processes.key = known


def test_a_killed_process_is_started_again(running_processes: Fleet) -> None:
    """A killed process is replaced; other streams go on, counters stay, the gateway is ready."""
    gateway = running_processes.gateways[0]
    with ExitStack() as stack:
        chats = shared_out(stack, running_processes)
        before, (victim, *others) = completed(gateway), pids(gateway)
        os.kill(victim, signal.SIGKILL)
        while (ready := readiness(gateway))["ready"] and not ready["degraded"]:
            pass
        ends = [rest_of(chat) for chat in chats]
        wait_until(lambda: all_serve(gateway))

    assert ready == {"ready": True, "reasons": [], "degraded": ["process 0 does not answer"]}
    assert {b'"done":true' in end for end in ends} == {True, False}
    assert completed(gateway) >= before + sum(b'"done":true' in end for end in ends)
    assert pids(gateway)[1:] == others
    assert [member["restarts"] for member in members(gateway)] == [1, 0]


def test_nothing_secret_is_in_sight(running_processes: Fleet) -> None:
    """No argument and no further environment contains the settings."""
    gateway = running_processes.gateways[0]
    own = Path(f"/proc/{gateway.process.popen.pid}/environ").read_bytes()
    for pid in pids(gateway):
        assert b"SECRET" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")) <= set(own.split(b"\0"))


def test_commands_ask_all_of_them(running_processes: Fleet) -> None:
    """`explain` and `backends pause` work as with one process, and a pause holds for all."""
    gateway = running_processes.gateways[0]
    explained = running_processes.ctl_json("explain", "shared:1")
    paused = running_processes.ctl_json("backends", "pause", "a")
    of_each = [m["status"]["backends"][0]["paused"] for m in members(gateway)]
    PauseFile(Path(gateway.environment["GATEWAY_STORAGE_DATA_DIR"])).remove("a")

    assert [candidate["backend"] for candidate in explained["candidates"]] == ["a", "b"]
    assert paused["in_force"] is True
    assert of_each == [True] * COUNT


def test_all_drain(own_processes: Fleet) -> None:
    """After SIGTERM streams of all processes finish, new clients are refused, exit code 0."""
    with ExitStack() as stack:
        chats = shared_out(stack, own_processes)
        own_processes.gateway.popen.send_signal(signal.SIGTERM)
        remainders = [remainder_of(chat) for chat in chats]

    assert all(b'"done":true' in answer and answer.endswith(b"0\r\n\r\n") for answer in remainders)
    assert own_processes.gateway.popen.wait(PATIENCE) == 0


def test_no_process_outlives_its_parent(own_processes: Fleet, tmp_path: Path) -> None:
    """If the parent is killed, its processes drain, streams finish, and no file is left."""
    gateway = own_processes.gateways[0]
    with ExitStack() as stack:
        chats = shared_out(stack, own_processes)
        children = pids(gateway)
        gateway.process.popen.kill()
        remainders = [remainder_of(chat) for chat in chats]
        wait_until(lambda: not any(map(is_alive, children)))
    assert list((tmp_path / "tmp").iterdir()) == []
    assert all(b'"done":true' in answer and answer.endswith(b"0\r\n\r\n") for answer in remainders)


def test_a_start_that_fails_ends_them_all(tmp_path: Path) -> None:
    """If a process cannot start, a line names the reason, and the exit code is 1."""
    (tmp_path / "journal-0.lock").mkdir()
    bind = f"127.0.0.1:{free_port()}"
    with redis_server() as url:
        two = {"GATEWAY_REDIS_URL": url, "GATEWAY_SERVER_PROCESSES": "2"}
        environment = alone(tmp_path, GATEWAY_SERVER_BIND=bind, **two)
        with running("ollama_gateway", "serve", environment=environment) as process:
            assert process.popen.wait(PATIENCE) == 1
            line = process.wait_for("could not start")

    assert json.loads(line)["reason"].startswith("process ")
    assert not [line for line in process.lines if "Traceback" in line]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(bind.rpartition(":")[2])), timeout=PATIENCE)


def test_one_process_has_no_parent(shared_fleet: Fleet) -> None:
    """By default the gateway is one process."""
    assert "processes" not in shared_fleet.gateways[0].status()
    children = Path(f"/proc/{shared_fleet.gateway.popen.pid}/task").glob("*/children")
    assert "".join(path.read_text() for path in children) == ""
