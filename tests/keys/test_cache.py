from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import anyio
import attrs
import pytest
import structlog.testing
import trio.testing

from ollama_gateway.batcher import Batcher, in_place
from ollama_gateway.errors import GatewayError, Unauthorized, Unavailable
from ollama_gateway.keys import open_keys
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import APIKey, generate
from ollama_gateway.keys.sqlite import SQLiteKeys

S = TypeVar("S")
START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = 60.0


@attrs.define
class Look:
    """A cache over the real store, and what it asked of it."""

    cache: KeyCache
    batches: list[int]
    """How many digests each look-up had."""

    async def status(self, text: str | None) -> int:
        """What a client with this credential is answered."""
        try:
            await self.cache.identify(text)
        except GatewayError as error:
            return error.status
        return 200


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "keys.db"


@pytest.fixture
def command(path: Path) -> Iterator[SQLiteKeys]:
    """The store as `gatewayctl keys`, another process, has it open."""
    with closing(SQLiteKeys(path)) as store:
        yield store


def virtual_now() -> datetime:
    """A wall clock that goes with the virtual time."""
    return START + timedelta(seconds=anyio.current_time())


@asynccontextmanager
async def looking(path: Path, capacity: int = 10_000) -> AsyncIterator[Look]:
    """A gateway's view of the store, in virtual time."""
    with closing(SQLiteKeys(path, now=virtual_now)) as store:
        batches: list[int] = []

        def find(digests: Sequence[str]) -> Sequence[APIKey | None]:
            batches.append(len(digests))
            return store.find(digests)

        async with Batcher(find, runner=in_place).opened() as batcher:
            yield Look(KeyCache(batcher.submit, now=virtual_now, capacity=capacity), batches)


async def test_a_key_is_identified_with_its_rights(path: Path, command: SQLiteKeys) -> None:
    """The principal carries id, name, patterns and groups of the key, by the production runner."""
    key, text = command.create("ci", ("m1",), frozenset({"read"}))
    async with open_keys(path) as keys:
        assert await keys.identify(text) == key.principal()
        assert await keys.identify(text) == key.principal()


