"""A gateway whose settings file a test writes again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.smoke.fleet import (
    TWO,
    Fleet,
    Gateway,
    addresses,
    create_key,
    port_of,
    running,
    start_simulator,
)
from tests.smoke.processes import members


@attrs.define
class Reloadable:
    """A fleet whose gateway has its backends from a file."""

    fleet: Fleet
    file: Path
    ports: dict[str, int]

    @property
    def gateway(self) -> Gateway:
        """The gateway."""
        return self.fleet.gateways[0]

    def write(self, *names: str, more: str = "") -> None:
        """Write the settings, with these backends in this order."""
        tables = [f'[[backends]]\nname = "{n}"\nurl = "{self.url(n)}"\n' for n in names]
        new = self.file.with_suffix(".new")
        new.write_text(more + "\n".join(tables))
        new.replace(self.file)

    def url(self, name: str) -> str:
        """Return the address of a simulator."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def reload(self) -> list[str]:
        """Run `gatewayctl reload`; return the paths of the changes."""
        changes: list[Any] = self.fleet.ctl_json("reload")["changes"]
        return [change["path"] for change in changes]

    def of_each(self) -> list[list[str]]:
        """Return the backends in force in each of several processes, by name."""
        return [
            [backend["name"] for backend in member["status"]["backends"]]
            for member in members(self.gateway)
        ]

    def backends(self) -> list[str]:
        """Return the backends in force, by name."""
        return [backend["name"] for backend in self.gateway.status()["backends"]]


@contextmanager
def reloadable(
    directory: Path, simulators: Mapping[str, Sequence[str]] = TWO, **settings: str
) -> Iterator[Reloadable]:
    """Run simulators, and a gateway that knows the first one.

    Args:
        directory: of the settings file and of the data.
        simulators: arguments by name.
        settings: environment variables of the gateway.

    """
    directory.mkdir(exist_ok=True)
    with ExitStack() as stack:
        started = {n: stack.enter_context(start_simulator(o)) for n, o in simulators.items()}
        ports = {name: port_of(process) for name, process in started.items()}
        environment = {
            **addresses(),
            "GATEWAY_CONFIG": str(directory / "gateway.toml"),
            "GATEWAY_STORAGE_DATA_DIR": str(directory / "data"),
            **settings,
        }
        _, key = create_key(environment, "smoke")
        made = Reloadable(Fleet(started, [], key, ports, stack), directory / "gateway.toml", ports)
        made.write(next(iter(simulators)))
        process = stack.enter_context(running("ollama_gateway", "serve", environment=environment))
        made.fleet.gateways.append(Gateway(process, environment))
        process.wait_for("serving")
        yield made
