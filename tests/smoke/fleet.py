"""Real processes on real sockets: simulators, gateways and `gatewayctl`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any, Final

import attrs

from ollama_gateway.keys.key import APIKey, KeyLimits
from ollama_gateway.keys.location import location_of
from ollama_gateway.simulator.figures import PATH, Figures
from tests.support import patience, ports
from tests.support.patience import wait_until

PATIENCE: Final = patience.PATIENCE
free_port: Final = ports.free_port
PACE: Final = ("--tokens", "20", "--token-delay", "20ms", "--first-token", "0.2s")
TWO: Final = {
    "a": ("--model", "shared:1", "only-a:1", *PACE),
    "b": ("--model", "shared:1", "only-b:1", *PACE),
}
"""Arguments of simulators, by name; they share a model, and each has one of its own."""


@attrs.define
class Process:
    """A running program and the lines of its standard error."""

    popen: subprocess.Popen[str]
    lines: list[str] = attrs.field(factory=list)
    _came: threading.Condition = attrs.field(factory=threading.Condition)
    _ended: bool = False

    def watch(self, stderr: IO[str]) -> None:
        """Collect the lines; runs in a thread until the stream ends."""
        for line in stderr:
            with self._came:
                self.lines.append(line.rstrip("\n"))
                self._came.notify_all()
        stderr.close()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def wait_for(self, text: str) -> str:
        """Return the first line that contains `text`; fail if none comes."""
        with self._came:
            found = self._came.wait_for(
                lambda: self._ended or any(text in line for line in self.lines), PATIENCE
            )
            assert found, f"{text!r} did not come: {self.lines}"
            line = next((line for line in self.lines if text in line), None)
            assert line is not None, f"it ended, and {text!r} did not come: {self.lines}"
            return line

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)


@contextmanager
def running(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run `python -m ...` during the block; kill it at the end if it still runs."""
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
    """Return this process's environment without settings of a gateway or a client."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "GATEWAYCTL_", "OLLAMA_", "OPENAI_"))
    }


@attrs.define
class Gateway:
    """One gateway: its process, and its settings as environment variables."""

    process: Process
    environment: dict[str, str]

    @property
    def port(self) -> int:
        """The port for clients."""
        return int(self.environment["GATEWAY_SERVER_BIND"].rpartition(":")[2])

    @property
    def admin_port(self) -> int:
        """The port of the admin listener."""
        return int(self.environment["GATEWAY_SERVER_ADMIN_BIND"].rpartition(":")[2])

    def status(self) -> Any:
        """Return its `/status.json`."""
        return _read_json(self.admin_port, "/status.json")

    def used(self, key_id: str) -> dict[str, int]:
        """Return the usage of a key's limits, by their names."""
        limits = _read_json(self.admin_port, f"/limits/{key_id}")["limits"]
        return {name: limit["used"] for name, limit in limits.items()}


