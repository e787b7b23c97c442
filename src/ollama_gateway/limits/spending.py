"""The record of tokens spent against budgets, from which they are rebuilt.

Budgets are counted in this process or in Redis; a restart of the one or a wipe of the other loses
them. So what is spent is kept here too: in memory, which is the truth, and in a file that follows
it. Nobody waits for the file. Whatever changed within 100 ms is one transaction of absolute values,
so that a write that failed is simply repeated, and what waits to be written is bounded by the keys
times their days, and the requests that are open. What no budget needs any more is forgotten in both
when a month begins.

The rules: begin and end are plain functions and cannot fail; a failing file is logged at its turns.
A process that is killed loses what it spent in the last moment; of a request that was open, the
next owner of the file charges what the shared store was told last, or else the prompt's bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs

from ollama_gateway.limits.calendar import first_day_kept, moment, month_of, utc_now
from ollama_gateway.limits.charges import Charge, Open
from ollama_gateway.limits.ownership import PATTERN
from ollama_gateway.limits.quota import clamp_tokens
from ollama_gateway.limits.spending_file import (
    KeyDay,
    SpendingError,
    SpendingFile,
    charge,
    read_file,
)
from ollama_gateway.log import get_logger
from ollama_gateway.services import running
from ollama_gateway.storage.batcher import Runner, in_thread, let_go

SHORTEST: Final = 0.1
"""Seconds between the beginnings of two writes."""
LONGEST: Final = 1.0
"""The same while they fail: doubled with each, up to this."""
CLOSING: Final = 5.0
"""Seconds at the end for what was not written yet."""

_log = get_logger("limits")


Totals = Mapping[str, Mapping[int, int]]
"""Tokens by the key's id and the day (days since 1970-01-01, UTC)."""


@attrs.frozen
class Contribution:
    """What another process spent, or one that has ended."""

    identity: str
    """Of its file, for good."""
    totals: Totals
    is_alive: bool
    """Whether a process still adds to it."""


Elsewhere = Callable[[], Awaitable[Mapping[str, Totals] | None]]
"""What records of spending had by their identities, as far as the trail of the fleet tells, or None
where it cannot be asked. A record may have more than that."""


