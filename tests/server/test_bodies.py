"""Request bodies are bounded in size, in time, and all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from ollama_gateway.errors import (
    BodyTooLarge,
    GatewayError,
    LimitReached,
    RequestTimeout,
    Unavailable,
)
from ollama_gateway.server.bodies import BODY_GRACE_SECONDS, MIN_BODY_RATE, BodyBudget, BodyShare
from ollama_gateway.server.downstream import ASGIDownstream
from ollama_gateway.wire.large import RequestBody
from tests.http.serving import gateway, serving
from tests.support.patience import until

KIBIBYTE = 1024
POST = b"POST /body HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"


@attrs.define(eq=False)
class Script:
    """A client that sends so many bytes after so many seconds, then the last event."""

    steps: Sequence[tuple[float, int]]
    last: Any
    on_disconnect: Callable[[], None] = attrs.field(init=False)
    sent: list[Any] = attrs.field(factory=list, init=False)
    is_asked: bool = attrs.field(default=False, init=False)
    is_empty: bool = attrs.field(default=True, init=False)
    is_open: bool = attrs.field(default=False, init=False)
    """Whether its JSON object has come; the rest of its body is white space."""
    _next: int = attrs.field(default=0, init=False)

    def drop(self) -> None:
        """Do nothing."""

    async def __call__(self) -> Any:
        """Return the next ASGI event."""
        self.is_asked = True
        if self._next == len(self.steps):
            self._next += 1
            if self.last is GONE:
                self.on_disconnect()
            return self.last
        if self._next > len(self.steps):
            await trio.sleep_forever()
        seconds, size = self.steps[self._next]
        await trio.sleep(seconds)
        self._next += 1
        body = (b"" if self.is_open or size < len(b"{}") else b"{}").ljust(size)
        self.is_open |= bool(body.strip())
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(self, event: Any) -> None:
        """Note an event that the client would get."""
        self.sent.append(event)


END = {"type": "http.request", "body": b"", "more_body": False}
MORE = {"type": "http.request", "body": b"", "more_body": True}
GONE = {"type": "http.disconnect"}


async def read(
    script: Script, budget: BodyBudget, announced: int | None = None, key_id: str = ""
) -> RequestBody | GatewayError | None:
    """Return the body, the error that reading it raised, or None if the client left."""
    with BodyShare(budget) as share:
        downstream = ASGIDownstream(script, script.send, share, None, announced, answer_headers=[])
        with trio.CancelScope() as request:
            script.on_disconnect = downstream.cancel_on_disconnect(request)
            try:
                return await downstream.body(key_id)
            except GatewayError as error:
                return error
    assert downstream.is_gone
    return None


def roomy() -> BodyBudget:
    """Return a budget of one MiB for each body and four for all."""
    return BodyBudget(1024 * KIBIBYTE, 4096 * KIBIBYTE)


async def test_a_body_arrives_whole(autojump_clock: MockClock) -> None:
    """The parts of a body are joined in order, and its memory is given back."""
    budget = roomy()
    assert await read(Script([(0, 3), (1, 4)], END), budget) == b"{}     "
    assert budget.held == 0


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([], BODY_GRACE_SECONDS),
        ([(1, 1)] * 100, BODY_GRACE_SECONDS),
        ([(5, KIBIBYTE)] * 100, 10 + 2),
        ([(3, KIBIBYTE)] * 100, 10 + 4),
    ],
    ids=["silence", "a byte a second", "a fifth of the rate", "a third of the rate"],
)
async def test_a_dripped_body_is_too_slow(
    steps: list[tuple[float, int]], seconds: float, autojump_clock: MockClock
) -> None:
    """A slow body gets 408 after ten seconds, and one more for each KiB that came."""
    budget = roomy()
    started = trio.current_time()
    error = await read(Script(steps, MORE), budget)
    assert isinstance(error, RequestTimeout)
    assert error.reason == "slow_body"
    assert trio.current_time() - started == pytest.approx(seconds, abs=0.01)
    assert budget.held == 0


async def test_a_slow_line_is_no_fault(autojump_clock: MockClock) -> None:
    """A body at exactly the slowest rate is received."""
    started = trio.current_time()
    body = await read(Script([(1, MIN_BODY_RATE)] * 60, END), roomy())
    assert isinstance(body, RequestBody)
    assert trio.current_time() - started == pytest.approx(60)


async def test_a_body_announced_too_large_is_not_read(autojump_clock: MockClock) -> None:
    """A body announced as too large gets 413 before a byte of it is received."""
    script = Script([(0, 10)], END)
    budget = roomy()
    assert isinstance(await read(script, budget, announced=budget.limit + 1), BodyTooLarge)
    assert not script.is_asked


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False)])
async def test_the_limit_is_exact(extra: int, fits: bool, autojump_clock: MockClock) -> None:  # noqa: FBT001 - a table's column
    """A body without a length is refused one byte above the limit, not before."""
    budget = roomy()
    script = Script([(0, 64 * KIBIBYTE)] * 16 + [(0, extra)], END)
    body = await read(script, budget)
    assert isinstance(body, RequestBody) == fits
    assert isinstance(body, BodyTooLarge) != fits
    assert budget.held == 0


async def test_all_bodies_share_one_budget(autojump_clock: MockClock) -> None:
    """Of five bodies at once the one over the total is refused; all memory is given back."""
    budget = roomy()
    results: list[Any] = []
    most = 0

    async def client(number: int) -> None:
        nonlocal most
        steps = [(1.0, 64 * KIBIBYTE)] * 16
        results.append(await read(Script(steps, END), budget, key_id=f"key {number}"))
        most = max(most, budget.held)

    async with trio.open_nursery() as clients:
        for number in range(5):
            clients.start_soon(client, number)
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert {error.reason for error in refused} == {"bodies_full"}
    assert len(refused) == 1
    assert sum(isinstance(result, RequestBody) for result in results) == 4
    assert 0 < most <= budget.total
    assert budget.held == 0


@pytest.mark.parametrize(("total", "held"), [(16 * 1024, 4 * 1024), (2 * 1024, 1024), (1024, 1024)])
async def test_one_key_holds_a_quarter_of_the_budget(
    total: int, held: int, autojump_clock: MockClock
) -> None:
    """One key may hold a quarter of the memory, or one whole body; others have the remainder."""
    budget = BodyBudget(1024, total)
    with ExitStack() as shares:
        for _ in range(held // 512):
            shares.enter_context(BodyShare(budget, "one")).take(512)
        with BodyShare(budget, "one") as share, pytest.raises(LimitReached) as refusal:
            share.take(1)
        assert (refusal.value.status, refusal.value.reason) == (429, "key_bodies_full")
        assert refusal.value.retry_after == 1
        if held < total:
            shares.enter_context(BodyShare(budget, "other")).take(512)
        else:
            with BodyShare(budget, "other") as share, pytest.raises(Unavailable):
                share.take(1)
    assert budget.held == 0
    assert not budget.held_by


async def test_a_client_that_leaves_gives_its_share_back(autojump_clock: MockClock) -> None:
    """A client that leaves in the middle of its body holds no memory."""
    budget = roomy()
    assert await read(Script([(1, KIBIBYTE)], GONE), budget) is None
    assert budget.held == 0


async def test_over_the_limit_over_the_wire() -> None:
    """A body over the limit gets 413, announced or chunked."""
    app = gateway(max_body=100_000)
    async with serving(app) as peer:
        announced = await peer.exchange(POST + b"content-length: 100001\r\n\r\n")
        chunks = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        chunked = await peer.exchange(POST + b"transfer-encoding: chunked\r\n\r\n" + chunks * 8)
        assert announced.startswith(b"HTTP/1.1 413 ")
        assert chunked.startswith(b"HTTP/1.1 413 ")
        await peer.wait_until_quiet()
        assert app.bodies.held == 0


@pytest.mark.parametrize("framing", [b"content-length: 3000000", b"transfer-encoding: chunked"])
async def test_a_large_body_that_is_bad_is_refused_at_its_end(framing: bytes) -> None:
    """A client that sends all before it reads gets the 400; none of the body is kept."""
    app = gateway()
    body = b'{"a":' + b"[" * 2_999_995
    chunks = b"".join(
        b"186a0\r\n" + body[n : n + 100_000] + b"\r\n" for n in range(0, 3 * 10**6, 10**5)
    )
    sent = chunks + b"0\r\n\r\n" if b"chunked" in framing else body
    async with serving(app) as peer:
        answer = await peer.exchange(POST + framing + b"\r\n\r\n" + sent)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"the request body is nested too deeply" in answer
        await peer.wait_until_quiet()
        assert app.bodies.held == 0


async def test_all_together_over_the_wire() -> None:
    """When memory is full another key's body gets 503 and the same key's 429; later both fit."""
    app = gateway(max_body=100_000, max_all=150_000)
    body = POST + b"content-length: 100000\r\n\r\n" + b"x" * 100_000
    others = body.replace(b"host: h", b"host: h\r\nauthorization: Bearer other")
    async with serving(app) as peer:
        async with await peer.connect() as holder:
            await holder.send_all(body[:-1])
            await until(lambda: app.bodies.held == 99_999)
            refused = await peer.exchange(others)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in refused
            its_own = await peer.exchange(body)
            assert its_own.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: 1\r\n" in its_own
        await until(lambda: app.bodies.held == 0)
        assert (await peer.exchange(body)).endswith(b"100000")
        await peer.wait_until_quiet()
        assert app.bodies.held == 0


def test_a_share_is_given_back() -> None:
    """A share is given back at the end of its block, and a refusal takes nothing."""
    budget = BodyBudget(limit=10, total=10)
    with BodyShare(budget) as share:
        share.take(10)
        with pytest.raises(Unavailable):
            share.take(1)
        assert budget.held == 10
    assert budget.held == 0