@attrs.define
class Fleet:
    """Simulators behind gateways, and a key without limits that works on all gateways."""

    simulators: dict[str, Process]
    gateways: list[Gateway]
    key: str
    _ports: dict[str, int]
    _stack: ExitStack

    @property
    def gateway(self) -> Process:
        """The first gateway."""
        return self.gateways[0].process

    @property
    def port(self) -> int:
        """The port of the first gateway."""
        return self.gateways[0].port

    @property
    def environment(self) -> dict[str, str]:
        """The settings of the first gateway."""
        return self.gateways[0].environment

    @property
    def url(self) -> str:
        """The port of the first gateway."""
        return f"http://127.0.0.1:{self.port}"

    def records(self, count: int) -> list[Any]:
        """Return the log lines of requests of the first gateway, once there are this many."""
        lines = self.gateway.lines
        wait_until(lambda: sum('"exchange"' in line for line in lines) >= count, lambda: lines)
        return [json.loads(line) for line in lines if '"exchange"' in line]

    def figures(self, name: str) -> Figures:
        """Return the counters of a simulator."""
        return Figures(**_read_json(self._ports[name], PATH))

    def restart(self, number: int, ended_by: signal.Signals) -> None:
        """Stop a gateway, and start it again with the same settings."""
        gateway = self.gateways[number]
        gateway.process.stop(ended_by)
        gateway.process = self._stack.enter_context(_gateway(gateway.environment))
        gateway.process.wait_for("serving")

    def create_key(self, name: str, limits: KeyLimits) -> tuple[APIKey, str]:
        """Create a key and return its id and text; it works at once."""
        return create_key(self.environment, name, limits)

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `gatewayctl` with the first gateway's settings."""
        return ctl(*arguments, environment=self.environment)

    def ctl_json(self, *arguments: str) -> Any:
        """Return the output of `gatewayctl ... --json`."""
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
def fleet(
    directory: Path | Sequence[Path],
    simulators: Mapping[str, Sequence[str]] = TWO,
    gateways: int = 1,
    priorities: str = "in order",
    **settings: str,
) -> Iterator[Fleet]:
    """Run a fleet during the block.

    Args:
        directory: the data of the gateways; several, if each has its own machine.
        simulators: arguments by name; the first are preferred.
        gateways: the number of gateways.
        priorities: of the simulators; "equal" makes them one tier.
        settings: environment variables of the gateways.

    """
    directories = [directory] * gateways if isinstance(directory, Path) else directory
    with ExitStack() as stack:
        started = {n: stack.enter_context(start_simulator(o)) for n, o in simulators.items()}
        ports = {name: port_of(process) for name, process in started.items()}
        common = {
            "OLLAMA_BACKENDS": _backends(ports, priorities),
            "GATEWAY_STORAGE_DATA_DIR": str(directories[0]),
            **settings,
        }
        _, key = create_key(common, "smoke")
        environments = [
            {**common, **addresses(), "GATEWAY_STORAGE_DATA_DIR": str(own)} for own in directories
        ]
        serving = [Gateway(stack.enter_context(_gateway(e)), e) for e in environments]
        for gateway in serving:
            gateway.process.wait_for("serving")
        yield Fleet(started, serving, key, ports, stack)


def _backends(ports: Mapping[str, int], priorities: str) -> str:
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    if priorities == "equal":
        return json.dumps([{"name": n, "url": url, "priority": 1} for n, url in urls.items()])
    return ",".join(f"{name}={url}" for name, url in urls.items())


def addresses() -> dict[str, str]:
    """Return settings with addresses that are free."""
    names = ("GATEWAY_SERVER_BIND", "GATEWAY_SERVER_ADMIN_BIND")
    return {name: f"127.0.0.1:{free_port()}" for name in names}


def alone(directory: Path, **settings: str) -> dict[str, str]:
    """Return settings of a gateway whose only backend is away."""
    backend = {"OLLAMA_BACKENDS": f"a=http://127.0.0.1:{free_port()}"}
    data = {"GATEWAY_STORAGE_DATA_DIR": str(directory)}
    return {**addresses(), **backend, **data, **settings}


def _gateway(environment: Mapping[str, str]) -> AbstractContextManager[Process]:
    return running("ollama_gateway", "serve", environment=environment)


def start_simulator(options: Sequence[str]) -> AbstractContextManager[Process]:
    """Run a simulator for the length of a block."""
    return running("ollama_gateway.simulator", "--port", "0", "--figures", *options)


def port_of(simulator: Process) -> int:
    """Return the port at which a simulator listens, once it does."""
    return int(simulator.wait_for("http://").rpartition(":")[2])


def create_key(
    environment: Mapping[str, str], name: str, limits: KeyLimits | None = None
) -> tuple[APIKey, str]:
    """Create a key in the store of these settings; return it and its text."""
    directory = Path(environment["GATEWAY_STORAGE_DATA_DIR"])
    location = location_of(directory, environment.get("GATEWAY_STORAGE_DATABASE_URL"))
    with closing(location.open()) as store:
        return store.create(name, limits=limits or KeyLimits())


def _read_json(port: int, path: str) -> Any:
    address = f"http://127.0.0.1:{port}{path}"
    with urllib.request.urlopen(address, timeout=PATIENCE) as response:
        return json.load(response)
