"""The scenarios of memory, descriptors and tasks: what a gateway holds, and what it keeps."""

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
SILENT: Final = 100
"""Clients that do not read."""
HOLD: Final = 6.0
"""Seconds for which they stay."""


@contextmanager
def fresh(lab: Lab) -> Iterator[tuple[Subject, Subject]]:
    """A gateway that has just started, and its upstream."""
    with (
        tempfile.TemporaryDirectory() as name,
        subjects(Path(name), ("gateway",), lab.profile) as found,
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
        with _peak(gateway) as peak:
            request = gateway.request(CHAT, pace=0, chunks=10**6)
            measure.outputs([Job(gateway.port, request, SILENT, SILENT, 0.0, HOLD)])
        seen = (peak() - before) / SILENT / tree.KIB
        yield Aim("memory", "a stream whose client does not read", seen, 320, unit=" KiB")


def soak(lab: Lab) -> Iterator[Aim]:
    """(soak): 100,000 streams of 10 chunks, of which nothing stays."""
    part = Load(lab.scaled(10_000), 100, chunks=10, pace=1)
    with fresh(lab) as (gateway, direct):
        measure.run(gateway, direct, Load(10, 10))
        at_start = _settled(gateway)
        errors, sizes = 0, []
        for _ in range(10):
            errors += measure.run(gateway, direct, part, lab.clients).errors
            sizes.append(_rss(gateway))
        at_end = _settled(gateway)
    yield Aim("soak", "errors", errors, 0)
    grown = (sizes[-1] - sizes[0]) / MIB
    yield Aim("soak", "memory, after all less after a tenth", grown, 5, unit=" MiB")
    yield Aim("soak", "file descriptors, more than before", at_end[0] - at_start[0], 0)
    yield Aim("soak", "requests and connections left", at_end[1], at_start[1])


def _settled(gateway: Subject) -> tuple[int, int]:
    """Descriptors, requests and connections, when none is left or patience is."""
    deadline = time.monotonic() + PATIENCE
    while _status(gateway)["connections"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert gateway.pid is not None
    status = _status(gateway)
    return tree.descriptors(gateway.pid), status["requests"] + status["connections"]


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
    """The most memory that is seen during the block."""
    peak = _Peak(gateway)
    thread = threading.Thread(target=peak.watch)
    thread.start()
    try:
        yield lambda: peak.highest
    finally:
        peak.done.set()
        thread.join()
