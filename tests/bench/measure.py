"""A load on a subject and its cost: CPU from the operating system, times from the client."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from tests.bench import tree
from tests.bench.load import Exchange, Job
from tests.bench.subjects import CHAT, Subject

HEAD_START: Final = 0.4
"""Seconds for clients to start."""
REST: Final = 0.4
"""Seconds after the last byte in which a subject may still work, on its audit log for one."""


@attrs.frozen
class Load:
    """The requests of the clients."""

    count: int
    """Number of requests."""
    at_once: int
    streams: bool = True
    chunks: int = 100
    pace: int = 20
    """Milliseconds between chunks."""
    path: str = CHAT


@attrs.frozen
class Measurement:
    """The result of a load on a subject; seconds."""

    load: Load
    exchanges: Sequence[Exchange]
    cpu: float
    """CPU of the subject."""
    client: float
    """The share of a core that the busiest client took."""
    upstream: float
    """The share of a core that the upstream took."""

    @property
    def per_request(self) -> float:
        """CPU a request."""
        return self.cpu / self.load.count

    @property
    def per_chunk(self) -> float:
        """CPU a chunk: the CPU of all requests divided by their chunks."""
        return self.cpu / max(sum(one.chunks for one in self.exchanges), 1)

    @property
    def joined(self) -> float:
        """Chunks a read of the client: above 1 if chunks arrived together."""
        reads = sum(one.reads for one in self.exchanges)
        return sum(one.chunks for one in self.exchanges) / max(reads, 1)

    @property
    def errors(self) -> int:
        """Requests without a complete answer."""
        wanted = self.load.chunks if self.load.streams else 1
        good = sum(one.is_whole and one.chunks >= wanted for one in self.exchanges)
        return self.load.count - good

    @property
    def wall(self) -> float:
        """From the first connection to the last byte."""
        ended = max(one.ended for one in self.exchanges)
        return ended - min(one.began for one in self.exchanges)

    @property
    def longest(self) -> float:
        """The longest exchange, as a multiple of the median."""
        lengths = [one.ended - one.began for one in self.exchanges]
        return max(lengths) / statistics.median(lengths)

    def first(self, percent: int) -> float:
        """A percentile of the time to the first chunk."""
        return percentile([one.first - one.began for one in self.exchanges], percent)

    def gap(self, percent: int) -> float:
        """A percentile of the streams' longest gaps between chunks."""
        return percentile([one.longest_gap for one in self.exchanges], percent)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def run(subject: Subject, direct: Subject, load: Load, clients: int = 1) -> Measurement:
    """Put a load on a subject by a number of client processes."""
    assert subject.pid is not None
    assert direct.pid is not None
    request = subject.request(load.path, pace=load.pace, chunks=load.chunks, streams=load.streams)
    start_at = time.monotonic() + HEAD_START
    number = min(clients, load.at_once)
    jobs = [
        Job(subject.port, request, count, at_once, start_at)
        for count, at_once in zip(
            _shares(load.count, number), _shares(load.at_once, number), strict=True
        )
    ]
    before = tree.cpu(subject.pid), tree.cpu(direct.pid)
    results = [json.loads(output) for output in outputs(jobs)]
    time.sleep(REST)
    after = tree.cpu(subject.pid), tree.cpu(direct.pid)
    wall = max(one["wall"] for one in results)
    return Measurement(
        load,
        [Exchange(*exchange) for one in results for exchange in one["exchanges"]],
        after[0] - before[0],
        max(one["cpu"] / one["wall"] for one in results),
        (after[1] - before[1]) / wall,
    )


def outputs(jobs: Sequence[Job]) -> list[bytes]:
    """Run a client process for each job; return the output of each."""
    clients = [start(job) for job in jobs]
    found = [client.communicate()[0] for client in clients]
    assert all(client.returncode == 0 for client in clients), "a client failed"
    return found


def start(job: Job) -> subprocess.Popen[bytes]:
    """Start a client process."""
    command = [sys.executable, "-m", "tests.bench.load", json.dumps(attrs.asdict(job))]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _shares(whole: int, parts: int) -> list[int]:
    return [whole // parts + (part < whole % parts) for part in range(parts)]


def alternate(
    subjects: Mapping[str, Subject], load: Load, rounds: int, clients: int = 1
) -> Iterator[dict[str, Measurement]]:
    """Put the load on the subjects in turn, forwards and backwards; yield each round's results."""
    direct, names = subjects["direct"], list(subjects)
    for number in range(rounds):
        ordered = names if number % 2 == 0 else names[::-1]
        seen = {name: run(subjects[name], direct, load, clients) for name in ordered}
        yield {name: seen[name] for name in names}
