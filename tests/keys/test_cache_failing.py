from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import structlog.testing

from ollama_gateway.errors import Unavailable
from ollama_gateway.keys.identifying import open_keys
from ollama_gateway.keys.key import generate
from ollama_gateway.keys.location import SQLiteLocation
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.keys.looking import Look, virtual_now
from tests.support.runners import Slow

pytestmark = pytest.mark.virtual_time

MINUTE = 60.0


def moved_away(path: Path) -> None:
    """The file is gone."""
    path.rename(path.with_name("aside"))


def replaced(path: Path) -> None:
    """The file is replaced by garbage."""
    moved_away(path)
    path.write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize("spoil", [moved_away, replaced])
async def test_a_failing_store_refuses_nobody_it_knows(
    look: Look, path: Path, command: SQLiteKeys, spoil: Callable[[Path], None]
) -> None:
    """A known key works for 10 minutes; others get 503, never 401; the cache recovers."""
    _, known = command.create("known")
    _, unknown = command.create("unknown")
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
    look: Look, path: Path, command: SQLiteKeys
) -> None:
    """Malformed keys are refused without the store."""
    command.create("ci")
    moved_away(path)
    assert [await look.status(text) for text in (None, "", "ogw_x")] == [401] * 3


async def test_a_failing_store_is_asked_once_in_a_while(
    look: Look, path: Path, command: SQLiteKeys
) -> None:
    """A known key tries a failing store once in 0.8 s, and a failure counts for 5 s at most."""
    _, text = command.create("ci")
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
    look: Look, path: Path, command: SQLiteKeys
) -> None:
    """The cache stops serving stale keys within a second of the store's return."""
    _, text = command.create("ci")
    assert await look.status(text) == 200
    command.revoke("ci")
    moved_away(path)
    await anyio.sleep(30)
    assert await look.status(text) == 200
    path.with_name("aside").replace(path)
    await anyio.sleep(0.875)
    assert await look.status(text) == 401


async def test_a_text_that_was_rotated_away_is_forgotten(
    look: Look, path: Path, command: SQLiteKeys
) -> None:
    """A text that the store has rejected stays rejected when the store fails."""
    _, text = command.create("ci")
    assert await look.status(text) == 200
    command.rotate("ci")
    await anyio.sleep(0.875)
    assert await look.status(text) == 401
    moved_away(path)
    assert await look.status(text) == 503


async def test_a_slow_look_up_does_not_lengthen_the_fresh_time(
    path: Path, command: SQLiteKeys
) -> None:
    """A revocation takes effect 0.8 s after the look-up began, however late its answer came."""
    _, text = command.create("ci")
    async with open_keys(SQLiteLocation(path), runner=Slow(after=0.5), now=virtual_now) as keys:
        assert anyio.current_time() == 0.5
        look = Look(keys, [])
        assert await look.status(text) == 200
        command.revoke("ci")
        await anyio.sleep(0.3125)  # 0.8125 s after the look-up began
        assert await look.status(text) == 401


async def test_a_store_that_hangs_counts_as_failing(path: Path, command: SQLiteKeys) -> None:
    """After 2 s without an answer a known key works from the cache, an unknown one gets 503."""
    _, known = command.create("known")
    _, unknown = command.create("unknown")
    hanging = Slow()
    async with open_keys(SQLiteLocation(path), runner=hanging, now=virtual_now) as keys:
        look = Look(keys, [])
        assert await look.status(known) == 200
        hanging.before = 3600.0
        await anyio.sleep(1)
        assert await look.status(known) == 200
        assert anyio.current_time() == 3
        assert await look.status(known) == 200
        assert anyio.current_time() == 3
        assert await look.status(unknown) == 503
        assert anyio.current_time() == 5


async def test_a_store_that_hangs_costs_a_known_key_little(path: Path, command: SQLiteKeys) -> None:
    """The first use waits 2 s, later ones 0.1 s, and one in 5 s the full time."""
    _, known = command.create("known")
    hanging, delays = Slow(), []
    async with open_keys(SQLiteLocation(path), runner=hanging, now=virtual_now) as keys:
        look = Look(keys, [])
        assert await look.status(known) == 200
        hanging.before = 3600.0
        for _ in range(8):
            await anyio.sleep(0.875)
            began = anyio.current_time()
            assert await look.status(known) == 200
            delays.append(round(anyio.current_time() - began, 3))
    assert delays == [2, 0.1, 0.1, 0.1, 2, 0.1, 0.1, 0.1]


async def test_a_store_that_is_slow_and_back_is_believed_again(
    path: Path, command: SQLiteKeys
) -> None:
    """A store that takes half a second is used again within `DOUBT`."""
    _, text = command.create("ci")
    slow = Slow()
    async with open_keys(SQLiteLocation(path), runner=slow, now=virtual_now) as keys:
        look = Look(keys, [])
        assert await look.status(text) == 200
        slow.before = 3.0
        await anyio.sleep(1)
        assert await look.status(text) == 200
        assert keys.statistics().store_failing
        command.revoke("ci")
        slow.before = 0.5
        while await look.status(text) == 200:
            await anyio.sleep(0.25)
            assert anyio.current_time() < 10
        assert not keys.statistics().store_failing


async def test_the_turns_of_the_store_are_logged_once(
    look: Look, path: Path, command: SQLiteKeys
) -> None:
    """One line when the store begins to fail, one when it works again, and no key in them."""
    _, text = command.create("ci")
    with structlog.testing.capture_logs() as lines:
        moved_away(path)
        assert [await look.status(text) for _ in range(5)] == [503] * 5
        path.with_name("aside").replace(path)
        assert [await look.status(text) for _ in range(5)] == [200] * 5
    assert [line["event"] for line in lines] == ["key store failing", "key store works again"]
    assert "is gone" in lines[0]["cause"]
    assert text not in str(lines)


async def test_no_secret_is_in_what_may_be_printed(
    look: Look, path: Path, command: SQLiteKeys
) -> None:
    """Neither reprs nor exceptions, with all that caused them, hold a key or its digest."""
    _, text = command.create("ci")
    secret = text.split("_")[2]
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
    assert printed[0] == "<KeyCache of 1, store works>"
