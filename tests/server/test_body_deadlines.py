"""Deadlines of request bodies, and whether a body is at hand."""

from __future__ import annotations

import pytest
import trio

from ollama_gateway.errors import RequestTimeout
from ollama_gateway.flow.ask import SMALL_BODY_BYTES
from ollama_gateway.server.bodies import (
    AT_HAND_SECONDS,
    BODY_GRACE_SECONDS,
    MIN_BODY_RATE,
    BodyShare,
)
from ollama_gateway.server.downstream import ASGIDownstream
from ollama_gateway.wire.large import RequestBody
from tests.server.test_bodies import END, KIBIBYTE, Script, read, roomy

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(
    ("announced", "steps", "late_after"),
    [
        (640 * KIBIBYTE, [(1, 9 * KIBIBYTE)] * 69, None),
        (640 * KIBIBYTE, [(1, 9 * KIBIBYTE)] * 72, 70),
        (None, [(1, 9 * KIBIBYTE)] * 69, None),
        (None, [(1, 9 * KIBIBYTE)] * 72, 60 + 69 * 9 / 64),
        (None, [(1, MIN_BODY_RATE)] * 600, 60 + 60 / 64),
        (10, [(9, 1)] * 10, BODY_GRACE_SECONDS),
        (1024 * KIBIBYTE, [(0.5, 64 * KIBIBYTE)] * 16, None),
    ],
    ids=["announced", "too late", "chunked", "chunked, late", "the slowest", "silent", "quick"],
)
async def test_a_body_has_a_deadline(
    announced: int | None, steps: list[tuple[float, int]], late_after: float | None
) -> None:
    """A body has a minute plus the time for its size, or its bytes so far, at 64 KiB a second."""
    budget = roomy()
    started = trio.current_time()
    body = await read(Script(steps, END), budget, announced)
    if late_after is None:
        assert isinstance(body, RequestBody)
    else:
        assert isinstance(body, RequestTimeout)
        assert body.reason == "slow_body"
        assert trio.current_time() - started == pytest.approx(late_after, abs=0.01)
    assert budget.held == 0


@pytest.mark.parametrize(
    ("announced", "steps", "is_at_hand", "seconds"),
    [
        (0, [], True, 0),
        (7, [(0, 3), (0, 4)], True, 0),
        (7, [(0.1, 3), (0.1, 4)], True, 0.2),
        (7, [(0.2, 3), (0.1, 4)], False, AT_HAND_SECONDS),
        (SMALL_BODY_BYTES, [(0, SMALL_BODY_BYTES)], True, 0),
        (SMALL_BODY_BYTES + 1, [(0, SMALL_BODY_BYTES + 1)], False, 0),
        (None, [(0, 7)], False, 0),
    ],
    ids=["none", "there", "soon", "later", "at most", "large", "chunked"],
)
async def test_whether_a_body_is_at_hand(
    announced: int | None,
    steps: list[tuple[float, int]],
    is_at_hand: bool,  # noqa: FBT001 - a table's column
    seconds: float,
) -> None:
    """A body is at hand if small, announced, and whole in a moment; no byte of it is lost."""
    script = Script(steps, END)
    started = trio.current_time()
    with BodyShare(roomy()) as share:
        downstream = ASGIDownstream(script, script.send, share, None, announced, answer_headers=[])
        assert await downstream.is_at_hand() == is_at_hand
        assert trio.current_time() - started == pytest.approx(seconds, abs=0.001)
        size = sum(size for _, size in steps)
        assert await downstream.body() == (b"{}" if size else b"").ljust(size)
