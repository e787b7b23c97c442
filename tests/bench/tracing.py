"""The cost of traces: `python -m tests.bench.tracing`, or part of `tox -e bench`.

Each request begins a trace, gives its attempts their spans and headers, ends, and is exported in a
batch to a collector in another process: all that a traced request costs more than one that is not.
Figures are CPU time of this process for one request, the best of some rounds; the bound is
`BOUND`. The first line is the same without tracing.
"""

from __future__ import annotations

import itertools
import multiprocessing
import socket
import sys
import threading
import time
from functools import partial
from typing import Final

import attrs
import trio

from ollama_gateway.build_tracing import Collector
from ollama_gateway.flow.endpoints import INFERENCE
from ollama_gateway.flow.forwarding import attempt_headers
from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.metrics import Metrics
from ollama_gateway.tracing.context import Tracer
from ollama_gateway.tracing.environment import TracingSettings
from ollama_gateway.tracing.exporter import MAX_BATCH, Exporter
from ollama_gateway.tracing.sampling import Sampler
from ollama_gateway.tracing.spans import SpanMaker
from ollama_gateway.wire.headers import Headers
from tests.ledger.records import record

BOUND: Final = 60.0
"""Microseconds of CPU that a sampled request may cost."""
BATCHES: Final = 20
ROUNDS: Final = 5
HEADERS: Final[Headers] = [
    (b"host", b"gateway"),
    (b"authorization", b"Bearer x"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"bench"),
    (b"content-length", b"89"),
]
PASSED: Final[Headers] = HEADERS[2:4]
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def collect(server: socket.socket) -> None:
    """Take posts on all connections, and check nothing."""
    while True:
        client, _ = server.accept()
        threading.Thread(target=attend, args=(client,), daemon=True).start()


def attend(client: socket.socket) -> None:
    """Answer the posts of one connection."""
    received = b""
    while data := client.recv(1 << 20):
        received += data
        head, found, body = received.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().split(b"content-length: ")[1].split()[0]):
            client.sendall(OK)
            received = b""


def finished(tracer: Tracer | None, attempts: int) -> AuditRecord:
    """Return a request that was served, and do for it what tracing makes a request do."""
    made: AuditRecord = attrs.evolve(TEMPLATE, attempts=[])
    began = time.process_time_ns()
    if tracer is not None:
        made.trace = tracer.begin(HEADERS)
    for number in range(attempts):
        attempt = Attempt(f"gpu-{number}", 0.001, is_hedge=number > 0)
        attempt_headers(PASSED, made, attempt)
        made.attempts.append(attempt)
    made.attempts[-1].first_chunk = 0.25
    SPENT.append(time.process_time_ns() - began)
    return made


TEMPLATE: Final = attrs.evolve(
    record("0" * 32),
    backend="gpu-0",
    prompt_tokens=1100,
    completion_tokens=300,
    affinity="kept",
    ttft=0.25,
    duration=4.0,
    admitted=0.001,
)
SPENT: Final[list[int]] = []


async def microseconds(url: str | None, attempts: int) -> float:
    """Return the CPU time of one request in microseconds."""
    if url is None:
        SPENT.clear()
        for _ in range(BATCHES * MAX_BATCH):
            finished(None, attempts)
        return sum(SPENT) / len(SPENT) / 1000
    collector = Collector.of(TracingSettings(url))
    maker = SpanMaker(
        {"service.name": "bench", "process.pid": 1},
        "1",
        {one.path: one.operation for one in INFERENCE if one.operation},
        lambda _: ("127.0.0.1", 11434),
    )
    exporter, tracer = Exporter(maker, collector.post, Metrics()), Tracer(Sampler())
    spent = 0
    for _ in range(BATCHES):
        SPENT.clear()
        made = [finished(tracer, attempts) for _ in range(MAX_BATCH)]
        began = time.process_time_ns()
        for one in made:
            exporter(one)
        await exporter.drain()
        spent += time.process_time_ns() - began + sum(SPENT)
    await collector.transport.aclose()
    value = exporter.metrics.registry.get_sample_value
    assert value("ollama_gateway_traces_total", {"result": "exported"}) == BATCHES * MAX_BATCH
    return spent / (BATCHES * MAX_BATCH) / 1000


def main() -> int:
    """Print a table; return 1 if a sampled request costs more than the bound."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = multiprocessing.get_context("fork").Process(target=collect, args=(server,))
        process.start()
        try:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"
            found = {}
            for name, attempts in itertools.product((None, url), (1, 2)):
                run = partial(microseconds, name, attempts)
                found[name, attempts] = min(trio.run(run) for _ in range(ROUNDS))
        finally:
            process.kill()
            process.join()
    sys.stdout.write("tracing  attempts  us of CPU a request\n")
    for (name, attempts), spent in found.items():
        sys.stdout.write(f"{'on' if name else 'off':<7}  {attempts:>8}  {spent:>21.1f}\n")
    return int(any(found[url, n] - found[None, n] > BOUND for n in (1, 2)))


if __name__ == "__main__":
    sys.exit(main())
