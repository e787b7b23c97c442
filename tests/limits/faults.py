"""Gateways that share a Redis, and the faults of Redis and of the connection to it.

A gateway here is its store, a usage journal in memory and a heartbeat, without HTTP. Its hooks run
just before the store reads something, so a test can put an event between two steps of the store.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast

import anyio
import attrs
import pytest
import redis

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.contributions import Contribution, Totals
from ollama_gateway.limits.forgiven import Period
from ollama_gateway.limits.quota import (
    Grant,
    KeyUsage,
    LimitRefusal,
    Quota,
    Renewal,
    ReservationRequest,
)
from ollama_gateway.limits.redis.operations import GENERATION_KEY, LAYOUT, Operation, ReadUsage
from ollama_gateway.limits.redis.scripts import RedisScripts
from ollama_gateway.limits.redis.store import RedisQuota
from ollama_gateway.services import running
from tests.support.patience import PATIENCE, until
from tests.support.redis_server import RedisServer, private_redis

KEY = "k"
BUDGET = Quota(tokens_per_day=1_000_000)
HASTY: Final = 1.0
"""Seconds for an answer in tests in which none comes: more than a thread needs on its way."""
BEAT = 0.1
"""Seconds between two heartbeats."""
GARBLED = {
    "closing": b"",
    "half a reply": b"$100\r\nhal",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "always OK": b"+OK\r\n" * 50,
    "always a number": b":1\r\n" * 50,
    "always nothing": b"_\r\n" * 50,
    "always an error": b"-ERR no\r\n" * 50,
    "always granted": b"+granted 5 20000 24000 0 0 1 5 5 0 0\r\n" * 50,
    "no text": b"$3\r\n\xff\xfe\xfd\r\n" * 50,
    "lists in lists": b"*1\r\n" * 5000 + b":1\r\n",
    "a million things": b"*1000000\r\n:1\r\n",
}
"""Answers of a server that is no Redis; empty bytes end the connection."""


def request_for(
    request_id: str, quota: Quota = BUDGET, prompt: int = 100, key: str = KEY
) -> ReservationRequest:
    """A request for no tokens of an answer."""
    return ReservationRequest(request_id, key, quota, prompt)


async def _nothing() -> dict[Any, Any]:
    return {}


def bare_quota(url: str) -> RedisQuota:
    """Return a store without any journal."""
    scripts = RedisScripts(url, timeout=PATIENCE)
    return RedisQuota(scripts, cast(Any, _nothing), _nothing)


@attrs.define(eq=False)
class Gateway:
    """One gateway's part in the limits."""

    url: str
    identity: str = "a"
    open: dict[str, Renewal] = attrs.field(factory=dict)
    spent: defaultdict[str, Counter[int]] = attrs.field(factory=lambda: defaultdict(Counter))
    forgiven: defaultdict[str, Counter[Period]] = attrs.field(factory=lambda: defaultdict(Counter))
    before_totals: Callable[[], object] | None = None
    """Runs once, while the store waits for the contributions."""
    before_read: dict[int, Callable[[], object]] = attrs.field(factory=dict)
    """Hooks by n, from 1: each runs before the store reads the open requests for the nth time since
    the heartbeat began, or since it read the contributions."""
    reads: int = 0
    failures: int = 0
    """Heartbeats that failed."""
    timeout: float = PATIENCE
    """Seconds that the store has for an answer."""
    elsewhere: Mapping[str, Totals] | None = attrs.field(factory=dict)
    """Totals of lost journals by the audit log; None if it cannot be asked."""
    questions: int = 0
    """Number of calls for them."""
    quota: RedisQuota = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        scripts = RedisScripts(self.url, timeout=self.timeout)
        self.quota = RedisQuota(scripts, self.contributions, self.asked_elsewhere)

    async def reserve(self, asked: ReservationRequest) -> Grant:
        """Reserve for a request that must be granted; it is renewed from now on."""
        outcome = await self.quota.reserve(asked)
        assert isinstance(outcome, Grant)
        self.open[asked.request_id] = Renewal(outcome.reservation, 0)
        return outcome

    def settle(self, request_id: str, used: int) -> None:
        """End a request, in the store and in the journal."""
        reservation = self.open.pop(request_id).reservation
        self.quota.settle(reservation, used)
        self.spent[reservation.key_id][reservation.day] += used

    async def contributions(self) -> Sequence[Contribution]:
        """Return this gateway's contribution as of the return."""
        if self.before_totals is not None:
            await anyio.lowlevel.checkpoint()
            hook, self.before_totals = self.before_totals, None
            hook()
        self.reads = 0
        spent, forgiven = copy.deepcopy((self.spent, self.forgiven))
        return [Contribution(self.identity, spent, is_alive=True, forgiven=forgiven)]

    def forgiven_of(self, key_id: str) -> Counter[Period]:
        """See `ForgivenUsage`."""
        return self.forgiven[key_id].copy()

    def forgive(self, key_id: str, totals: Mapping[Period, int]) -> None:
        """Keep the larger totals."""
        self.forgiven[key_id] |= Counter(totals)

    async def asked_elsewhere(self) -> Mapping[str, Totals] | None:
        """Return the totals of lost journals."""
        self.questions += 1
        return self.elsewhere

    def read(self) -> Sequence[Renewal]:
        """Return the open reservations."""
        self.reads += 1
        self.before_read.pop(self.reads, lambda: None)()
        return list(self.open.values())

    async def beat(self) -> None:
        """Run one heartbeat; raises Unavailable."""
        self.reads = 0
        await self.quota.renew(self.read)

    async def beat_for_ever(self) -> None:
        """Run heartbeats until cancelled."""
        while True:
            try:
                await self.beat()
            except Unavailable:
                self.failures += 1
            await anyio.sleep(BEAT)

    async def missed(self, beats: int) -> None:
        """Wait until so many more heartbeats have failed."""
        enough = self.failures + beats
        await until(lambda: self.failures >= enough)

    async def admits(self) -> None:
        """Run heartbeats until it admits."""
        with anyio.fail_after(PATIENCE):
            while self.quota.why_not is not None:
                await self.beat()
                await anyio.sleep(0.02)

    async def ready(self) -> None:
        """Wait until it admits, and all settlements are confirmed."""
        await until(lambda: self.quota.why_not is None and not self.quota.settlements_waiting)


