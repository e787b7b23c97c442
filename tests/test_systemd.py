"""Notifications of systemd, received on a socket like its own."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.cli.main import run
from ollama_gateway.systemd import notify_ready, notify_stopping, reload_notified
from tests.support.patience import PATIENCE

UNITS = Path(__file__).parent.parent / "docs" / "operate"


@pytest.fixture(params=["path", "abstract"])
def listener(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """Listen as systemd does, at a path or at an abstract address."""
    path = str(tmp_path / "notify")
    name = path if request.param == "path" else f"@{path}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield sock


def test_a_reload_is_told_from_its_begin_to_its_end(listener: socket.socket) -> None:
    """Systemd hears when a reload begins, with the time, and that it has ended, also in failure."""

    def fail() -> None:
        with reload_notified():
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()

    begin = listener.recv(100).decode().splitlines()
    assert begin[0] == "RELOADING=1"
    assert begin[1].removeprefix("MONOTONIC_USEC=").isdecimal()
    assert listener.recv(100) == b"READY=1"


def test_ready_and_stopping(listener: socket.socket) -> None:
    """Systemd hears that the service is ready, and that it stops."""
    notify_ready()
    notify_stopping()
    assert [listener.recv(100), listener.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_a_socket_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notification that cannot be sent is lost, and nothing else happens."""
    for name in ("", str(tmp_path / "nothing"), "@nothing-listens-here", "x" * 200):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify_ready()


@pytest.mark.parametrize("unit", sorted(UNITS.rglob("*.service")), ids=lambda unit: unit.name)
def test_the_commands_of_a_unit_exist(unit: Path) -> None:
    """Each `gatewayctl` line of a shipped unit is a command line that is understood."""
    lines = [line.partition("=")[2] for line in unit.read_text().splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("/opt/")]
    assert commands
    for _, *arguments in commands:
        assert run([*arguments, "--help"]) == 0
