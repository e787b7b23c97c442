"""Redis killed under load and back empty: no request is uncounted, no charge is lost."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs

from ollama_gateway.keys.key import KeyLimits
from tests.campaign.client import LIMITED, OK, UNAVAILABLE, Request, eventually, sent
from tests.campaign.conftest import Note
from tests.campaign.history import History
from tests.campaign.sizes import Sizes
from tests.campaign.test_budget import PROMPT, is_quiet
from tests.smoke.fleet import Fleet, fleet
from tests.support.redis_server import RedisServer, private_redis

CLIENTS = 8
GENERATION = 200
HELD = 3
"""Streams that are open all the time."""
REFUSALS = 20
"""Seconds for which Redis stays away."""
SIMULATORS = {
    "load": ("--model", "load:1", "--tokens", "200", "--token-delay", "1ms"),
    "held": ("--model", "held:1", "--tokens", "10", "--token-delay", "300ms"),
}


@attrs.define
class Load:
    """Clients that ask again and again, with a short pause after each answer."""

    fleet: Fleet
    text: str
    history: History = attrs.field(factory=History)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the clients for the length of the block."""
        over = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            ends = [pool.submit(self._ask, seed, over) for seed in range(CLIENTS)]
            try:
                yield
            finally:
                over.set()
        for end in ends:
            end.result()

    def since(self, moment: float) -> list[Request]:
        """Return the requests that began after a moment, and have ended."""
        return [request for request in self.history.requests if request.began > moment]

    def _ask(self, seed: int, over: threading.Event) -> None:
        random_ = random.Random(seed)  # noqa: S311 - to be repeatable
        while not over.wait(random_.uniform(0, 0.1)):
            port = random_.choice(self.fleet.gateways).port
            self.history.requests.append(Request(port, self.text, "load:1", GENERATION).send())


def lose(redis: RedisServer, load: Load, note: Note) -> None:
    """Kill Redis and see all requests refused; start it again and see all served."""
    redis.signal(signal.SIGKILL)
    killed_at = time.monotonic()
    eventually(lambda: len(load.since(killed_at)) >= REFUSALS)
    back_at = time.monotonic()
    refused = [request for request in load.since(killed_at) if request.ended < back_at]
    redis.start()
    started_at = time.monotonic()
    eventually(lambda: any(request.status == OK for request in load.since(started_at)))

    longest = max(request.ended - request.began for request in refused)
    first = min(one.ended for one in load.since(started_at) if one.status == OK)
    note(f"{len(refused)} refused without Redis, the slowest after {longest * 1000:.0f} ms")
    note(f"served {first - started_at:.2f} s after Redis was back")
    assert all(request.status == UNAVAILABLE for request in refused)
    assert all(int(request.headers["retry-after"]) > 0 for request in refused)


def test_a_budget_outlives_redis(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """The whole run serves no more than the budget, and running streams keep their places."""
    budget = sizes.under_load * (PROMPT + GENERATION)
    with (
        private_redis() as redis,
        fleet(tmp_path, SIMULATORS, gateways=2, GATEWAY_REDIS_URL=redis.url) as started,
    ):
        key, text = started.create_key("load", KeyLimits(tokens_per_month=budget))
        limits = KeyLimits(concurrent_requests=10, tokens_per_month=10**6)
        held_key, held_text = started.create_key("held", limits)
        make = partial(Request, key=held_text, model="held:1", generation=10, streams=True)
        streams = [make(started.gateways[number % 2].port) for number in range(HELD)]
        load = Load(started, text)
        history = load.history

        with history.watching(started.gateways, key.id), load.running(), sent(streams):
            eventually(lambda: all(stream.chunks for stream in streams))
            started.simulators["held"].popen.send_signal(signal.SIGSTOP)
            eventually(lambda: history.answered > budget // 4)
            lose(redis, load, note)
            bounds = sum(stream.bound for stream in streams)
            for gateway in started.gateways:
                assert gateway.used(held_key.id) == {"concurrency": HELD, "month": bounds}
            started.simulators["held"].popen.send_signal(signal.SIGCONT)
            eventually(lambda: history.answered > 0.8 * budget)
            eventually(lambda: history.requests[-1].status == LIMITED)
        eventually(partial(is_quiet, started))

        assert all(stream.is_whole for stream in streams)
        of_streams = sum(stream.tokens for stream in streams)
        figures = started.figures("load")
        total = figures.prompt_tokens + figures.completion_tokens
        note(
            f"budget {budget}, served {total}, {len(history.requests)} asked: {history.count(OK)}"
            f" served, {history.count(UNAVAILABLE)} unavailable; {len(history.reads)} reads"
        )
        assert total <= budget
        history.check(budget)
        for gateway in started.gateways:
            assert gateway.used(held_key.id) == {"concurrency": 0, "month": of_streams}
            assert gateway.used(key.id) == {"month": total}
