"""The history of a budget, seen from outside: each request, and the store's value meanwhile.

At every read of the value, sum(ok) <= value <= sum(attempted). The first sum has all requests that
were answered before the read began, the second the bounds of all that began before it ended,
without those that were refused before it began.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate, cycle
from urllib.error import URLError

import attrs

from tests.campaign.client import LIMITED, Request
from tests.smoke.fleet import PATIENCE, Gateway

PAUSE = 0.005
"""Seconds between two reads."""


@attrs.frozen
class Read:
    """One read of the value: tokens reserved and spent."""

    began: float
    ended: float
    value: int


@attrs.define
class History:
    """The requests and reads of one key."""

    requests: list[Request] = attrs.field(factory=list)
    reads: list[Read] = attrs.field(factory=list)

    @property
    def whole(self) -> list[Request]:
        """The requests that were answered to the end."""
        return [request for request in self.requests if request.is_whole]

    @property
    def answered(self) -> int:
        """Tokens of all requests that were answered to the end."""
        return sum(request.tokens for request in self.whole)

    def count(self, status: int) -> int:
        """Return the requests with this result."""
        return sum(request.status == status for request in self.requests)

    def check(self, budget: int) -> None:
        """Compare each read with the requests and answers up to it."""
        answered = _Sums((r.ended, r.tokens) for r in self.whole)
        begun = _Sums((r.began, r.bound) for r in self.requests)
        refused = _Sums((r.ended, r.bound) for r in self.requests if r.status == LIMITED)
        assert self.reads
        for read in self.reads:
            least = answered.before(read.began)
            most = begun.before(read.ended) - refused.before(read.began)
            assert least <= read.value <= min(most, budget), (least, read, most, budget)

    @contextmanager
    def watching(self, gateways: Iterable[Gateway], key_id: str) -> Iterator[None]:
        """Read the value at all gateways in turn for the length of the block."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over, cycle(gateways), key_id))
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join(PATIENCE)

    def _watch(self, over: threading.Event, gateways: Iterator[Gateway], key_id: str) -> None:
        while not over.wait(PAUSE):
            began = time.monotonic()
            try:
                value = next(gateways).used(key_id)["month"]
            except URLError:  # 503: the store is away
                continue
            self.reads.append(Read(began, time.monotonic(), value))


class _Sums:
    """Sums of the steps before some time."""

    def __init__(self, steps: Iterable[tuple[float, int]]) -> None:
        ordered = sorted(steps)
        self._times = [at for at, _ in ordered]
        self._sums = list(accumulate((tokens for _, tokens in ordered), initial=0))

    def before(self, moment: float) -> int:
        """Return the sum of all steps before that moment."""
        return self._sums[bisect_left(self._times, moment)]
