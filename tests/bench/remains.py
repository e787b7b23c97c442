"""The scenarios of memory, descriptors and tasks: what a gateway uses and what remains of it."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from tests.bench import measure, tree
from tests.bench.aims import Aim
from tests.bench.load import Job
from tests.bench.measure import Load
from tests.bench.scenarios import Lab
from tests.bench.subjects import CHAT, Subject, subjects

PATIENCE: Final = 30.0
MIB: Final = 1 << 20
READERS: Final = 300
REST: Final = 10.0
"""Seconds after which a gateway has closed idle connections."""
SILENT: Final = 100
"""Clients that do not read."""
FULL: Final = 6.0
"""Seconds until all buffers between are full."""
CUT: Final = 34.0
"""Seconds until the gateway has cut them: it waits 30 for one to read."""


@contextmanager
def fresh(lab: Lab) -> Iterator[tuple[Subject, Subject]]:
    """Start a gateway and its upstream."""
    with (
        tempfile.TemporaryDirectory() as name,
        subjects(Path(name), ("gateway",), lab.profile, lab.backends) as found,
    ):
        time.sleep(2)
        yield found["gateway"], found["direct"]


def memory(lab: Lab) -> Iterator[Aim]:
    """(memory): resident memory, idle and for each stream."""
    with fresh(lab) as (gateway, direct):
        idle = _rss(gateway)
        yield Aim("memory", "idle, no Redis, no PostgreSQL", idle / MIB, 64, unit=" MiB")
        measure.run(gateway, direct, Load(10, 10))
        before = _rss(gateway)
        with _peak(gateway) as peak:
            measure.run(gateway, direct, Load(READERS, READERS))
        seen = (peak() - before) / READERS / tree.KIB
        yield Aim("memory", "a stream whose client reads", seen, 96, unit=" KiB")
    with fresh(lab) as (gateway, direct):
        measure.run(gateway, direct, Load(10, 10))
        before = _rss(gateway)
        with _peak(gateway) as peak, _silent(gateway):
            for what, seconds in (("does not read", FULL), ("is cut for it", CUT - FULL)):
                time.sleep(seconds)
                seen = (peak() - before) / SILENT / tree.KIB
                yield Aim("memory", f"a stream whose client {what}", seen, 320, unit=" KiB")


@contextmanager
def _silent(gateway: Subject) -> Iterator[None]:
    """Have clients ask for more than buffers hold, and read nothing during the block."""
    request = gateway.request(CHAT, pace=0, chunks=10**6)
    client = measure.start(Job(gateway.port, request, SILENT, SILENT, 0.0, CUT))
    try:
        yield
    finally:
        client.terminate()
        client.communicate()


def soak(lab: Lab) -> Iterator[Aim]:
    """(soak): 100,000 streams of 10 chunks, after which nothing remains."""
    part = Load(lab.scaled(10_000), 100, chunks=10, pace=1)
    with fresh(lab) as (gateway, direct):
        measure.run(gateway, direct, Load(200, 100, chunks=10, pace=1))
        time.sleep(REST)
        at_start, errors, sizes = _descriptors(gateway), 0, []
        for _ in range(10):
            errors += measure.run(gateway, direct, part, lab.clients).errors
            sizes.append(_rss(gateway))
        _settle(gateway, at_start)
        status, at_end = _status(gateway), _descriptors(gateway)
    yield Aim("soak", "errors", errors, 0)
    grown = (sizes[-1] - sizes[0]) / MIB
    yield Aim("soak", "memory, after all less after a tenth", grown, 5, unit=" MiB")
    yield Aim("soak", "file descriptors, more than before", at_end - at_start, 0)
    left = status["requests"] + status["connections"]
    yield Aim("soak", "requests and connections left", left, 0)


def _settle(gateway: Subject, descriptors: int) -> None:
    """Wait until no connection and no descriptor is left, or the time is over."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not _status(gateway)["connections"] and _descriptors(gateway) <= descriptors:
            return
        time.sleep(0.2)


def _descriptors(gateway: Subject) -> int:
    assert gateway.pid is not None
    return tree.descriptors(gateway.pid)


def _status(gateway: Subject) -> Any:
    address = f"http://127.0.0.1:{gateway.admin_port}/status.json"
    with urllib.request.urlopen(address, timeout=PATIENCE) as response:
        return json.load(response)


def _rss(gateway: Subject) -> int:
    assert gateway.pid is not None
    return tree.rss(gateway.pid)


@attrs.define
class _Peak:
    gateway: Subject
    highest: int = 0
    done: threading.Event = attrs.field(factory=threading.Event)

    def watch(self) -> None:
        while not self.done.wait(0.1):
            self.highest = max(self.highest, _rss(self.gateway))


@contextmanager
def _peak(gateway: Subject) -> Iterator[Callable[[], int]]:
    """Watch the memory during the block; return its maximum."""
    peak = _Peak(gateway)
    thread = threading.Thread(target=peak.watch)
    thread.start()
    try:
        yield lambda: peak.highest
    finally:
        peak.done.set()
        thread.join()