@asynccontextmanager
async def gateway(
    url: str, identity: str = "a", *, waits: bool = True, timeout: float = PATIENCE
) -> AsyncIterator[Gateway]:
    """Run a gateway with a heartbeat; if it `waits`, the block begins once it admits.

    Its timeout allows for a busy machine.
    """
    made = Gateway(url, identity, timeout=timeout)
    async with made.quota.opened(), running(made.beat_for_ever):
        if waits:
            await made.ready()
        yield made


@asynccontextmanager
async def by_hand(
    url: str, identity: str = "a", *, timeout: float = PATIENCE
) -> AsyncIterator[Gateway]:
    """Run a gateway whose heartbeats the test runs; it has joined."""
    made = Gateway(url, identity, timeout=timeout)
    async with made.quota.opened():
        await made.beat()
        yield made


async def spend(made: Gateway, tokens: int) -> None:
    """Spend tokens, confirmed."""
    request_id = f"spent {made.identity} {tokens}"
    await made.reserve(request_for(request_id))
    made.settle(request_id, tokens)
    await made.beat()


async def refused(made: Gateway, request_id: str) -> None:
    """Send a request that must fail as unavailable, in time."""
    with anyio.fail_after(PATIENCE), pytest.raises(Unavailable) as refusal:
        await made.quota.reserve(request_for(request_id))
    assert refusal.value.reason == "quota_unavailable"
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after >= 1


async def outcome_of(made: Gateway, name: str, quota: Quota) -> Grant | LimitRefusal:
    """Return the answer to a client that tries again while the store is unavailable."""
    for attempt in itertools.count():
        try:
            return await made.quota.reserve(request_for(f"{name} {attempt}", quota))
        except Unavailable:
            await anyio.sleep(BEAT)
    raise AssertionError


@contextmanager
def inside(url: str) -> Iterator[Any]:
    """Connect to Redis itself."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


def flush(url: str) -> None:
    """Have Redis lose everything."""
    with inside(url) as client:
        client.flushall()


def begin(url: str) -> None:
    """Empty Redis, and let it admit at once: its generation opened long ago."""
    with inside(url) as client:
        client.flushall()
        client.set(GENERATION_KEY, "first:0")


@contextmanager
def ready_redis(*options: str) -> Iterator[RedisServer]:
    """Run a private server that may admit at once."""
    with private_redis(*options) as server:
        begin(server.url)
        yield server


@contextmanager
def connected(url: str, timeout: float = PATIENCE, offset: float = 0.0) -> Iterator[RedisScripts]:
    """Open a connection of the test's own, whose clock is ahead by so many seconds."""
    scripts = RedisScripts(url, timeout=timeout)
    scripts.offset = offset
    try:
        yield scripts
    finally:
        scripts.close()


def run(url: str, *asked: Operation, offset: float = 0.0) -> list[Any]:
    """Run operations on a connection of their own; return their outcomes."""
    with connected(url, offset=offset) as scripts:
        return list(scripts.run(asked).outcomes)


def look(url: str, key: str = KEY) -> KeyUsage:
    """Read the use of a key."""
    (found,) = run(url, ReadUsage(key))
    assert isinstance(found, KeyUsage)
    return found


def status(url: str, key: str = KEY) -> tuple[int, int]:
    """Return a key's open requests, and its tokens of the day."""
    found = look(url, key)
    return found.open, found.day


def calls(url: str) -> int:
    """Return the number of scripts that Redis has run."""
    with inside(url) as client:
        found: int = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    return found


def account_key(name: str, key: str = KEY) -> str:
    """Return one of the names of a key's account: rate, leases, held, past, budget."""
    return f"{LAYOUT}:{{{key}}}:{name}"
