from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import trio.testing

from ollama_gateway.errors import Unauthorized
from ollama_gateway.keys.identifying import open_keys
from ollama_gateway.keys.key import Principal, generate
from ollama_gateway.keys.location import SQLiteLocation
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.storage.batcher import in_place
from tests.keys.looking import START, Look, looking


async def test_a_key_is_identified_with_its_rights(path: Path, command: SQLiteKeys) -> None:
    """With the production runner, the principal has the id, name and rights of the key."""
    key, text = command.create("ci", ("m1",), frozenset({"read"}))
    async with open_keys(SQLiteLocation(path)) as keys:
        assert await keys.identify(text) == key.principal()
        assert await keys.identify(text) == key.principal()


async def test_every_refusal_is_the_same(path: Path, command: SQLiteKeys) -> None:
    """Malformed, unknown, expired and revoked keys raise one class, text and reason."""
    _, expired = command.create("expired", expires_at=START)
    _, revoked = command.create("revoked")
    command.revoke("revoked")
    unknown = generate().text
    bad = [
        "",
        "x",
        "\x00",
        "*",
        "' OR '1'='1",
        unknown,
        unknown[:-1],
        "x" * 30,
        expired,
        revoked,
    ]
    refusals = set()
    async with open_keys(SQLiteLocation(path), runner=in_place) as keys:
        for credential in bad:
            with pytest.raises(Unauthorized) as caught:
                await keys.identify(credential)
            refusals.add((str(caught.value), repr(caught.value), caught.value.reason))
    assert refusals == {("invalid API key", "Unauthorized('invalid API key')", "invalid_key")}


async def test_a_typo_never_reaches_the_store(look: Look, command: SQLiteKeys) -> None:
    """A wrong checksum costs no look-up."""
    _, text = command.create("ci")
    assert await look.status(text[:-1] + ("a" if text[-1] != "a" else "b")) == 401
    assert look.batches == []


async def test_a_thousand_first_uses_are_one_look_up(look: Look, command: SQLiteKeys) -> None:
    """The first use of a key from 1000 connections at once is one batch."""
    _, text = command.create("ci")
    statuses: list[int] = []

    async def use() -> None:
        statuses.append(await look.status(text))

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(use)
    assert look.batches == [1000]
    assert statuses == [200] * 1000


async def test_a_hit_awaits_nothing(look: Look, command: SQLiteKeys) -> None:
    """A cached key is returned without a checkpoint, so nothing can delay it."""
    _, text = command.create("ci")
    await look.cache.identify(text)
    with trio.testing.assert_no_checkpoints():
        await look.cache.identify(text)


async def test_a_key_is_looked_up_again_after_the_fresh_time(
    look: Look, command: SQLiteKeys, autojump_clock: trio.testing.MockClock
) -> None:
    """A key in constant use costs one look-up in 0.8 s."""
    _, text = command.create("ci")
    for _ in range(32):
        assert await look.status(text) == 200
        await anyio.sleep(0.125)
    assert anyio.current_time() == 4
    assert look.batches == [1] * 5  # at 0, 0.875, 1.75, 2.625, 3.5


async def test_a_revocation_takes_effect_within_a_second(
    look: Look, command: SQLiteKeys, autojump_clock: trio.testing.MockClock
) -> None:
    """A key in constant use is refused 0.8 s after its last look-up at the latest."""
    _, text = command.create("ci")
    assert await look.status(text) == 200
    command.revoke("ci")
    await anyio.sleep(0.75)
    assert await look.status(text) == 200
    await anyio.sleep(0.0625)
    assert await look.status(text) == 401
    assert anyio.current_time() < 1


async def test_a_change_takes_effect_within_a_second(
    look: Look, command: SQLiteKeys, autojump_clock: trio.testing.MockClock
) -> None:
    """New patterns, groups, names and texts take effect as fast as a revocation."""
    key, old = command.create("ci")
    assert (await look.cache.identify(old)).models == ("*",)
    command.update("ci", models=("m1",), endpoints=frozenset({"read"}), name="cd")
    _, new = command.rotate("cd")
    await anyio.sleep(0.875)
    assert await look.status(old) == 401
    principal = await look.cache.identify(new)
    assert principal == Principal(key.id, "cd", ("m1",), frozenset({"read"}))


async def test_a_new_key_works_at_once(look: Look, command: SQLiteKeys) -> None:
    """The cache does not remember that a key was unknown."""
    entry = "sk-legacy-0123456789abcdef"
    assert await look.status(entry) == 401
    _, text = command.create("ci")
    assert await look.status(text) == 200
    assert look.batches == [1, 1]
    assert look.cache.statistics().held == 1


async def test_an_expiry_is_met_to_the_moment(
    look: Look, command: SQLiteKeys, autojump_clock: trio.testing.MockClock
) -> None:
    """A cached key expires at its time, not at its next look-up."""
    _, text = command.create("ci", expires_at=START + timedelta(seconds=0.5))
    assert await look.status(text) == 200
    await anyio.sleep(0.375)
    assert await look.status(text) == 200
    await anyio.sleep(0.125)
    assert await look.status(text) == 401
    assert look.batches == [1]


async def test_the_cache_is_bounded(path: Path, command: SQLiteKeys) -> None:
    """Beyond its capacity the least recently used key is evicted, and works when it returns."""
    texts = [command.create(f"key-{n}")[1] for n in range(4)]
    async with looking(path, capacity=3) as look:
        for text in (*texts[:3], texts[0], texts[3]):
            assert await look.status(text) == 200
        assert look.cache.statistics().held == 3
        look.batches.clear()
        assert [await look.status(texts[n]) for n in (0, 2, 3)] == [200] * 3
        assert look.batches == []
        assert await look.status(texts[1]) == 200
        assert look.batches == [1]
