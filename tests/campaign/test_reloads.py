"""Reload after reload under streams and a waiting line: no client notices, and nothing is left.

Half of the clients find a slot at most, so the others wait in line. Backends are added, removed,
renamed and get other priorities meanwhile, and one reload in ten has a fault.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from ollama_gateway.cli.admin import local_token
from tests.campaign.audit_log import records_in
from tests.campaign.client import OK, Request, eventually
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.campaign.test_process_killed import names_in
from tests.smoke.fleet import PATIENCE
from tests.smoke.processes import all_serve, is_alive, members
from tests.smoke.rewriting import Reloadable, reloadable
from tests.support.redis_server import redis_server

OPTIONS: Final = ("--model", "m:1", "--tokens", "20", "--token-delay", "50ms")
SIMULATORS: Final = dict.fromkeys(("a", "b"), (*OPTIONS, "--parallel", "1000"))
RENAMED: Final = {"c": "a", "d": "b"}
"""Names that a reload gives to the simulators."""
STATES: Final = (("a", "b"), ("b", "a"), ("b",), ("b", "c"), ("c", "b"), ("c",), ("c", "d"), ("a",))
"""Backends by preference, after one reload and the next; the last two have none in common."""
FAULTS: Final = ("[race\n", '[race]\nidle_timeout = "soon"\n', '[audit]\nkeep = "1d"\n')
LEAST: Final = 3
"""Descriptors by which two counts of an idle process may differ: connections of polls."""
GROWTH: Final = 24 * 2**20
"""Bytes by which a process may grow meanwhile; measured growth is a tenth of it."""
PATIENT: Final = {
    "GATEWAY_RACE_QUEUE_TIMEOUT": "1h",
    "GATEWAY_RACE_FIRST_CHUNK_TIMEOUT": "1h",
    "GATEWAY_RACE_HEDGE_AFTER": "off",
    "GATEWAY_DISCOVERY_TIMEOUT": "1m",
    "GATEWAY_AUDIT_MODE": "strict",
}
"""Deadlines are out of the way, and each stream is in the journal before its answer begins."""


@attrs.define
class Campaign:
    """A gateway that is reloaded while clients chat."""

    gateway: Reloadable
    clients: int
    requests: list[Request] = attrs.field(factory=list)
    took: list[float] = attrs.field(factory=list)
    """Seconds of each reload."""
    most_waiting: int = 0
    _is_over: threading.Event = attrs.field(factory=threading.Event)

    @contextmanager
    def chatting(self) -> Iterator[None]:
        """Let each client have one chat after another for the length of the block."""
        self._is_over.clear()
        clients = [threading.Thread(target=self._chat) for _ in range(self.clients)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._is_over.set()
            for client in clients:
                client.join()

    def _chat(self) -> None:
        while not self._is_over.is_set():
            fleet = self.gateway.fleet
            self.requests.append(Request(fleet.port, fleet.key, "m:1", 20, streams=True))
            self.requests[-1].send()

    def write(self, names: tuple[str, ...], fault: str = "") -> None:
        """Write settings with these backends, in this order."""
        slots = max(self.clients // 4, 4)
        tables = [
            f'[[backends]]\nname = "{name}"\nslots = {slots}\n'
            f'url = "{self.gateway.url(RENAMED.get(name, name))}"\n'
            for name in names
        ]
        self.gateway.file.write_text(fault + "".join(tables))

    def reload(self) -> tuple[int, Any]:
        """Reload by the admin listener; return the status and the answer."""
        port, began = self.gateway.gateway.admin_port, time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
            token = local_token(Path(self.gateway.fleet.environment["GATEWAY_STORAGE_DATA_DIR"]))
            connection.request("POST", "/reload", headers={"authorization": f"Bearer {token}"})
            response = connection.getresponse()
            answer = response.status, json.load(response)
        self.took.append(time.monotonic() - began)
        return answer

    def run(self, count: int) -> None:
        """Reload this often, each time once all backends are up."""
        states = itertools.cycle(STATES)
        for number in range(count):
            if number % 10 == 9:
                self.write(("a",), FAULTS[number // 10 % len(FAULTS)])
                assert self.reload()[0] == 422
                continue
            names = next(states)
            self.write(names)
            status, answer = self.reload()
            assert (status, bool(answer["changes"])) == (OK, True), answer
            eventually(lambda names=names: self.all_have(names))  # type: ignore[misc]

    def all_have(self, names: tuple[str, ...]) -> bool:
        """Return whether each process has these backends in force, and all are up."""
        status = self.gateway.gateway.status()
        self.most_waiting = max(self.most_waiting, status["waiting"])
        each = [one["status"] for one in status.get("processes", [{"status": status}])]
        return all(
            one and [b["name"] for b in one["backends"] if b["up"]] == list(names) for one in each
        )

    def pids(self) -> list[int]:
        """Return the gateway's processes, the first of which is the one that was started."""
        status = self.gateway.gateway.status()
        first = self.gateway.fleet.gateway.popen.pid
        return [first, *(one["pid"] for one in status.get("processes", ()))]

    def at_rest(self) -> list[Footprint]:
        """Return what each process holds without clients, and with backends that just came."""
        for names in (("d",), ("a",)):
            self.write(names)
            assert self.reload()[0] == OK
            eventually(lambda names=names: self.all_have(names))  # type: ignore[misc]
        eventually(lambda: self.gateway.gateway.status()["connections"] == 0)
        return [Footprint.of(pid) for pid in self.pids()]


