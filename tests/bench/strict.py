"""The delay of `strict` for an answer: `python -m tests.bench.strict`, or part of `tox -e bench`.

A gateway of each mode stands before a simulator, all as real processes; clients ask both in turn,
so that other load on the machine hits both. In a stream of one token the first chunk waits for the
commit of the intent, and the end for that of the outcome too. Times are the clients' own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.campaign.client import Request
from tests.smoke.fleet import Fleet, fleet

MODES: Final = ("buffered", "strict")
CLIENTS: Final = (1, 8)
REQUESTS: Final = 400
SIMULATORS: Final = {"a": ("--model", "m:1", "--tokens", "1", "--token-delay", "0ms")}


def ask(fleets: list[Fleet], clients: int, count: int) -> Iterator[list[Request]]:
    """Send streams to each gateway in turn, by several clients; yield a list for each gateway."""
    requests = [
        [Request(one.port, one.key, "m:1", generation=1, streams=True) for one in fleets]
        for _ in range(count)
    ]
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda pair: [request.send() for request in pair], requests))
    assert all(request.is_whole for pair in requests for request in pair)
    for number in range(len(fleets)):
        yield [pair[number] for pair in requests]


def figures(requests: list[Request]) -> list[float]:
    """Return median and 99th percentile of the first chunk, then of the end; in ms."""
    first = sorted(request.first_chunk_at - request.began for request in requests)
    end = sorted(request.ended - request.began for request in requests)
    count = len(requests)
    return [
        1000 * times[place] for times in (first, end) for place in (count // 2, count * 99 // 100)
    ]


def line(name: str, clients: int, found: list[float]) -> str:
    """Format one line of the table."""
    first50, first99, end50, end99 = (f"{value:>+8.2f}" for value in found)
    return (
        f"{name:<12} {clients:>3} clients, first chunk p50 {first50} p99 {first99} ms,"
        f" end p50 {end50} p99 {end99} ms\n"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.strict", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each mode")
    count = parser.parse_args().requests
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleets = [
            stack.enter_context(fleet(directory / mode, SIMULATORS, GATEWAY_AUDIT_MODE=mode))
            for mode in MODES
        ]
        list(ask(fleets, 1, 20))
        for clients in CLIENTS:
            found = [figures(requests) for requests in ask(fleets, clients, count)]
            for mode, record in zip(MODES, found, strict=True):
                sys.stdout.write(line(mode, clients, record))
            added = [strict - buffered for buffered, strict in zip(*found, strict=True)]
            sys.stdout.write(line("added", clients, added))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
