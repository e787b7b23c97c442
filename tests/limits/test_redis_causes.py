"""Why the store of limits fails is said once an outage, also where Redis still answers."""

from __future__ import annotations

import pytest
import structlog.testing

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.redis.operations import TRIAL_KEY_ID, account
from ollama_gateway.storage.redis_faults import RedisFault
from tests.limits.faults import (
    account_key,
    begin,
    by_hand,
    inside,
    ready_redis,
    request_for,
)

SECRET = "hunter2"
EVENTS = ("quota store failing", "quota store works again")


async def test_a_missing_right_is_found_by_the_heartbeat() -> None:
    """A Redis that answers and refuses reservations makes the gateway not ready, and says why."""
    with ready_redis() as server:
        with inside(server.url) as client:
            client.execute_command("ACL", "SETUSER", "bob", "on", f">{SECRET}", "~*", "+@all")
        url = f"redis://bob:{SECRET}@127.0.0.1:{server.port}/0"
        with structlog.testing.capture_logs() as lines:
            async with by_hand(url) as one:
                with inside(server.url) as client:
                    client.execute_command("ACL", "SETUSER", "bob", "-zadd")
                for _ in range(2):
                    with pytest.raises(Unavailable):
                        await one.beat()
                line = RedisFault.NO_RIGHTS.line
                before = one.quota.cause
                assert one.quota.why_not == f"the quota store does not answer: {line}"
                with inside(server.url) as client:
                    client.execute_command("ACL", "SETUSER", "bob", "+zadd")
                await one.beat()
                after = one.quota.cause
        assert (before, after) == ("no_rights", None)
        said = [(found["event"], found.get("cause")) for found in lines if found["event"] in EVENTS]
        assert said == [(EVENTS[0], "no_rights"), (EVENTS[1], None)]
        assert SECRET not in str(lines)


async def test_each_cause_of_an_outage_is_logged_once(redis_url: str) -> None:
    """Causes that take turns write as many lines as there are causes."""
    begin(redis_url)
    async with by_hand(redis_url) as one:
        pipeline = one.quota._pipeline
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                pipeline.note(RedisFault.REFUSED)
                pipeline.note(RedisFault.LOADING)
            pipeline.note(None)
            pipeline.note(None)
            pipeline.note(RedisFault.REFUSED)
    causes = [line.get("cause") for line in lines]
    assert causes == ["refused", "loading", None, "refused"]


async def test_a_trial_leaves_nothing(redis_url: str) -> None:
    """However often the heartbeat tries a reservation, Redis holds no trace of it."""
    begin(redis_url)
    async with by_hand(redis_url) as one:
        for _ in range(3):
            await one.beat()
    with inside(redis_url) as client:
        assert client.exists(*account(TRIAL_KEY_ID)) == 0


async def test_a_broken_account_is_no_cause(redis_url: str) -> None:
    """What another program wrote into one key's account does not fail the store."""
    begin(redis_url)
    async with by_hand(redis_url) as one:
        with inside(redis_url) as client:
            client.set(account_key("held", "bad"), "x")
        with pytest.raises(Unavailable):
            await one.quota.reserve(request_for("a", key="bad"))
        await one.beat()
        assert (one.quota.cause, one.quota.why_not) == (None, None)
