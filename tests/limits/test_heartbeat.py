"""The heartbeat of one gateway on a real Redis: it renews leases, and notes their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from ollama_gateway.limits.contributions import read_charges
from ollama_gateway.limits.leases import Cost, Limiter
from ollama_gateway.limits.quota import Quota
from ollama_gateway.limits.usage_journal import open_usage_journal
from ollama_gateway.metrics import Metrics
from ollama_gateway.wire.bounds import Measure
from tests.limits.faults import account_key, bare_quota, inside, status
from tests.support.patience import until

QUOTA = Quota(5, 2, 10_000, 10_000)
COST = Cost("m1", Measure(text=400, media=0, asked=100))


@attrs.define
class Meter:
    """A request whose backend works, and has reported nothing yet."""

    request_id: str = "a"
    key_id: str = "k"
    relayed: int = 0
    unheard: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_source: str | None = None
    is_reserving: bool = False
    usage_journal: str | None = None
    was_worked_on: bool = False

    def count(self, prompt: int | None, completion: int | None) -> None:
        """Do nothing: the counts do not matter here."""


@asynccontextmanager
async def limits(directory: Path, url: str) -> AsyncIterator[Limiter]:
    """Limits of a gateway that admits, with time for a busy machine."""
    async with (
        open_usage_journal(directory) as usage_journal,
        bare_quota(url).opened() as store,
    ):
        made = Limiter(store, usage_journal, Quota(), 4096, Metrics())
        async with made.opened():
            await until(lambda: store.why_not is None)
            yield made


def lease_ends(url: str) -> float:
    """Return when the one lease in Redis ends."""
    with inside(url) as client:
        return float(client.zscore(account_key("leases"), "a") or 0)


async def test_a_body_on_its_way_keeps_its_place(redis_url: str, tmp_path: Path) -> None:
    """A heartbeat renews a lease without tokens, and the second step adds them to that lease."""
    async with limits(tmp_path, redis_url) as made:
        with made.lease(QUOTA, Meter()) as lease:
            await made.enter(lease)
            first = lease_ends(redis_url)
            await until(lambda: lease_ends(redis_url) > first)
            assert status(redis_url) == (1, 0)
            await made.admit(lease, COST)
            added = lease_ends(redis_url)
            await until(lambda: lease_ends(redis_url) > added)
            assert status(redis_url) == (1, 400 + 128 + 100)
        await until(lambda: status(redis_url) == (0, 0))


async def test_the_journal_charges_the_last_renewal(redis_url: str, tmp_path: Path) -> None:
    """The usage journal charges an open request as in the last renewal; before one, nothing."""
    meter = Meter()
    async with limits(tmp_path, redis_url) as made:
        with made.lease(QUOTA, meter) as lease:
            await made.admit(lease, COST)
            assert made.usage_journal._open["a"].prompt == 0
            await until(lambda: made.usage_journal._open["a"].reported == (0, 0))
            meter.was_worked_on, meter.relayed = True, 7
            await until(lambda: read_charges(tmp_path) == {"a": (100, 7)})
            with inside(redis_url) as client:
                assert client.hget(account_key("held"), "a").split()[-1] == "107"
    assert read_charges(tmp_path) == {}
