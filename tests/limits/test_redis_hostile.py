"""Foreign values under our names harm the key whose account they are in, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.quota import Grant, Quota, Renewal
from ollama_gateway.limits.redis.operations import (
    CONTRIBUTIONS_KEY,
    GENERATION_KEY,
    Contribute,
    ReadUsage,
    RedisOperation,
    Renew,
    Reserve,
    Settle,
)
from ollama_gateway.limits.redis.scripts import RedisScripts
from tests.limits.faults import (
    KEY,
    Gateway,
    account_key,
    by_hand,
    gateway,
    inside,
    refused,
    request_for,
    status,
)
from tests.support.patience import PATIENCE, until

ALL = Quota(9, 9, 100_000, 100_000)
TODAY = 20_000
NAMES = ("rate", "leases", "held", "past", "budget")


@pytest.mark.parametrize("name", NAMES)
async def test_a_string_in_the_place_of_anything_harms_one_key(
    beating: Gateway, redis_url: str, name: str
) -> None:
    """That key is refused; all others are served, charged and renewed."""
    await beating.reserve(request_for("bad", ALL, key="bad"))
    await beating.reserve(request_for("good", ALL))
    with inside(redis_url) as client:
        client.set(account_key(name, "bad"), "x")
    for number in range(5):
        with pytest.raises(Unavailable, match="cannot be checked"):
            await beating.quota.reserve(request_for(f"bad {number}", ALL, key="bad"))
        assert beating.quota.why_not is None
        await beating.reserve(request_for(f"good {number}", ALL))
        beating.settle(f"good {number}", 1)
    beating.settle("bad", 30)
    beating.settle("good", 30)
    await beating.ready()
    assert beating.failures == 0
    assert status(redis_url) == (0, 35)
    with inside(redis_url) as client:
        client.delete(*(account_key(each, "bad") for each in NAMES))
    await beating.reserve(request_for("mended", ALL, key="bad"))


@pytest.mark.parametrize("name", ["rate", "held", "budget"])
async def test_a_broken_account_does_not_hold_up_joining(
    one: Gateway, redis_url: str, name: str
) -> None:
    """An empty Redis with one bad key is rebuilt with all others, and admits."""
    for key in ("bad", KEY):
        await one.reserve(request_for(f"open {key}", ALL, key=key))
        await one.reserve(request_for(f"spent {key}", ALL, key=key))
        one.settle(f"spent {key}", 40)
    await one.beat()
    with inside(redis_url) as client:
        client.flushall()
        client.set(GENERATION_KEY, "second:0")
        client.set(account_key(name, "bad"), "x")
    await one.beat()
    await one.admits()
    assert status(redis_url) == (1, 140)
    one.settle("open bad", 30)
    await one.beat()
    assert one.quota.settlements_waiting == 0


SPOILT: list[tuple[str, tuple[Any, ...]]] = [
    ("hset", ("held", "open", "garbage")),
    ("hset", ("held", "open", "-5 1 1 -5")),
    ("hset", ("held", "open", b"\xff")),
    ("hdel", ("held", "open")),
    ("delete", ("held",)),
    ("delete", ("leases",)),
    ("zadd", ("leases", {"stranger": 1})),
    ("zadd", ("leases", {"stranger": "inf"})),
    ("zadd", ("leases", {"stranger": "-inf"})),
    ("zadd", ("past", {"stranger": 1})),
    ("zadd", ("rate", {"stranger": "inf"})),
    ("zadd", ("rate", {"stranger": 1e300})),
    ("hset", ("budget", "day:20000:spent", "nan")),
]


@pytest.mark.parametrize(("what", "words"), SPOILT)
async def test_figures_that_are_none_harm_one_key_for_a_while(
    redis_url: str, what: str, words: tuple[Any, ...]
) -> None:
    """No script fails on them for good, and no answer about them spoils a batch."""
    scripts = RedisScripts(redis_url, timeout=PATIENCE)
    (granted,) = scripts.run([Reserve(request_for("open", ALL, key="bad"))]).outcomes
    assert isinstance(granted, Grant)
    with inside(redis_url) as client:
        getattr(client, what)(account_key(words[0], "bad"), *words[1:])
    renewal = (Renewal(granted.reservation, 5),)
    of_bad: list[RedisOperation] = [
        Reserve(request_for("b", ALL, key="bad")),
        Renew("bad", renewal),
        ReadUsage("bad"),
        Contribute("bad", "giver", {TODAY: 5}),
        Settle(granted.reservation, 30),
    ]
    for scripts.offset in (0.0, 31.0, 3700.0, 86_400.0 * 2):
        for asked in of_bad:
            scripts.run([asked])
        outcomes = scripts.run([ReadUsage(KEY), *of_bad, ReadUsage(KEY)]).outcomes
        assert not isinstance(outcomes[0], Exception)
        assert not isinstance(outcomes[-1], Exception)
        if words[0] not in {"rate", "budget"}:
            assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    scripts.close()


@pytest.mark.parametrize("value", ["a:b", b"\xff", ["a", "list"]])
async def test_a_bad_generation_admits_nothing(
    beating: Gateway, redis_url: str, value: Any
) -> None:
    """Nothing is admitted until the value is removed; then Redis is rebuilt as if it were new."""
    await beating.reserve(request_for("a"))
    with inside(redis_url) as client:
        client.delete(GENERATION_KEY)
        write = client.rpush if isinstance(value, list) else client.set
        write(GENERATION_KEY, *(value if isinstance(value, list) else [value]))
    await until(lambda: beating.quota.why_not is not None)
    await refused(beating, "b")
    beating.settle("a", 30)
    await beating.missed(2)
    await refused(beating, "c")
    with inside(redis_url) as client:
        client.flushall()
        client.set(GENERATION_KEY, "second:0")
    await beating.ready()
    assert status(redis_url) == (0, 30)


async def test_a_bad_mark_of_contributions_admits_nothing(redis_url: str) -> None:
    """While it is unknown which journals were added, nothing is admitted."""
    with inside(redis_url) as client:
        client.set(CONTRIBUTIONS_KEY, "x")
    async with gateway(redis_url, waits=False) as one:
        await one.missed(3)
        await refused(one, "a")
        with inside(redis_url) as client:
            client.delete(CONTRIBUTIONS_KEY)
        await one.ready()
        await one.reserve(request_for("b"))


async def test_scripts_that_vanish_at_any_time_are_not_missed(redis_url: str) -> None:
    """Fifty requests succeed although Redis forgets all scripts before each step."""
    one_at_once = Quota(concurrent_requests=1)
    async with by_hand(redis_url) as one:
        with inside(redis_url) as client:
            for number in range(50):
                client.script_flush()
                await one.reserve(request_for(f"r{number}", one_at_once))
                client.script_flush()
                one.settle(f"r{number}", 0)
                await one.quota.usage(KEY)
                client.script_flush()
                await one.beat()
                assert one.quota.settlements_waiting == 0
                assert one.quota.why_not is None
    assert status(redis_url) == (0, 0)
