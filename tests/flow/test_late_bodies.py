"""Large or late bodies: the request reserves places first, and tokens after the body."""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.flow import exchange
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.limits.quota import Grant, Quota, ReservationRequest
from tests.flow.limited import Limited, limited
from tests.support.scenario import CHAT, Reply, TimedBody

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Clock = trio.testing.MockClock
ALL = KeyLimits(
    requests_per_minute=3, concurrent_requests=1, tokens_per_day=100_000, tokens_per_month=100_000
)
BODY = json.dumps(CHAT).encode()
SLOW = TimedBody([(1.0, b" " * 1024)] * 40 + [(1.0, BODY)])
"""A body that takes 41 seconds, longer than a lease."""
BOUND = 8192
"""The bound of its prompt: the model's context, which is less than its bytes."""
LARGE = {**CHAT, "messages": [{"role": "user", "content": "x" * 70_000}]}


def unwanted(*_: object, **__: object) -> None:
    """Replace `read_call` and fail if it is called."""
    pytest.fail("a body was read")


async def spent(key: Limited, quota: Quota, tokens: int) -> None:
    """Spend tokens of the key."""
    store = key.scenario.gateway.admin.limits.store
    grant = await store.reserve(ReservationRequest("before", key.key_id, quota, tokens))
    assert isinstance(grant, Grant)
    store.settle(grant.reservation, tokens)


async def sent(key: Limited, replies: list[Reply], body: TimedBody = SLOW) -> None:
    """Send a request and append its reply."""
    replies.append(await key.ask(body=body))


@pytest.mark.parametrize("is_announced", [False, True])
async def test_a_slow_body_has_its_places_and_no_tokens(
    autojump_clock: Clock, *, is_announced: bool
) -> None:
    """Rate and concurrency are held from the start, tokens from the end of the body."""
    replies: list[Reply] = []
    async with limited(ALL) as key, trio.open_nursery() as nursery:
        body = attrs.evolve(SLOW, is_announced=is_announced)
        nursery.start_soon(sent, key, replies, body)
        await trio.sleep(40)
        early = await key.usage()
        refused = await key.ask()
        await trio.sleep(1.5)
        late = await key.usage()
        await trio.sleep(5)
        over = await key.usage()

    assert (early.admissions, early.open, early.day) == (1, 1, 0)
    assert (refused.status, key.scenario.records[0].reason) == (429, "concurrency")
    assert (late.admissions, late.open, late.day) == (1, 1, BOUND + 4096)
    assert (over.admissions, over.open, over.day) == (1, 0, 14)
    assert replies[0].status == 200
    assert replies[0].headers["x-ratelimit-remaining-tokens"] == str(100_000 - BOUND - 4096)


