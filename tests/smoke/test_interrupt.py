"""Ctrl-C: exit code 130 and no traceback, whatever the command is doing."""

from __future__ import annotations

import array
import fcntl
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.smoke.fleet import clean_environment
from tests.support.patience import PATIENCE

IMPORTING = """
import runpy, sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            print("importing", flush=True)
            time.sleep(3600)
sys.meta_path.insert(0, Slow())
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""
MODULE = ("-m", "ollama_gateway")


@contextmanager
def started(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with these arguments for the block; kill it at the end if it still runs.

    It does not inherit an ignored SIGINT, as the tests themselves may run in the background of a
    script: a signal with a handler is back at its default after exec.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**clean_environment(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def settings_in(directory: Path) -> dict[str, str]:
    """Return variables that name a settings file, without which commands would say so."""
    config = directory / "gateway.toml"
    config.touch()
    return {"GATEWAY_CONFIG": str(config), "GATEWAY_STORAGE_DATA_DIR": str(directory)}


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Send Ctrl-C; the process must end with 130 and at most one line on stderr."""
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)

    assert (process.returncode, len(stderr.splitlines()) <= 1) == (130, True), stderr.decode()


@pytest.mark.parametrize(
    "command",
    [
        ("probe",),
        ("pull", "m1", "--all"),
        ("init", "{}", "--output", "/dev/null/x"),
        ("explain", "m1"),
        ("health",),
        ("keys", "list"),
        ("serve",),
    ],
    ids=" ".join,
)
def test_while_a_server_does_not_answer(command: tuple[str, ...], tmp_path: Path) -> None:
    """A backend, a gateway or a database that accepts and is silent is left at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = {
            "OLLAMA_BACKENDS": f"a=http://{address}",
            "GATEWAY_SERVER_ADMIN_BIND": address,
            **settings_in(tmp_path),
            "GATEWAY_DISCOVERY_TIMEOUT": "1h",
        }
        if command[0] in {"keys", "serve"}:
            environment["GATEWAY_STORAGE_DATABASE_URL"] = f"postgresql://x@{address}/x"
        arguments = [argument.format(address) for argument in command]
        with started(*MODULE, *arguments, environment=environment) as process:
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(PATIENCE)
                assert connection.recv(1)
                interrupt(process)


@pytest.mark.parametrize(
    ("program", "imported"),
    [
        ("ollama_gateway", "ollama_gateway.cli.main"),
        ("ollama_gateway.simulator", "ollama_gateway.simulator.simulator"),
        ("ollama_gateway.simulator", "anyio"),
    ],
)
def test_while_modules_are_imported(program: str, imported: str) -> None:
    """From the first line of its own code on, nothing but the exit code shows the interrupt."""
    with started("-c", IMPORTING, program, imported) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        interrupt(process)


def test_while_stdin_is_read(tmp_path: Path) -> None:
    """`keys import -` ends in the middle of its input."""
    with started(*MODULE, "keys", "import", "-", environment=settings_in(tmp_path)) as process:
        assert process.stdin is not None
        process.stdin.write(b"name,")
        process.stdin.flush()
        deadline, unread = time.monotonic() + PATIENCE, array.array("i", [1])
        while unread[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
        interrupt(process)


def test_in_the_middle_of_the_demo() -> None:
    """The demo ends while a chat streams, with its gateway and its directory."""
    with started(*MODULE, "demo") as process:
        assert process.stdout is not None
        while b"1." not in (line := process.stdout.readline()):
            assert line
        interrupt(process)


def test_an_ignored_interrupt_stays_ignored() -> None:
    """A command in the background of a script ends by itself, whatever its terminal sends."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
    main = "from ollama_gateway.__main__ import main, _on_interrupt, _exit_at_once;"
    look = "_on_interrupt(_exit_at_once); print(signal.getsignal(signal.SIGINT).name)"
    said = subprocess.check_output([sys.executable, "-c", ignoring + main + look], timeout=PATIENCE)

    assert said == b"SIG_IGN\n"
