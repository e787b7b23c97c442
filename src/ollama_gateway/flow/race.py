"""The race for the first good chunk: candidates in order, one cancel scope, one winner.

The shape is that of happy eyeballs (RFC 8305; trio's `open_tcp_stream` shows it best): each
candidate gets a task; the next one starts when the last one has failed, or has had `stagger`
seconds; the first good chunk cancels the rest. With an endless `stagger` this is failover. An
attempt that loses closes its own connection; the winner is handed over by being returned, and
closed when the block is left.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final, TypeVar

import anyio
import httpx

from ollama_gateway.backends.backends import Backend
from ollama_gateway.errors import (
    Forbidden,
    GatewayError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from ollama_gateway.flow.attempt import Answer, AttemptFailed

T = TypeVar("T")
FULL: Final = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
NOTHING_REACHED: Final = {"connect_failed", "backend_down"}
RETRY_AFTER: Final = 5.0
"""Seconds, where no backend said when to come back."""


@asynccontextmanager
async def race(
    candidates: Iterator[Backend],
    start: Callable[[Backend], Awaitable[Answer]],
    max_attempts: int,
    patience: float,
    stagger: float = math.inf,
) -> AsyncIterator[Answer]:
    """The winner of the race, open for the length of the block.

    `patience` is how many seconds the first good chunk may take in all, then UpstreamTimeout.
    Raises the client's own error (`BackendRefused`), or what became of the attempts when all
    failed: UpstreamFailed (502 or the last one's status), Unavailable, Forbidden.
    """
    answer: Answer | None = None
    with anyio.move_on_after(patience):
        answer = await _first_good(islice(candidates, max_attempts), start, stagger)
    if answer is None:
        raise UpstreamTimeout
    try:
        yield answer
    finally:
        await answer.aclose()


async def _first_good(
    candidates: Iterator[Backend], start: Callable[[Backend], Awaitable[Answer]], stagger: float
) -> Answer:
    answers: list[Answer] = []
    refusals: list[GatewayError] = []
    failures: list[AttemptFailed] = []

    async def run(candidate: Backend, failed: anyio.Event) -> None:
        try:
            answer = await start(candidate)
        except AttemptFailed as failure:
            failures.append(failure)
            failed.set()
        except GatewayError as refusal:
            refusals.append(refusal)
            attempts.cancel_scope.cancel()
        else:
            answers.append(answer)
            attempts.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as attempts:
            for candidate in candidates:
                failed = anyio.Event()
                attempts.start_soon(run, candidate, failed)
                with anyio.move_on_after(stagger):
                    await failed.wait()
    except BaseException:
        await _close(answers)
        raise
    await _close(answers[1:])
    if answers:
        return answers[0]
    raise refusals[0] if refusals else verdict(failures)


async def _close(answers: Sequence[Answer]) -> None:
    """Close what won too late, or for nobody: two may finish in the same instant."""
    for answer in answers:
        await answer.aclose()


def verdict(failures: Sequence[AttemptFailed]) -> GatewayError:
    """What the client is told when no attempt gave a good chunk: the last one's own words.

    A 404 says only that this backend has lost the model, so it speaks when there is nothing else.
    """
    if not failures:
        return Unavailable()
    found = [failure for failure in failures if failure.status != httpx.codes.NOT_FOUND]
    if not found:
        return Forbidden(reason="backend_lacks_model")
    last = found[-1]
    if all(failure.reason in NOTHING_REACHED for failure in found):
        return Unavailable()
    wait = last.retry_after or (RETRY_AFTER if last.status in FULL else None)
    passed_on = last.status if last.status in FULL or (last.status or 0) >= 500 else None  # noqa: PLR2004
    return UpstreamFailed(
        last.message, reason=last.reason, retry_after=wait, status=passed_on or 502
    )