class Spending:
    """What this process spent, and what is open; `run` writes it to `file`.

    Args:
        file: this process's own, open for longer than this object is used.
        runner: where writing runs.
        now: the wall clock.

    """

    def __init__(
        self, file: SpendingFile, runner: Runner, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.identity = file.content.identity
        self._file = file
        self._runner = runner
        self._now = now
        self._months = {month_of(day) for _, day in file.content.spent}
        self._number = 0  # of the last write that was begun
        self._forget_before = 0  # a day; 0 where the file has nothing to forget
        self._spent = dict(file.content.spent)
        self._open: dict[str, Open] = {}
        self._changed: set[KeyDay] = set()
        self._stirred = anyio.Event()  # set where the file is behind
        self._is_failing = False

    def __repr__(self) -> str:
        state = "failing" if self._is_failing else "works"
        return f"<Spending {len(self._open)} open, {len(self._changed)} to write, file {state}>"

    @property
    def is_failing(self) -> bool:
        """Whether the last write failed, so that a restart would lose what was spent since."""
        return self._is_failing

    @property
    def is_behind(self) -> bool:
        """Whether something is not written yet."""
        return self._stirred.is_set()

    def begin(self, request_id: str, key_id: str, day: int, prompt: int) -> None:
        """Note a request that was admitted against a budget of that day; once, then nothing.

        Args:
            request_id: unique for good.
            key_id: whose budget it is.
            day: days since 1970-01-01, UTC.
            prompt: tokens of the prompt, at most.

        """
        self._open.setdefault(request_id, Open(key_id, day, clamp_tokens(prompt)))
        self._stirred.set()

    def tell(self, charges: Mapping[str, Charge]) -> None:
        """Note what a shared store was told of open requests: of those that nobody ends it counts.

        What was not begun here, or has ended, is left out.
        """
        for request_id, (prompt, answer) in charges.items():
            told, request = (clamp_tokens(prompt), clamp_tokens(answer)), self._open.get(request_id)
            if request is not None and request.told != told:
                self._open[request_id] = attrs.evolve(request, told=told)
                self._stirred.set()

    def end(self, request_id: str, tokens: int) -> None:
        """Charge what a request used; where it is unknown or has ended, nothing changes."""
        request = self._open.pop(request_id, None)
        if request is None:
            return
        charge(self._spent, request, tokens)
        self._changed.add((request.key_id, request.day))
        self._stirred.set()

    def totals(self) -> dict[str, dict[int, int]]:
        """Tokens spent, by key and day, without what is open; a copy."""
        return _by_key(self._spent)

    async def run(self) -> None:
        """Write what changes until cancelled: the keeper's task, started once."""
        pause = SHORTEST
        while True:
            await self._stirred.wait()
            began = anyio.current_time()
            await self.write()
            pause = min(2 * pause, LONGEST) if self._is_failing else SHORTEST
            await anyio.sleep_until(began + pause)

    async def write(self) -> None:
        """Write what changed; what cannot be written stays changed. Not while `run` runs."""
        self._forget()
        changed, self._changed, self._stirred = self._changed, set(), anyio.Event()
        spent, opened = {at: self._spent[at] for at in changed}, dict(self._open)
        is_written = False
        self._number += 1
        try:
            self._forget_before = await self._runner(
                partial(self._put, spent, opened, self._number, self._forget_before)
            )
            is_written = True
            self._note(None)
        except Exception as error:  # noqa: BLE001 - requests go on, whatever it is
            self._note(error)
        finally:
            if not is_written:
                self._changed |= changed
            if not is_written or self._forget_before:
                self._stirred.set()

    def _put(
        self, spent: Mapping[KeyDay, int], opened: Mapping[str, Open], number: int, before: int
    ) -> int:
        """Write to the file, and drop some of what is to be forgotten; whether that was not all."""
        self._file.write(spent, opened, number)
        return before if before and self._file.forget(before) else 0

    def _forget(self) -> None:
        """Where something was spent in another month, forget what no budget needs any more."""
        if {month_of(day) for _, day in self._changed} <= self._months:
            return
        first = first_day_kept({day for _, day in self._spent}, moment(0, self._now()).month)
        kept = {at: tokens for at, tokens in self._spent.items() if at[1] >= first}
        if len(kept) < len(self._spent):
            self._forget_before = first
        self._spent = kept
        self._changed = {at for at in self._changed if at[1] >= first}
        self._months = {month_of(day) for _, day in kept}

    def _note(self, error: Exception | None) -> None:
        """Log the turns only: a disk that fails, fails ten times a second."""
        if error is not None and not self._is_failing:
            _log.error("spending file failing", cause=str(error))
        if error is None and self._is_failing:
            _log.info("spending file works again")
        self._is_failing = error is not None


@asynccontextmanager
async def open_spending(
    directory: Path, *, runner: Runner = in_thread, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[Spending]:
    """Open a file of this process's own in `directory`, and keep it true for the length of a block.

    Args:
        directory: made where there is none; shared by the gateways of one machine.
        runner: where blocking work runs.
        now: the wall clock.

    Raises:
        SpendingError: no file can be opened, or the one that is this process's to take is broken.

    """
    month = moment(0, now()).month
    file = await runner(lambda: SpendingFile(directory, month))
    spending = Spending(file, runner, now)
    try:
        async with running(spending.run):
            yield spending
    finally:
        with anyio.move_on_after(CLOSING, shield=True):
            if spending.is_behind:
                await spending.write()
            await let_go(file.close, runner)
        if spending.is_behind:
            _log.error("spending not written")
        file.close()


def contributions_of(spent: Mapping[str, Totals]) -> list[Contribution]:
    """What was learned elsewhere, as if the records had said it."""
    return [Contribution(whose, totals, is_alive=False) for whose, totals in spent.items()]


def others(directory: Path, own: str) -> list[Contribution]:
    """What all files in `directory` hold but the one whose identity is `own`; blocking.

    Open requests count only where the file's process has ended. A file is
    never changed; one that cannot be read is logged and left out. A process that starts meanwhile
    and is to own the file waits until it was read, and after 2 s takes the next one: it does not
    fail, and what was read stays true, since it charges the same before it lives.
    """
    found = [_contribution(path) for path in sorted(directory.glob(PATTERN))]
    return [given for given in found if given is not None and given.identity != own]


def charged_in(directory: Path) -> dict[str, Charge]:
    """What was charged for requests whose processes were killed, by their ids; blocking.

    As `others` reads the files; of a process that lives it may be what it has told so far.
    """
    found: dict[str, Charge] = {}
    for path in sorted(directory.glob(PATTERN)):
        try:
            content = read_file(path)
        except SpendingError as error:
            _log.warning("spending file left out", cause=str(error))
        else:
            found.update(content.charges if content else {})
    return found


def _contribution(path: Path) -> Contribution | None:
    try:
        content = read_file(path)
    except SpendingError as error:
        _log.warning("spending file left out", cause=str(error))
        return None
    if content is None:
        return None
    return Contribution(content.identity, _by_key(content.spent), content.is_alive)


def _by_key(spent: Mapping[KeyDay, int]) -> dict[str, dict[int, int]]:
    found: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for (key_id, day), tokens in spent.items():
        found[key_id][day] = tokens
    return dict(found)
