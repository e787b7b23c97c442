"""Record a change that is made with `await`: its record is on the disk before it begins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import anyio

from ollama_gateway.errors import Unavailable
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange
from ollama_gateway.reasons import Reason
from ollama_gateway.storage.batcher import Runner

RECORD_SECONDS: Final = 10.0
"""Seconds that a disk has for the record, before and again after the change."""


@asynccontextmanager
async def recorded(
    recorder: ChangeRecorder, change: OperatorChange, runner: Runner
) -> AsyncIterator[None]:
    """Return the block in which a change is made; see `ChangeRecorder.making`.

    Raises ChangeNotRecorded, or Unavailable if the disk does not answer; then nothing may change.
    Who leaves while the record is written is heard after that, so that no record is left open.
    """
    making = recorder.making(change)
    is_entered = False
    with anyio.move_on_after(RECORD_SECONDS, shield=True):
        await runner(making.__enter__)
        is_entered = True
    if not is_entered:
        raise Unavailable("the audit log does not answer", reason=Reason.AUDIT_UNAVAILABLE)
    try:
        yield
    except BaseException as error:
        with anyio.move_on_after(RECORD_SECONDS, shield=True):
            await runner(partial(making.__exit__, type(error), error, error.__traceback__))
        raise
    with anyio.move_on_after(RECORD_SECONDS, shield=True):
        await runner(partial(making.__exit__, None, None, None))
