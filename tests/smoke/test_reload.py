"""Reloads of real processes, under streams: by command, by signal, and with several processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.smoke.fleet import (
    TWO,
    Fleet,
    Gateway,
    Process,
    addresses,
    create_key,
    ctl,
    port_of,
    running,
    start_simulator,
)
from tests.smoke.processes import all_serve, is_alive, members
from tests.smoke.test_drain import begun_chat, remainder_of
from tests.support.patience import PATIENCE, wait_until
from tests.support.redis_server import redis_server


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

    def backends(self) -> list[str]:
        """Return the backends in force, by name."""
        return [backend["name"] for backend in self.gateway.status()["backends"]]


@contextmanager
def reloadable(directory: Path, **settings: str) -> Iterator[Reloadable]:
    """Run two simulators, and a gateway that knows the first one."""
    directory.mkdir(exist_ok=True)
    with ExitStack() as stack:
        simulators: dict[str, Process] = {
            name: stack.enter_context(start_simulator(options)) for name, options in TWO.items()
        }
        ports = {name: port_of(process) for name, process in simulators.items()}
        environment = {
            **addresses(),
            "GATEWAY_CONFIG": str(directory / "gateway.toml"),
            "GATEWAY_STORAGE_DATA_DIR": str(directory / "data"),
            **settings,
        }
        _, key = create_key(environment, "smoke")
        made = Reloadable(
            Fleet(simulators, [], key, ports, stack), directory / "gateway.toml", ports
        )
        made.write("a")
        process = stack.enter_context(running("ollama_gateway", "serve", environment=environment))
        made.fleet.gateways.append(Gateway(process, environment))
        process.wait_for("serving")
        yield made


def test_a_reload_by_command(tmp_path: Path) -> None:
    """A stream goes on while its backend is replaced, and the command prints what has changed."""
    with reloadable(tmp_path) as gateway, begun_chat(gateway.fleet) as chat:
        gateway.write("b")
        assert gateway.reload() == ["backends[a]", "backends[b]"]
        assert gateway.backends() == ["b"]
        assert remainder_of(chat).endswith(b"0\r\n\r\n")
        assert gateway.reload() == []


def test_wrong_settings_change_nothing(tmp_path: Path) -> None:
    """The command exits with 1, names the settings and says that nothing has changed."""
    with reloadable(tmp_path) as gateway:
        for more, problem in {
            '[race]\nhedge_after = "soon"\n': "race.hedge_after: ",
            '[race]\nhedge = "1s"\n': "race.hedge: ",
            "[race\n": "gateway.toml: ",
            '[audit]\nkeep = "1d"\n': "audit.keep: needs a restart",
        }.items():
            gateway.write("b", more=more)
            ended = gateway.fleet.ctl("reload")
            assert (ended.returncode, ended.stdout) == (1, "")
            assert problem in ended.stderr
            assert ended.stderr.endswith("nothing has changed\n")
        assert gateway.backends() == ["a"]


def test_a_reload_by_signal(tmp_path: Path) -> None:
    """SIGHUP reloads, and the log says what has changed."""
    with reloadable(tmp_path) as gateway:
        gateway.write("b", "a")
        gateway.fleet.gateway.popen.send_signal(signal.SIGHUP)
        line = json.loads(gateway.fleet.gateway.wait_for('"reloaded"'))
        assert line["changes"] == ["backends[a].priority", "backends[b]"]
        gateway.write("b", more="[race\n")
        gateway.fleet.gateway.popen.send_signal(signal.SIGHUP)
        gateway.fleet.gateway.wait_for("reload failed")
        assert gateway.backends() == ["b", "a"]


def test_no_gateway_to_reload(tmp_path: Path) -> None:
    """Without a gateway the command exits with 1 and asks whether it runs."""
    ended = ctl("reload", environment={**addresses(), "GATEWAY_STORAGE_DATA_DIR": str(tmp_path)})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith(": is it running?\n")


def test_all_processes_change_or_none(tmp_path: Path) -> None:
    """Several processes change together; one that was killed starts with the new settings."""
    with redis_server() as url:
        settings = {"GATEWAY_REDIS_URL": url, "GATEWAY_SERVER_PROCESSES": "2"}
        with reloadable(tmp_path, **settings) as gateway, begun_chat(gateway.fleet) as chat:
            gateway.write("b", "a")
            assert gateway.reload() == ["backends[a].priority", "backends[b]"]
            assert of_each(gateway) == [["b", "a"]] * 2
            assert remainder_of(chat).endswith(b"0\r\n\r\n")
            gateway.write("b", more='[audit]\nkeep = "1d"\n')
            assert gateway.fleet.ctl("reload").returncode == 1
            assert of_each(gateway) == [["b", "a"]] * 2

            gateway.write("b")
            victim = members(gateway.gateway)[0]["pid"]
            os.kill(victim, signal.SIGKILL)
            assert gateway.reload() == ["backends[a]"]
            wait_until(lambda: not is_alive(victim) and all_serve(gateway.gateway))
            assert of_each(gateway) == [["b"]] * 2


def of_each(gateway: Reloadable) -> list[list[str]]:
    """Return the backends of each process, by name."""
    return [
        [backend["name"] for backend in member["status"]["backends"]]
        for member in members(gateway.gateway)
    ]


@pytest.mark.parametrize("header", ["Origin: https://example.com", "Sec-Fetch-Site: cross-site"])
def test_a_web_page_cannot_reload(tmp_path: Path, header: str) -> None:
    """A POST that a browser sends for a page is refused, also without a token."""
    with reloadable(tmp_path) as gateway:
        gateway.write("b")
        port = gateway.gateway.admin_port
        name, _, value = header.partition(": ")
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with closing(connection):
            connection.request("POST", "/reload", headers={name: value})
            assert connection.getresponse().status == 403
        assert gateway.backends() == ["a"]
