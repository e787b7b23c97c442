"""A scrape of a large fleet: `python -m tests.bench.scrape`.

The first lines are of 50 machines with 200 models each, all in one process, with full series: the
CPU time of a scrape, and the longest turn of the event loop in it, which no other program changes.

Then one simulator is reached as 50 machines, at as many addresses of loopback. Chats fill the
series of all metrics, and streams run while pages are asked for twice a second. The gaps of the
same streams without scrapes are shown too: other programs of the machine are in both.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Final

import attrs
import httpx
import structlog
import trio

from ollama_gateway.keys.location import location_of
from ollama_gateway.metrics import Metrics
from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.supervisor import freeze_loaded_objects
from tests.bench.line import Longest
from tests.smoke.fleet import addresses, port_of, running
from tests.support.patience import PATIENCE
from tests.support.scenario import Scenario, open_scenario

BACKENDS: Final = 50
MODELS: Final = 200
SECONDS: Final = 20.0
STREAMS: Final = 10
TOKEN_MS: Final = 20
FILLERS: Final = 8
FILL_SECONDS: Final = 60.0
ROUNDS: Final = 15
HEADERS: Final = {
    "accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    "accept-encoding": "gzip",
}
"""As Prometheus asks."""
NAMES: Final = [f"model-{number}:latest" for number in range(MODELS)]


@attrs.define
class Gaps:
    """The times between two chunks of streams, in ms, beyond those that the simulator makes."""

    late: list[float] = attrs.field(factory=list)

    def line(self) -> str:
        """Return median, 99.9th percentile and maximum."""
        times = sorted(self.late)
        return (
            f"{len(times)} chunks, late by {median(times):.1f} ms (median),"
            f" {times[int(len(times) * 0.999)]:.1f} ms (p99.9), {times[-1]:.1f} ms (most)"
        )


def fill(url: str, key: str, place: int) -> None:
    """Ask every machine for every model, as one of several clients, for a minute at most."""
    until = time.monotonic() + FILL_SECONDS
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE) as client:
        for number in range(place, BACKENDS * MODELS, FILLERS):
            if time.monotonic() > until:
                return
            body = {
                "model": NAMES[number // BACKENDS],
                "messages": [{"role": "user", "content": "x"}],
            }
            client.post(
                "/api/chat",
                json={**body, "stream": False, "options": {"num_predict": 1}},
                headers={"X-Gateway-Backend": f"gpu-{number % BACKENDS}"},
            )


def stream(url: str, key: str, gaps: Gaps, over: Event) -> None:
    """Read streams until it is over, and note how late each chunk is."""
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": NAMES[0], "messages": [{"role": "user", "content": "x"}]}
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE) as client:
        while not over.is_set():
            with client.stream("POST", "/api/chat", json=body) as answer:
                last = None
                for _ in answer.iter_raw():
                    now = time.perf_counter()
                    if last is not None:
                        gaps.late.append((now - last) * 1000 - TOKEN_MS)
                    last = now


@contextmanager
def streaming(url: str, key: str) -> Iterator[Gaps]:
    """Run streams during the block."""
    gaps, over = Gaps(), Event()
    threads = [Thread(target=stream, args=(url, key, gaps, over)) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    try:
        yield gaps
    finally:
        over.set()
        for thread in threads:
            thread.join()


def scrape(admin: str) -> tuple[float, int]:
    """Return the ms and the bytes of a page, as Prometheus asks for it."""
    began = time.perf_counter()
    request = urllib.request.Request(f"{admin}/metrics", headers=HEADERS)  # noqa: S310
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        size = len(answer.read())
    return (time.perf_counter() - began) * 1000, size


def samples(admin: str) -> dict[str, float]:
    """Return all samples of a page."""
    with urllib.request.urlopen(f"{admin}/metrics", timeout=PATIENCE) as answer:  # noqa: S310
        lines = answer.read().decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line[0] != "#"]
    return {name: float(value) for name, _, value in pairs}


def lag(before: dict[str, float], after: dict[str, float]) -> str:
    """Return how often the event loop was late by more than 20 ms."""
    name = 'ollama_gateway_event_loop_lag_seconds_bucket{le="%s"}'
    total, good = (after[name % le] - before[name % le] for le in ("+Inf", "0.02"))
    return f"{total - good:.0f} of {total:.0f} looks at the loop late by more than 20 ms"


async def in_one_process() -> None:
    """Print the CPU time of scrapes, with all backends up and with some down."""
    machines = {f"gpu-{n}": Simulator([Model(name) for name in NAMES]) for n in range(BACKENDS)}
    async with open_scenario(machines) as scenario:
        await scenario.poll()
        count_all(scenario.gateway.parts.metrics, list(machines))
        freeze_loaded_objects()
        for state in ("all up", "ten down"):
            for headers in ({}, HEADERS):
                found = [await cpu_of(scenario, headers) for _ in range(ROUNDS)]
                whole, turns = ([times[place] for times in found] for place in range(2))
                sys.stdout.write(
                    f"{state}, {'gzip' if headers else 'text'}: {median(whole):.0f} ms of CPU"
                    f" (most {max(whole):.0f}), longest turn {median(turns):.1f} ms"
                    f" (most {max(turns):.1f})\n"
                )
            for name in list(machines)[:10]:
                machines[name].go_down()
            for _ in range(3):
                await scenario.poll()


async def cpu_of(scenario: Scenario, headers: Mapping[str, str]) -> tuple[float, float]:
    """Return the CPU time of one scrape and of its longest turn, in ms."""
    longest = Longest()
    await trio.lowlevel.checkpoint()
    longest.after_io_wait(0)
    trio.lowlevel.add_instrument(longest)
    began = time.thread_time()
    await scenario.ask("/metrics", method="GET", is_admin=True, headers=headers)
    took = (time.thread_time() - began) * 1000
    trio.lowlevel.remove_instrument(longest)
    return took, longest.turn


def count_all(metrics: Metrics, backends: Sequence[str]) -> None:
    """Count a chat of each model on each backend."""
    for backend in backends:
        for model in NAMES:
            metrics.request("/api/chat", model, backend, "completed")
            metrics.duration("/api/chat", "completed", model, backend, 1.0)
            metrics.first_chunk("/api/chat", backend, 0.3)
            metrics.tokens(model, backend, 100, 20, 30)
            metrics.speed(model, backend, 100, 3.0)
            metrics.loaded(model, backend, 3.0)
            metrics.attempt(backend, "good")


def main() -> None:
    """Measure, and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    trio.run(in_one_process)
    with ExitStack() as stack:
        options = ("--host", "0.0.0.0", "--port", "0", "--token-delay", f"{TOKEN_MS}ms")  # noqa: S104
        simulator = stack.enter_context(
            running("ollama_gateway.simulator", *options, "--model", *NAMES)
        )
        port = port_of(simulator)
        backends = [
            {"name": f"gpu-{n}", "url": f"http://127.0.0.{n + 1}:{port}", "priority": 1}
            for n in range(BACKENDS)
        ]
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {
            "OLLAMA_BACKENDS": json.dumps(backends),
            "GATEWAY_STORAGE_DATA_DIR": str(directory),
            "GATEWAY_LOG_REQUESTS": "failed",
            "GATEWAY_DISCOVERY_INTERVAL": "30s",
            "GATEWAY_DISCOVERY_TIMEOUT": "30s",
            **addresses(),
        }
        with closing(location_of(directory, None).open()) as store:
            _, key = store.create("bench", endpoints=frozenset({"inference", "manage"}))
        gateway = stack.enter_context(running("ollama_gateway", "serve", environment=environment))
        gateway.wait_for("serving")
        url, admin = (
            f"http://{environment[f'GATEWAY_SERVER_{name}']}" for name in ("BIND", "ADMIN_BIND")
        )
        fillers = [Thread(target=fill, args=(url, key, place)) for place in range(FILLERS)]
        for filler in fillers:
            filler.start()
        for filler in fillers:
            filler.join()
        before = samples(admin)
        with streaming(url, key) as alone:
            time.sleep(SECONDS)
        middle = samples(admin)
        times, size = [], 0
        with streaming(url, key) as gaps:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                took, size = scrape(admin)
                times.append(took)
                time.sleep(0.5)
        after = samples(admin)
        lines = (
            f"{len(after)} samples, {size} bytes with gzip",
            f"{len(times)} scrapes: {median(times):.0f} ms (median), {max(times):.0f} ms (most)",
            f"streams without scrapes: {alone.line()}; {lag(before, middle)}",
            f"streams with scrapes:    {gaps.line()}; {lag(middle, after)}",
        )
        sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
