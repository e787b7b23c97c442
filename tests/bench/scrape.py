"""A scrape of a large fleet under streams: `python -m tests.bench.scrape`.

One simulator is reached as 50 machines, at as many addresses of loopback; it has 200 models. Chats
fill the series of all metrics. Then streams run while pages are asked for twice a second. Of the
same streams without scrapes the gaps are shown too: what the machine itself does is in both.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Final

import attrs
import httpx

from ollama_gateway.keys.location import location_of
from tests.smoke.fleet import addresses, port_of, running
from tests.support.patience import PATIENCE

BACKENDS: Final = 50
MODELS: Final = 200
SECONDS: Final = 20.0
STREAMS: Final = 10
TOKEN_MS: Final = 20
FILLERS: Final = 8
FILL_SECONDS: Final = 60.0
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
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    began = time.perf_counter()
    request = urllib.request.Request(f"{admin}/metrics", headers=headers)  # noqa: S310
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


def main() -> None:
    """Measure, and print."""
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
