"""Threads that hang: the batcher does not wait for them for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest
import structlog.testing
import trio.testing

from ollama_gateway.storage.batcher import (
    CLOSING_SECONDS,
    Batcher,
    BatchFailed,
    close_in_time,
    in_thread,
)
from tests.storage.test_batcher import Squares, gathered
from tests.support.runners import Slow

S = TypeVar("S")


async def test_a_thread_is_left_to_itself_when_run_is_cancelled() -> None:
    """A thread may hang on a disk for ever: its callers fail, and the service does not wait."""
    release, started = threading.Event(), threading.Event()
    outcomes: dict[int, object] = {}
    batcher = Batcher(held(started, release))

    async def submit() -> None:
        outcomes.update(await gathered(batcher, [7]))

    async with anyio.create_task_group() as outside:
        outside.start_soon(submit)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(batcher.run)
            await anyio.to_thread.run_sync(started.wait)
            tasks.cancel_scope.cancel()
    release.set()
    assert outcomes == {7: BatchFailed}


def held(started: threading.Event, release: threading.Event) -> Callable[..., Sequence[int]]:
    """A batch that hangs until it is released."""

    def run_batch(items: Sequence[int]) -> Sequence[int]:
        started.set()
        assert release.wait(timeout=600)
        return items

    return run_batch


async def test_leaving_the_block_waits_for_no_thread_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting items have a deadline; then they fail, and the thread is abandoned."""
    monkeypatch.setattr("ollama_gateway.storage.batcher.CLOSING_SECONDS", 0.01)
    release, started = threading.Event(), threading.Event()
    outcomes: dict[int, object] = {}

    async def submit(batcher: Batcher[int, int]) -> None:
        outcomes.update(await gathered(batcher, [7]))

    async with (
        anyio.create_task_group() as outside,
        Batcher(held(started, release)).opened() as batcher,
    ):
        outside.start_soon(submit, batcher)
        await anyio.to_thread.run_sync(started.wait)
    release.set()
    assert outcomes == {7: BatchFailed}


async def test_leaving_the_block_waits_five_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """Leaving takes no longer, however slow the store is."""
    async with (
        anyio.create_task_group() as outside,
        Batcher(Squares(), runner=Slow(3600)).opened() as batcher,
    ):
        outside.start_soon(gathered, batcher, [1, 2])
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == CLOSING_SECONDS


async def test_what_threads_use_is_closed_in_one_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hanging disk does not block the event loop, and a failed close does not stop the end."""
    monkeypatch.setattr("ollama_gateway.storage.batcher.CLOSING_SECONDS", 0.01)
    release, threads = threading.Event(), list[int]()

    def hang() -> None:
        threads.append(threading.get_ident())
        assert release.wait(timeout=600)

    async def no_thread(_work: Callable[[], S], /) -> S:
        raise RuntimeError("can't start new thread")

    await close_in_time(hang, in_thread)
    release.set()
    assert threading.get_ident() not in threads
    with structlog.testing.capture_logs() as lines:
        await close_in_time(hang, no_thread)
    assert [line["event"] for line in lines] == ["not closed"]
