"""The usage journal: tokens spent against budgets, from which budgets are rebuilt.

Budgets are counted in this process or in Redis; a restart of the one or a wipe of the other loses
them. So usage is stored here too: in memory, which is authoritative, and in a file that follows it.
No request waits for the file. The changes of 100 ms form one transaction of absolute values, so a
failed write is simply repeated, and pending changes are bounded by the keys times their days and
the open requests. At the beginning of a month both drop the days that no budget needs.

The rules: begin and end are plain functions and cannot fail; a failing file is logged when it
begins and ends to fail. A killed process loses the usage of its last moment; for its open requests,
the next owner of the file charges the tokens last reported to the shared store, or else the bound
of the prompt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio
import attrs

from ollama_gateway.limits.calendar import first_day_kept, moment, month_of, utc_now
from ollama_gateway.limits.charges import Charge, OpenRequest
from ollama_gateway.limits.contributions import by_key
from ollama_gateway.limits.forgiven import KeyPeriod, Period, by_key_and_period
from ollama_gateway.limits.quota import clamp_tokens
from ollama_gateway.limits.usage_file import KeyDay, SpendingError, UsageFile, charge
from ollama_gateway.log import get_logger
from ollama_gateway.services import WriteBehind
from ollama_gateway.storage.batcher import Runner, close_quietly, in_thread

_log = get_logger("limits")


class UsageJournal:
    """The usage of this process and its open requests, written to `file` while `opened`.

    Args:
        file: this process's own; it stays open for longer than this object is used.
        runner: runs the writes.
        now: the wall clock.

    """

    def __init__(
        self, file: UsageFile, runner: Runner, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.identity = file.content.identity
        self._file = file
        self._runner = runner
        self._now = now
        self._months = {month_of(day) for _, day in file.content.spent}
        self._number = 0  # of the last write begun
        self._forget_before = 0  # a day; 0 if the file has nothing to drop
        self._spent = dict(file.content.spent)
        self._open: dict[str, OpenRequest] = {}
        self._changed: set[KeyDay] = set()
        self._forgiven = dict(file.content.forgiven)
        self._newly_forgiven: set[KeyPeriod] = set()
        self._tried = anyio.Event()
        """Set after the next write, whether it succeeds or fails."""
        self._service = WriteBehind(
            self._write,
            SpendingError,
            _log,
            fails="spending file failing",
            works="spending file works again",
        )

    def __repr__(self) -> str:
        state = "failing" if self.is_failing else "works"
        return f"<UsageJournal {len(self._open)} open, {len(self._changed)} to write, file {state}>"

    @property
    def is_failing(self) -> bool:
        """Whether the last write failed, so that a restart would lose the usage since."""
        return self._service.failure is not None

    @property
    def is_behind(self) -> bool:
        """Whether changes are not written yet."""
        return self._service.is_behind

    def begin(self, request_id: str, key_id: str, day: int, prompt: int) -> None:
        """Note a request that was admitted against a budget; a repeated call changes nothing.

        Args:
            request_id: unique for good.
            key_id: the key whose budget it is.
            day: of the budget; days since 1970-01-01, UTC.
            prompt: tokens of the prompt, at most.

        """
        self._open.setdefault(request_id, OpenRequest(key_id, day, clamp_tokens(prompt)))
        self._service.wake()

    def note_charges(self, charges: Mapping[str, Charge]) -> None:
        """Note the charges of open requests that were reported to a shared store.

        They count if this process never ends the request. Unknown and ended requests are ignored.
        """
        for request_id, (prompt, answer) in charges.items():
            reported, request = (
                (clamp_tokens(prompt), clamp_tokens(answer)),
                self._open.get(request_id),
            )
            if request is not None and request.reported != reported:
                self._open[request_id] = attrs.evolve(request, reported=reported)
                self._service.wake()

    def end(self, request_id: str, tokens: int) -> None:
        """Charge a request's usage; if it is unknown or has ended, change nothing."""
        request = self._open.pop(request_id, None)
        if request is None:
            return
        charge(self._spent, request, tokens)
        self._changed.add((request.key_id, request.day))
        self._service.wake()

    def totals(self) -> dict[str, dict[int, int]]:
        """Return a copy of the tokens spent, by key and day, without open requests."""
        return by_key(self._spent)

    def forgiven_of(self, key_id: str) -> dict[Period, int]:
        """Return what resets took off the usage of a key, by period."""
        return {period: n for (key, period), n in self._forgiven.items() if key == key_id}

    def forgive(self, key_id: str, totals: Mapping[Period, int]) -> None:
        """Note what resets took off, all in all; a smaller total than before changes nothing."""
        for period, tokens in totals.items():
            at, total = (key_id, period), clamp_tokens(tokens)
            if total > self._forgiven.get(at, 0):
                self._forgiven[at] = total
                self._newly_forgiven.add(at)
                self._service.wake()

    def forgiven(self) -> dict[str, dict[Period, int]]:
        """Return a copy of what resets took off, by key and period."""
        return by_key_and_period(self._forgiven)

    async def forgiven_is_written(self, seconds: float) -> bool:
        """Wait until the file has all that was forgiven; return whether it has, in time."""
        with anyio.move_on_after(seconds):
            while self._newly_forgiven:
                await self._tried.wait()
        return not self._newly_forgiven

    async def write(self) -> None:
        """Write the changes; if that fails, they stay pending. Not while `opened`."""
        await self._service.write()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Write changes for the length of the block; then write the rest and close, within 5 s."""
        try:
            async with self._service.opened(partial(close_quietly, self._file.close, self._runner)):
                yield
        finally:
            if self.is_behind:
                _log.error("spending not written")

    async def _write(self) -> bool:
        self._forget()
        changed, self._changed = self._changed, set()
        forgiven = {at: self._forgiven[at] for at in self._newly_forgiven}
        is_written = False
        self._number += 1
        try:
            spent, opened = {at: self._spent[at] for at in changed}, dict(self._open)
            write = partial(self._file.write, spent, opened, self._number, forgiven)
            self._forget_before = await self._runner(partial(self._put, write, self._forget_before))
            is_written = True
            self._newly_forgiven -= {at for at, n in forgiven.items() if n == self._forgiven[at]}
        finally:
            if not is_written:
                self._changed |= changed
            self._tried.set()
            self._tried = anyio.Event()
        return not self._forget_before

    def _put(self, write: Callable[[], None], before: int) -> int:
        """Write to the file and drop some old rows; return `before` if more remain, else 0."""
        write()
        return before if before and self._file.forget(before) else 0

    def _forget(self) -> None:
        """Drop the days that no budget needs, once usage falls in another month."""
        if {month_of(day) for _, day in self._changed} <= self._months:
            return
        first = first_day_kept({day for _, day in self._spent}, moment(0, self._now()).month)
        kept = {at: tokens for at, tokens in self._spent.items() if at[1] >= first}
        if len(kept) < len(self._spent):
            self._forget_before = first
        self._spent = kept
        self._changed = {at for at in self._changed if at[1] >= first}
        self._months = {month_of(day) for _, day in kept}


@asynccontextmanager
async def open_usage_journal(
    directory: Path, *, runner: Runner = in_thread, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[UsageJournal]:
    """Open this process's own file in `directory`, and keep it current for the length of a block.

    Args:
        directory: created if missing; shared by the gateways of one machine.
        runner: runs blocking work.
        now: the wall clock.

    Raises:
        SpendingError: no file can be opened, or the one that this process would take is broken.

    """
    month = moment(0, now()).month
    file = await runner(lambda: UsageFile(directory, month))
    usage_journal = UsageJournal(file, runner, now)
    async with usage_journal.opened():
        yield usage_journal
