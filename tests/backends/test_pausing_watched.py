"""A running gateway follows the file of paused backends."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from pathlib import Path

import httpx
import pytest
import structlog.testing
import trio
import trio.testing

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.pausing import READ_SECONDS, PauseFile, Pauses
from tests.backends.asking import UNUSED
from tests.backends.spoilt_pauses import SPOILT


def two() -> Backends:
    """Make backends `a` and `b`."""
    made = [Backend(n, httpx.URL("http://h"), UNUSED) for n in "ab"]
    return Backends.of(made)


def paused(backends: Backends) -> list[str]:
    """Return the names of the paused backends."""
    return [backend.name for backend in backends.all if backend.is_paused]


async def test_a_gateway_does_as_the_file_says(tmp_path: Path) -> None:
    """A look pauses the backends in the file, resumes all others, and ignores unknown names."""
    file, backends = PauseFile(tmp_path), two()
    pauses = Pauses(file.read, backends)

    async def after(names: Collection[str]) -> list[str]:
        (tmp_path / "paused.json").write_text(json.dumps(list(names)))
        await pauses.look()
        return paused(backends)

    await pauses.look()
    assert paused(backends) == []
    assert await after(["a"]) == ["a"]
    assert await after(["b", "gone"]) == ["b"]
    assert await after(["b", "a"]) == ["a", "b"]
    assert await after([]) == []


@pytest.mark.parametrize("kind", SPOILT)
async def test_a_broken_file_leaves_things_as_they_are(tmp_path: Path, kind: str) -> None:
    """The last good content stays in force; the fault is logged once, and its end too."""
    file, backends = PauseFile(tmp_path), two()
    pauses = Pauses(file.read, backends)
    file.add("a")
    await pauses.look()
    (tmp_path / "paused.json").unlink()
    spoil, fault = SPOILT[kind]
    spoil(tmp_path / "paused.json")

    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await pauses.look()
        still = paused(backends)
        (tmp_path / "paused.json").rename(tmp_path / "away")
        await pauses.look()

    assert still == ["a"]
    assert paused(backends) == []
    assert [line["event"] for line in lines] == [
        "pauses cannot be read; the last known ones stay in force",
        "pauses can be read again",
        "backend resumed",
    ]
    assert lines[0]["reason"] == f"paused.json: {fault}"


async def test_another_fault_is_logged(tmp_path: Path) -> None:
    """Each change of the fault is one log line."""
    pauses = Pauses(PauseFile(tmp_path).read, two())
    with structlog.testing.capture_logs() as lines:
        for content in ("x", "x", "{}", "{}", "x"):
            (tmp_path / "paused.json").write_text(content)
            await pauses.look()

    assert [line["reason"] for line in lines] == [
        "paused.json: not JSON",
        "paused.json: not a list of names",
        "paused.json: not JSON",
    ]


async def test_a_file_system_that_hangs_holds_up_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Looks time out, use one thread in all, and go on once the file system answers again."""
    answers, begun = threading.Event(), []

    def read() -> frozenset[str]:
        begun.append(threading.current_thread())
        answers.wait()
        return frozenset({"a"})

    backends = two()
    pauses = Pauses(read, backends)
    with structlog.testing.capture_logs() as lines:
        for n in (1, 2, 3):
            await pauses.look()
            assert trio.current_time() == n * READ_SECONDS
    assert [line["reason"] for line in lines] == ["paused.json: the file system does not answer"]
    assert paused(backends) == []

    answers.set()
    autojump_clock.autojump_threshold = float("inf")  # no jump while a thread works
    await pauses.look()
    assert paused(backends) == ["a"]
    assert len(begun) == 2


async def test_a_change_of_its_own_is_not_taken_back_by_a_late_read(tmp_path: Path) -> None:
    """What was read before this process changed the file does not count any more."""
    has_read, may_end = threading.Event(), threading.Event()
    file, backends = PauseFile(tmp_path), two()

    def read() -> frozenset[str]:
        names = file.read()
        has_read.set()
        may_end.wait(READ_SECONDS)
        return names

    pauses = Pauses(read, backends)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pauses.look)
        await trio.to_thread.run_sync(has_read.wait)
        pauses.changed(file.add("a"))
        may_end.set()

    assert paused(backends) == ["a"]
    await pauses.look()
    assert paused(backends) == ["a"]