async def test_every_refusal_is_the_same(path: Path, command: SQLiteKeys) -> None:
    """None, malformed, unknown, expired and revoked: one class, one text, one reason."""
    _, expired = command.create("expired", expires_at=START)
    _, revoked = command.create("revoked")
    command.revoke("revoked")
    unknown = generate().text
    bad = [
        None,
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
    async with open_keys(path, runner=in_place) as keys:
        for credential in bad:
            with pytest.raises(Unauthorized) as caught:
                await keys.identify(credential)
            refusals.add((str(caught.value), repr(caught.value), caught.value.reason))
    assert refusals == {("invalid API key", "Unauthorized('invalid API key')", "invalid_key")}


async def test_a_typo_never_reaches_the_store(path: Path, command: SQLiteKeys) -> None:
    """A wrong checksum costs no look-up."""
    _, text = command.create("ci")
    async with looking(path) as look:
        assert await look.status(text[:-1] + ("a" if text[-1] != "a" else "b")) == 401
        assert look.batches == []


async def test_a_thousand_first_uses_are_one_look_up(path: Path, command: SQLiteKeys) -> None:
    """The same key from 1000 connections at once, never used before: one batch."""
    _, text = command.create("ci")
    statuses: list[int] = []

    async with looking(path) as look:

        async def use() -> None:
            statuses.append(await look.status(text))

        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(use)
        assert look.batches == [1000]
    assert statuses == [200] * 1000


async def test_a_hit_awaits_nothing(path: Path, command: SQLiteKeys) -> None:
    """A cached key is answered without a checkpoint, so nothing can hold it up."""
    _, text = command.create("ci")
    async with looking(path) as look:
        await look.cache.identify(text)
        with trio.testing.assert_no_checkpoints():
            await look.cache.identify(text)


async def test_a_key_is_looked_up_again_after_the_fresh_time(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Used all the time, a key costs one look-up in 0.8 s."""
    _, text = command.create("ci")
    async with looking(path) as look:
        for _ in range(32):
            assert await look.status(text) == 200
            await anyio.sleep(0.125)
    assert anyio.current_time() == 4
    assert look.batches == [1] * 5  # at 0, 0.875, 1.75, 2.625, 3.5


async def test_a_revocation_takes_effect_within_a_second(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A key in constant use is refused 0.8 s after its last look-up at the latest."""
    _, text = command.create("ci")
    async with looking(path) as look:
        assert await look.status(text) == 200
        command.revoke("ci")
        await anyio.sleep(0.75)
        assert await look.status(text) == 200
        await anyio.sleep(0.0625)
        assert await look.status(text) == 401
    assert anyio.current_time() < 1


async def test_a_change_takes_effect_within_a_second(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """New patterns, groups, names and texts are seen like a revocation is."""
    key, old = command.create("ci")
    async with looking(path) as look:
        assert (await look.cache.identify(old)).models == ("*",)
        command.update("ci", models=("m1",), endpoints=frozenset({"read"}), name="cd")
        _, new = command.rotate("cd")
        await anyio.sleep(0.875)
        assert await look.status(old) == 401
        principal = await look.cache.identify(new)
    assert attrs.astuple(principal) == (key.id, "cd", ("m1",), frozenset({"read"}))


async def test_a_new_key_works_at_once(path: Path, command: SQLiteKeys) -> None:
    """That a key was unknown a moment ago is not remembered."""
    async with looking(path) as look:
        entry = "sk-legacy-0123456789abcdef"
        assert await look.status(entry) == 401
        _, text = command.create("ci")
        assert await look.status(text) == 200
        assert look.batches == [1, 1]
        assert look.cache.statistics().keys == 1


async def test_an_expiry_is_met_to_the_moment(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cached key ends with its time, not with its look-up."""
    _, text = command.create("ci", expires_at=START + timedelta(seconds=0.5))
    async with looking(path) as look:
        assert await look.status(text) == 200
        await anyio.sleep(0.375)
        assert await look.status(text) == 200
        await anyio.sleep(0.125)
        assert await look.status(text) == 401
        assert look.batches == [1]


async def test_the_cache_is_bounded(path: Path, command: SQLiteKeys) -> None:
    """Over its capacity the key that was not used for longest goes, and works when it returns."""
    texts = [command.create(f"key-{n}")[1] for n in range(4)]
    async with looking(path, capacity=3) as look:
        for text in (*texts[:3], texts[0], texts[3]):
            assert await look.status(text) == 200
        assert look.cache.statistics().keys == 3
        look.batches.clear()
        assert [await look.status(texts[n]) for n in (0, 2, 3)] == [200] * 3
        assert look.batches == []
        assert await look.status(texts[1]) == 200
        assert look.batches == [1]


def moved_away(path: Path) -> None:
    """The file is gone."""
    path.rename(path.with_name("aside"))


def replaced(path: Path) -> None:
    """The file is garbage, the real one aside."""
    moved_away(path)
    path.write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize("spoil", [moved_away, replaced])
async def test_a_failing_store_refuses_nobody_it_knows(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
    spoil: Callable[[Path], None],
) -> None:
    """A known key works for 10 minutes; what cannot be judged is a 503, never a 401; it heals."""
    _, known = command.create("known")
    _, unknown = command.create("unknown")
    async with looking(path) as look:
        assert await look.status(known) == 200
        spoil(path)
        with pytest.raises(Unavailable) as caught:
            await look.cache.identify(unknown)
        assert caught.value.reason == "keys_unavailable"
        assert caught.value.retry_after is not None
        assert str(path) not in str(caught.value)
        assert look.cache.statistics().store_failing
        for _ in range(9):
            await anyio.sleep(MINUTE)
            assert await look.status(known) == 200
        await anyio.sleep(MINUTE - 0.0625)
        assert await look.status(known) == 200
        await anyio.sleep(1)
        assert await look.status(known) == 503
        path.with_name("aside").replace(path)
        assert [await look.status(text) for text in (known, unknown)] == [200, 200]
        assert not look.cache.statistics().store_failing


async def test_malformed_keys_are_401_also_while_the_store_fails(
    path: Path, command: SQLiteKeys
) -> None:
    """What needs no store to be refused is refused."""
    command.create("ci")
    async with looking(path) as look:
        moved_away(path)
        assert [await look.status(text) for text in (None, "", "ogw_x")] == [401] * 3


async def test_a_failing_store_is_asked_once_in_a_while(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A known key asks a failing store once in 0.8 s, and its state is no longer held after 5 s."""
    _, text = command.create("ci")
    async with looking(path) as look:
        assert await look.status(text) == 200
        moved_away(path)
        for _ in range(32):
            await anyio.sleep(0.125)
            assert await look.status(text) == 200
        assert len(look.batches) == 5
        await anyio.sleep(4)
        assert look.cache.statistics().store_failing
        await anyio.sleep(1.5)
        assert not look.cache.statistics().store_failing


async def test_a_revocation_counts_as_soon_as_the_store_is_back(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Working from the cache ends within a second of the store's return."""
    _, text = command.create("ci")
    async with looking(path) as look:
        assert await look.status(text) == 200
        command.revoke("ci")
        moved_away(path)
        await anyio.sleep(30)
        assert await look.status(text) == 200
        path.with_name("aside").replace(path)
        await anyio.sleep(0.875)
        assert await look.status(text) == 401


async def test_a_store_that_hangs_counts_as_failing(
    path: Path,
    command: SQLiteKeys,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After 2 s without an answer a known key works from the cache, an unknown one gets 503."""
    _, known = command.create("known")
    _, unknown = command.create("unknown")
    pause = 0.0

    async def hanging(work: Callable[[], S], /) -> S:
        await anyio.sleep(pause)
        return work()

    async with open_keys(path, runner=hanging, now=virtual_now) as keys:
        look = Look(keys, [])
        assert await look.status(known) == 200
        pause = 3600.0
        await anyio.sleep(1)
        assert await look.status(known) == 200
        assert anyio.current_time() == 3
        assert await look.status(known) == 200
        assert anyio.current_time() == 3
        assert await look.status(unknown) == 503
        assert anyio.current_time() == 5


async def test_the_turns_of_the_store_are_logged_once(path: Path, command: SQLiteKeys) -> None:
    """One line when the store begins to fail, one when it works again, and no key in them."""
    _, text = command.create("ci")
    with structlog.testing.capture_logs() as lines:
        async with looking(path) as look:
            moved_away(path)
            assert [await look.status(text) for _ in range(5)] == [503] * 5
            path.with_name("aside").replace(path)
            assert [await look.status(text) for _ in range(5)] == [200] * 5
    assert [line["event"] for line in lines] == ["key store failing", "key store works again"]
    assert "is gone" in lines[0]["cause"]
    assert text not in str(lines)


async def test_no_secret_is_in_what_may_be_printed(path: Path, command: SQLiteKeys) -> None:
    """Neither reprs nor exceptions, with all that caused them, hold a key or its digest."""
    _, text = command.create("ci")
    secret = text.split("_")[2]
    async with looking(path) as look:
        await look.cache.identify(text)
        printed = [repr(look.cache), repr(command), repr(command.list()), repr(look)]
        moved_away(path)
        with pytest.raises(Unavailable) as caught:
            await look.cache.identify(generate().text)
        error: BaseException | None = caught.value
        while error is not None:
            printed += [repr(error), str(error)]
            error = error.__cause__
    assert len(printed) == 4 + 2 * 4  # Unavailable, BatchFailed, StoreError, FileNotFoundError
    assert not any(secret in line or "ogw_" in line for line in printed)
    assert printed[0] == "<KeyCache 1 keys, store works>"