@attrs.frozen
class Footprint:
    """What a process holds."""

    descriptors: int
    threads: int
    resident: int
    """Bytes."""

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Measure a process."""
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        told = dict(line.split(":", 1) for line in lines)
        return cls(
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
            int(told["Threads"]),
            int(told["VmRSS"].split()[0]) * 1024,
        )

    def __str__(self) -> str:
        return f"{self.descriptors} fds, {self.threads} threads, {self.resident / 2**20:.0f} MiB"


@contextmanager
def campaign(directory: Path, sizes: Sizes, processes: int) -> Iterator[Campaign]:
    """Start a gateway with one process, or with several that count in one Redis."""
    with redis_server() as url:
        several = {"GATEWAY_REDIS_URL": url, "GATEWAY_SERVER_PROCESSES": str(processes)}
        settings = PATIENT if processes == 1 else {**PATIENT, **several}
        with reloadable(directory, SIMULATORS, **settings) as gateway:
            yield Campaign(gateway, sizes.streams)


@pytest.mark.parametrize("is_alone", [True, False], ids=["one process", "several"])
def test_no_client_notices(tmp_path: Path, sizes: Sizes, note: Note, *, is_alone: bool) -> None:
    """All streams are whole, no request is refused, and each process is as large as before."""
    with campaign(tmp_path, sizes, 1 if is_alone else sizes.processes) as made:
        with made.chatting():
            made.run(len(STATES))
        before = made.at_rest()
        made.took.clear()
        with made.chatting():
            made.run(sizes.reloads)
        took = sorted(made.took)
        after = made.at_rest()

    whole = [request for request in made.requests if request.is_whole]
    note(f"{len(whole)} of {len(made.requests)} streams whole, {sizes.reloads} reloads")
    note(f"a reload took {took[len(took) // 2] * 1000:.0f} ms (median), {took[-1]:.2f} s at most")
    note(f"at most {made.most_waiting} waited")
    for one, other in zip(before, after, strict=True):
        note(f"before {one}; after {other}")
    assert len(whole) == len(made.requests) > made.clients
    assert made.most_waiting > 0
    for one, other in zip(before, after, strict=True):
        assert other.descriptors <= one.descriptors + LEAST
        assert other.resident <= one.resident + GROWTH


def test_a_process_is_killed_meanwhile(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """A kill in the middle of a reload cuts the streams of that process, and all others change."""
    with campaign(tmp_path, sizes, sizes.processes) as made:
        held: set[str] = set()
        with made.chatting():
            for number, names in zip(range(sizes.kills), itertools.cycle(STATES), strict=False):
                victim = members(made.gateway.gateway)[number % sizes.processes]
                made.write(names)
                answers: list[tuple[int, Any]] = []
                reload = threading.Thread(target=lambda into=answers: into.append(made.reload()))
                reload.start()
                os.kill(victim["pid"], signal.SIGKILL)
                eventually(lambda pid=victim["pid"]: not is_alive(pid))  # type: ignore[misc]
                held |= names_in(tmp_path / "data" / victim["status"]["audit"]["journal"])
                reload.join()
                assert answers[0][0] == OK, answers
                eventually(lambda: all_serve(made.gateway.gateway))
                eventually(lambda names=names: made.all_have(names))  # type: ignore[misc]

    broken = [request for request in made.requests if not request.is_whole]
    note(f"{len(made.requests)} streams, {len(broken)} cut by {sizes.kills} kills")
    note(f"a reload took {max(made.took):.2f} s at most")
    for request in broken:
        assert request.status == OK or request.is_broken, request
        assert b"error" not in request.last, request
    assert {request.request_id for request in broken if request.request_id} <= held
    outcomes = {record["outcome"] for record in records_in(tmp_path / "data").values()}
    assert outcomes <= {"completed", "killed"}  # so no other process saw a client leave
    assert len(broken) < len(made.requests)
