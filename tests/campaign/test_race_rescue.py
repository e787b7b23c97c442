"""A backend dies or hangs while streams wait for its first chunk, and all are served."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.campaign.client import Request, eventually, sent
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet, fleet

FIRST_TOKEN: Final = 0.2
"""Seconds that the surviving backend takes for each first chunk."""
QUICK: Final = ("--model", "m:1", "--tokens", "3", "--first-token", f"{FIRST_TOKEN}s")
SLOW: Final = ("--model", "m:1", "--first-token", "10m")
LATE: Final = 1.0
"""Seconds by which a first chunk may be late."""
POLLS: Final = {"GATEWAY_DISCOVERY_INTERVAL": "200ms", "GATEWAY_DISCOVERY_TIMEOUT": "1s"}
NO_HEDGES: Final = {"GATEWAY_RACE_HEDGE_AFTER": "off"}
HEDGES: Final = {"GATEWAY_RACE_HEDGE_AFTER": "200ms", "GATEWAY_RACE_MAX_HEDGE_RATIO": "1"}


def streams(port: int, key: str, count: int) -> list[Request]:
    """Return this many clients, not yet started."""
    return [Request(port, key, "m:1", 100, streams=True) for _ in range(count)]


def attempts(started: Fleet, requests: list[Request]) -> Counter[tuple[str, str]]:
    """Count how the attempts of all requests ended, by backend."""
    return Counter(
        (
            one["backend"],
            one["reason"] or ("cancelled" if one["first_chunk_ms"] is None else "good"),
        )
        for record in started.records(len(requests))
        for one in record["attempts"]
    )


def waits(requests: list[Request], since: float) -> list[float]:
    """Return the seconds until each client's first chunk."""
    return sorted(request.first_chunk_at - since for request in requests)


def straight(started: Fleet, sizes: Sizes) -> float:
    """Return how late the last first chunk is when clients ask the survivor directly."""
    requests = streams(started._ports["survivor"], "", sizes.streams)
    together = threading.Barrier(len(requests))
    for request in requests:
        request.start = together
    with sent(requests):
        pass
    return waits(requests, max(one.began for one in requests))[-1] - FIRST_TOKEN


def test_a_killed_backend(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Killed while streams wait: no client sees an error, each first chunk is less than 1 s late.

    A first chunk is late by the time from the kill to its arrival, less the survivor's own 0.2 s.
    Only failover helps, as hedging is off. For comparison, the test prints how late as many clients
    are that ask the survivor directly.
    """
    simulators = {"victim": SLOW, "survivor": QUICK}
    with fleet(tmp_path, simulators, 1, **NO_HEDGES) as started:
        requests = streams(started.port, started.key, sizes.streams)
        with sent(requests):
            eventually(lambda: started.figures("victim").in_flight == len(requests))
            killed_at = time.monotonic()
            started.simulators["victim"].stop(signal.SIGKILL)
        late = [seconds - FIRST_TOKEN for seconds in waits(requests, killed_at)]
        note(f"{len(requests)} first chunks late by {late[0]:.2f} s to {late[-1]:.2f} s")
        note(f"the same, straight to the survivor: {straight(started, sizes):.2f} s at most")

        assert all(request.is_whole for request in requests)
        count = len(requests)
        made = attempts(started, requests)
        # A request on a kept connection was sent once more, and failed to connect.
        ended = made.pop(("victim", "connection_broken"), 0) + made.pop(
            ("victim", "connect_failed"), 0
        )
        assert (ended, made) == (count, {("survivor", "good"): count})
        if sizes.is_timed:
            assert late[-1] < LATE


def test_a_hanging_backend(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Stopped while streams wait: after three failed polls all go to another backend.

    Hedging is off. Polls come every 200 ms and fail after a second; by default they come every
    10 s, every 2 s after a failure, and fail after 3 s.
    """
    simulators = {"victim": SLOW, "survivor": QUICK}
    with fleet(tmp_path, simulators, 1, **NO_HEDGES, **POLLS) as started:
        victim = started.simulators["victim"].popen
        requests = streams(started.port, started.key, sizes.streams)
        with sent(requests):
            eventually(lambda: started.figures("victim").in_flight == len(requests))
            stopped_at = time.monotonic()
            victim.send_signal(signal.SIGSTOP)
        found = waits(requests, stopped_at)
        note(f"{len(requests)} first chunks {found[0]:.2f} s to {found[-1]:.2f} s after the stop")
        victim.send_signal(signal.SIGCONT)

        assert all(request.is_whole for request in requests)
        count = len(requests)
        assert attempts(started, requests) == {
            ("victim", "backend_down"): count,
            ("survivor", "good"): count,
        }
        eventually(lambda: started.figures("victim").in_flight == 0)


def load_models(started: Fleet) -> None:
    """Make both backends load the model, and wait until the gateway has seen it."""
    for port in started._ports.values():
        assert Request(port, "", "m:1", 1).send().is_whole
    gateway = started.gateways[0]
    eventually(lambda: all(backend["loaded"] for backend in gateway.status()["backends"]))


def test_a_hanging_backend_and_hedges(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Streams sent to a stopped backend are served by hedges, before polls notice.

    Hedges do not serve all of very many streams, since at most 50 hedges can be saved.
    """
    simulators = {"victim": QUICK, "survivor": QUICK}
    with fleet(tmp_path, simulators, 1, **HEDGES, **POLLS) as started:
        load_models(started)
        victim = started.simulators["victim"].popen
        victim.send_signal(signal.SIGSTOP)
        sent_at = time.monotonic()
        with sent(requests := streams(started.port, started.key, sizes.streams)):
            pass
        found = waits(requests, sent_at)
        note(f"{len(requests)} first chunks {found[0]:.2f} s to {found[-1]:.2f} s after being sent")
        victim.send_signal(signal.SIGCONT)

        assert all(request.is_whole for request in requests)
        ends = attempts(started, requests)
        note(", ".join(f"{count} {name}: {end}" for (name, end), count in sorted(ends.items())))
        assert ends["survivor", "good"] == len(requests)
        assert ends["victim", "overtaken"] > 0
        eventually(lambda: started.figures("victim").in_flight == 0)
