"""Services: tasks that run for the length of a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import attrs

from ollama_gateway.log import Logger

SHORTEST_PAUSE: Final = 0.1
"""Seconds between the beginnings of two writes, unless callers wait for them."""
LONGEST_PAUSE: Final = 1.0
"""The same while writes fail: doubled with each, up to this."""
FINAL_WRITE_SECONDS: Final = 5.0
"""Seconds at the end for the changes that are not written yet."""


@asynccontextmanager
async def running(run: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run a task for the length of the block, and cancel it when the block is left.

    An exception of the block leaves unchanged, in no group.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, outside of the task group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


@attrs.define(eq=False)
class WriteBehind:
    """Writes changes to a file soon after they are made, while requests go on.

    A failed write is repeated, after pauses that double. The rules: no error of a write ends the
    service; a failing file is logged when it begins to fail and when it works again, not at every
    attempt; leaving the block takes 5 s at most, and a thread that hangs in a disk is abandoned.
    """

    write_changes: Callable[[], Awaitable[bool]]
    """Writes changes and returns whether none remain; after an error they are still pending."""
    expected: type[Exception]
    """The file's own error, whose text needs no type in the log."""
    log: Logger
    fails: str
    """The log event when writes begin to fail."""
    works: str
    """The log event when they work again."""
    details: Callable[[], Mapping[str, Any]] = dict
    """Returns more fields for the log."""
    is_eager: bool = False
    """Whether to write without a pause, as callers wait."""
    failure: str | None = attrs.field(default=None, init=False)
    """Why the last write failed; None if it did not."""
    _changed: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    def wake(self) -> None:
        """Note that something changed."""
        self._changed.set()

    @property
    def is_behind(self) -> bool:
        """Whether changes are not written yet."""
        return self._changed.is_set()

    async def write(self) -> None:
        """Write once. Not while `run` runs."""
        self._changed, is_done = anyio.Event(), False
        try:
            is_done = await self.write_changes()
        except self.expected as error:
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - the changes stay, and requests go on
            self._note(f"{type(error).__name__}: {error}")
        else:
            self._note(None)
        finally:
            if not is_done:
                self._changed.set()

    async def run(self) -> None:
        """Write changes until cancelled; start this service once."""
        pause = SHORTEST_PAUSE
        while True:
            await self._changed.wait()
            began = anyio.current_time()
            await self.write()
            is_failing = self.failure is not None
            pause = min(2 * pause, LONGEST_PAUSE) if is_failing else SHORTEST_PAUSE
            if is_failing or not self.is_eager:
                await anyio.sleep_until(began + pause)

    @asynccontextmanager
    async def opened(
        self, finish: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        """Run for the length of the block; then write the rest and `finish`, within 5 s."""
        try:
            async with running(self.run):
                yield
        finally:
            with anyio.move_on_after(FINAL_WRITE_SECONDS, shield=True):
                await self._write_the_rest()
                if finish is not None:
                    await finish()

    async def _write_the_rest(self) -> None:
        while self.is_behind:
            await self.write()
            if self.failure is not None:
                return

    def _note(self, failure: str | None) -> None:
        if failure is not None and self.failure is None:
            self.log.error(self.fails, cause=failure, **self.details())
        if failure is None and self.failure is not None:
            self.log.info(self.works, **self.details())
        self.failure = failure