async def test_a_small_body_is_reserved_for_in_one_step(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that arrives with its head or right behind it costs the store one operation."""
    wishes = []
    async with limited(ALL) as key:
        store = key.scenario.gateway.admin.limits.store
        reserve = store.reserve

        async def counted(request: Any) -> Any:
            wishes.append(request.has_places)
            return await reserve(request)

        monkeypatch.setattr(store, "reserve", counted)
        await key.ask()
        await key.ask(body=TimedBody([(0.1, BODY[:9]), (0.1, BODY[9:])], is_announced=True))
        assert wishes == [False, False]
        await key.ask(body=LARGE)
        assert wishes == [False, False, False, True]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages", "/api/embed"])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_refused_body_is_not_read(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, path: str, *, is_chunked: bool
) -> None:
    """A key over its rate is refused before any of a large body is parsed."""
    monkeypatch.setattr(exchange, "read_call", unwanted)
    async with limited(KeyLimits(requests_per_minute=1, tokens_per_day=9)) as key:
        await spent(key, Quota(requests_per_minute=1), 0)
        whole = json.dumps(LARGE).encode()
        reply = await key.ask(path, TimedBody([(0, whole)], is_announced=not is_chunked))

    assert reply.status == 429
    assert [record.reason for record in key.scenario.records] == ["rate"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{" + b" " * 70_000, 400),
        ({**LARGE, "model": "nope"}, 403),
        (TimedBody([(0.1, b"{"), (90.0, b"}")]), 408),
        (TimedBody([(0, b"x" * 1_200_000)]), 413),
    ],
    ids=["400", "403", "408", "413"],
)
async def test_what_ends_after_its_first_step_keeps_its_admission(
    autojump_clock: Clock, body: object, status: int
) -> None:
    """It gives its place back and held no tokens, but it counts in the rate's window."""
    settings = {"GATEWAY_SERVER_MAX_BODY": "1MiB"}
    async with limited(ALL, settings=settings) as key:
        reply = await key.ask(body=body)
        usage = await key.usage()

    assert reply.status == status
    assert (usage.admissions, usage.open, usage.day) == (1, 0, 0)


async def test_a_compressed_body_is_large(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is unknown until it is decoded, and may be a thousand times as large."""
    small = zstd.compress(json.dumps(LARGE).encode())
    assert len(small) < 1000
    how: dict[str, Any] = {
        "path": "/v1/responses",
        "body": small,
        "headers": {"content-encoding": "zstd"},
    }
    async with limited(KeyLimits(requests_per_minute=1)) as key:
        await key.ask(**how)
        monkeypatch.setattr(exchange, "read_call", unwanted)
        reply = await key.ask(**how)

    assert (reply.status, key.scenario.records[-1].reason) == (429, "rate")


async def test_tokens_that_do_not_fit_are_refused_after_the_body(autojump_clock: Clock) -> None:
    """They get the same 429 as in one step; the request counts in the rate's window."""
    async with limited(KeyLimits(requests_per_minute=2, tokens_per_day=1000)) as key:
        refused = await key.ask(body=LARGE)
        usage = await key.usage()
        served = await key.ask(body={**CHAT, "options": {"num_predict": 5}})
        third = await key.ask()

    assert (refused.status, served.status, third.status) == (429, 200, 429)
    assert [record.reason for record in key.scenario.records] == ["budget", None, "rate"]
    assert (usage.admissions, usage.open, usage.day) == (1, 0, 0)
    assert refused.headers["x-ratelimit-remaining-requests"] == "1"


async def test_a_spent_budget_refuses_before_the_body(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no token left, the body is not read."""
    monkeypatch.setattr(exchange, "read_call", unwanted)
    async with limited(KeyLimits(tokens_per_day=1000)) as key:
        await spent(key, Quota(tokens_per_day=1000), 1000)
        reply = await key.ask(body=LARGE)
        usage = await key.usage()

    assert (reply.status, key.scenario.records[-1].reason) == (429, "budget")
    assert usage.open == 0


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.5, 25.0, 40.9, 41.5, 43.0])
async def test_a_client_that_leaves_in_its_body_gives_its_place_back(
    autojump_clock: Clock, seconds: float
) -> None:
    """Whenever it leaves, another request has its place at once."""
    async with limited(KeyLimits(concurrent_requests=1, tokens_per_day=100_000)) as key:
        await key.ask(body=SLOW, leave_at=seconds)
        usage = await key.usage()
        reply = await key.ask()

    assert usage.open == 0
    assert usage.day == 0 or seconds > 41
    assert reply.status == 200


async def test_of_two_that_upload_at_once_one_is_refused(autojump_clock: Clock) -> None:
    """A key with one place uploads one body; the other request is refused before its body."""
    replies: list[Reply] = []
    async with limited(ALL) as key, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(sent, key, replies)

    assert [reply.status for reply in replies] == [429, 200]
    assert replies[0].ended_at is not None
    assert replies[0].ended_at < 1


async def test_a_key_revoked_meanwhile_is_not_served(autojump_clock: Clock) -> None:
    """The key is looked up again after a slow body, which may outlive it."""
    replies: list[Reply] = []
    async with limited(ALL) as key, trio.open_nursery() as nursery:
        nursery.start_soon(sent, key, replies)
        await trio.sleep(30)
        key.scenario.store.revoke(key.key_id)
        await trio.sleep(20)
        usage = await key.usage()

    assert replies[0].status == 401
    assert (usage.admissions, usage.open, usage.day) == (1, 0, 0)
    assert [record.reason for record in key.scenario.records] == ["invalid_key"]


async def test_a_load_that_comes_slowly_needs_no_budget(autojump_clock: Clock) -> None:
    """Its places are reserved before the body shows that it is a load, and no tokens ever."""
    quota, load = Quota(tokens_per_day=1000), b'{"model":"m1"}'
    limits = KeyLimits(requests_per_minute=2, tokens_per_day=1000)
    async with limited(limits) as key:
        await spent(key, quota, 1000)
        for body in (TimedBody([(1.0, load)]), TimedBody([(1.0, load)], is_announced=False)):
            assert (await key.ask("/api/generate", body)).status == 200
        assert (await key.usage()).day == 1000


async def test_what_a_key_may_is_what_it_may_when_its_body_is_there(autojump_clock: Clock) -> None:
    """A right that was revoked while the body arrived no longer counts."""
    replies: list[Reply] = []
    async with limited(ALL) as key, trio.open_nursery() as tasks:
        tasks.start_soon(sent, key, replies)
        await trio.sleep(20)
        key.scenario.store.update(key.key_id, models=("other",))
    assert [reply.status for reply in replies] == [403]
