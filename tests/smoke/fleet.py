"""Real processes on real sockets: simulators, a gateway, and `gatewayctl` beside them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import attrs

PATIENCE = 30.0
"""Seconds after which a process that does not start or stop has failed."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@attrs.define
class Process:
    """A running program; its standard error is kept, line by line."""

    popen: subprocess.Popen[str]
    lines: list[str] = attrs.field(factory=list)
    _came: threading.Condition = attrs.field(factory=threading.Condition)
    _ended: bool = False

    def watch(self, stderr: IO[str]) -> None:
        """Keep the lines; runs in a thread until the stream ends."""
        for line in stderr:
            with self._came:
                self.lines.append(line.rstrip("\n"))
                self._came.notify_all()
        stderr.close()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def wait_for(self, text: str) -> str:
        """The first line that holds `text`; fails when it does not come."""
        with self._came:
            found = self._came.wait_for(
                lambda: self._ended or any(text in line for line in self.lines), PATIENCE
            )
            assert found, f"{text!r} did not come: {self.lines}"
            return next(line for line in self.lines if text in line)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)


@contextmanager
def running(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """`python -m ...` for the length of the block; killed at its end if it still runs."""
    popen = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**clean_environment(), **(environment or {})},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    process = Process(popen)
    assert popen.stderr is not None
    reader = threading.Thread(target=process.watch, args=(popen.stderr,))
    reader.start()
    try:
        yield process
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait(PATIENCE)
        reader.join(PATIENCE)


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of a gateway or a client."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "OLLAMA_", "OPENAI_"))
    }


@attrs.define
class Fleet:
    """Simulators `a` and `b` behind a gateway, and a key."""

    simulators: dict[str, Process]
    gateway: Process
    port: int
    environment: dict[str, str]
    key: str

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.port}"

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `gatewayctl` with the gateway's settings."""
        return ctl(*arguments, environment=self.environment)

    def ctl_json(self, *arguments: str) -> Any:
        """What `gatewayctl ... --json` says."""
        return json.loads(self.ctl(*arguments, "--json").stdout)


def ctl(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `gatewayctl` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ollama_gateway", *arguments],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def fleet(directory: Path, **settings: str) -> Iterator[Fleet]:
    """Two simulators that share a model and have one each of their own, behind a gateway."""
    ports = {"a": free_port(), "b": free_port()}
    public, admin = free_port(), free_port()
    environment = {
        "OLLAMA_BACKENDS": ",".join(f"{n}=http://127.0.0.1:{p}" for n, p in ports.items()),
        "GATEWAY_SERVER_BIND": f"127.0.0.1:{public}",
        "GATEWAY_SERVER_ADMIN_BIND": f"127.0.0.1:{admin}",
        "GATEWAY_STORAGE_DATA_DIR": str(directory),
        **settings,
    }
    with _simulator(ports["a"], "only-a:1") as a, _simulator(ports["b"], "only-b:1") as b:
        key = json.loads(ctl("keys", "create", "smoke", "--json", environment=environment).stdout)
        with running("ollama_gateway", "serve", environment=environment) as gateway:
            gateway.wait_for("serving")
            yield Fleet({"a": a, "b": b}, gateway, public, environment, key["key"])


@contextmanager
def _simulator(port: int, own: str) -> Iterator[Process]:
    options = ["--port", str(port), "--model", "shared:1", "--model", own]
    pace = ["--tokens", "20", "--token-delay", "20ms", "--first-token", "0.2s"]
    with running("ollama_gateway.simulator", *options, *pace) as process:
        process.wait_for(str(port))
        yield process
