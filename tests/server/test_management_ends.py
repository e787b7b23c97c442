"""Management requests that end early, and how long they may take."""

from __future__ import annotations

import httpx
import pytest
import trio
import trio.testing

from ollama_gateway.backends.transport import ONCE, Transport
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Script
from tests.server.managing import ManagingClient, managed
from tests.support.scenario import Reply

pytestmark = pytest.mark.virtual_time

PULL = {"model": "new:1"}
HOUR = 3600.0


async def test_a_client_that_leaves_cancels_the_pull(client: ManagingClient) -> None:
    """When the client leaves, the backend's connection is closed at once."""
    client.scenario.simulators["a"].script(Script(pace=1), path="/api/pull")
    began = trio.current_time()
    reply = await client.ask("/api/pull", PULL, to="a", leave_at=3.5)
    await trio.testing.wait_all_tasks_blocked()
    pull = next(seen for seen in client.scenario.simulators["a"].seen if seen.path == "/api/pull")

    assert pull.gone_at == pytest.approx(began + 3.5)
    assert (len(reply.lines), reply.is_complete) == (3, False)
    assert [(record.outcome, record.backend) for record in client.scenario.records] == [
        ("client_gone", "a")
    ]
    assert client.scenario.records[0].duration == pytest.approx(3.5)


async def pulled(client: ManagingClient, *, pace: float, drain_at: float) -> Reply:
    """Return the answer to a pull of this pace while the gateway drains for 30 s."""
    client.scenario.simulators["a"].script(Script(pace=pace), path="/api/pull")

    async def drain() -> None:
        await trio.sleep(drain_at)
        client.scenario.gateway.app.drain(30)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        return await client.ask("/api/pull", PULL, to="a")


async def test_a_drain_ends_a_pull(client: ManagingClient) -> None:
    """At the drain's deadline a pull ends with an error event and a cut; the record says why."""
    reply = await pulled(client, pace=10, drain_at=15)

    assert reply.ended_at == pytest.approx(45, abs=0.1)
    assert (list(reply.lines[-1]), reply.is_complete) == (["error"], False)
    assert [(record.outcome, record.reason) for record in client.scenario.records] == [
        ("killed", "draining")
    ]


async def test_a_pull_that_ends_during_a_drain(client: ManagingClient) -> None:
    """A pull that ends before the drain's deadline ends normally."""
    reply = await pulled(client, pace=1, drain_at=2)
    assert (reply.lines[-1], reply.is_complete) == ({"status": "success"}, True)


async def test_a_pull_may_take_hours_while_it_goes_on(client: ManagingClient) -> None:
    """A pull has no deadline as a whole: each line has the idle timeout."""
    client.scenario.simulators["a"].script(Script(pace=299), path="/api/pull")
    reply = await client.ask("/api/pull", PULL, to="a")
    lines = len(reply.lines)

    assert (reply.lines[-1], reply.is_complete) == ({"status": "success"}, True)
    assert reply.ended_at == pytest.approx(299 * lines, abs=1)
    assert reply.ended_at is not None
    assert reply.ended_at > 30 * 60  # race.total_timeout


async def test_a_pull_without_progress_may_take_hours(client: ManagingClient) -> None:
    """A pull that is not streamed may go on while discovery finds its backend up."""
    client.scenario.simulators["a"].script(Script(before=5 * HOUR), path="/api/pull")
    reply = await client.ask("/api/pull", {**PULL, "stream": False}, to="a")

    assert (reply.status, reply.document) == (200, {"status": "success"})
    assert reply.ended_at == pytest.approx(5 * HOUR, abs=1)


async def test_such_a_pull_ends_when_its_backend_is_gone(client: ManagingClient) -> None:
    """Three failed polls end a pull that is not streamed."""
    async with trio.open_nursery() as nursery:
        hang = Script(hang_after=0)
        client.scenario.simulators["a"].script(hang, path="/api/pull")

        async def lose() -> None:
            await trio.sleep(HOUR)
            client.scenario.simulators["a"].script(hang, path="/api/version", times=None)
            for _ in range(3):
                await client.scenario.poll()

        nursery.start_soon(lose)
        reply = await client.ask("/api/pull", {**PULL, "stream": False}, to="a")

    assert reply.status == 502
    assert reply.ended_at == pytest.approx(HOUR + 9, abs=1)
    assert [record.reason for record in client.scenario.records] == ["backend_down"]


async def test_a_refresh_that_fails_holds_nothing_up(client: ManagingClient) -> None:
    """If the lists cannot be read, the answer ends after the poll's timeout."""
    client.scenario.simulators["a"].script(Script(hang_after=0), path="/api/tags")
    reply = await client.ask("/api/pull", PULL, to="a")
    await client.scenario.poll()

    assert (reply.lines[-1], reply.is_complete) == ({"status": "success"}, True)
    assert reply.ended_at == pytest.approx(3, abs=0.1)


async def test_a_poll_from_before_the_end_changes_nothing(client: ManagingClient) -> None:
    """A slow poll from before the end of a pull does not take the new model off the list."""
    async with trio.open_nursery() as nursery:
        old = client.scenario.simulators["a"]
        # The poll's answer is from before the pull, but arrives late.
        body = b'{"models":[]}'
        raw = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        ) % (len(body), body)
        old.script(Script(before=2, raw=raw), path="/api/tags")
        nursery.start_soon(
            client.scenario.gateway.parts.discovery.poll_once,
            client.scenario.gateway.backends.all[0],
        )
        await trio.sleep(0.5)
        await client.ask("/api/pull", PULL, to="a")
        before = await client.names()
        await trio.sleep(5)
        after = await client.names()

    assert before == after == ["new:1", "shared:1"]


class Watched(Transport):
    """A transport that notes whether requests may be sent twice."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(trio.sleep_forever)
        self.inner = inner
        self.once: list[bool] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Note the request, and hand it on."""
        if not request.url.path.startswith("/api/tags"):
            self.once.append(ONCE in request.extensions)
        return await self.inner.handle_async_request(request)


async def test_it_goes_out_once(client: ManagingClient) -> None:
    """Management requests are marked to be sent once: a resent one might be done twice."""
    backend = client.scenario.gateway.backends.all[0]
    backend.transport = watched = Watched(backend.transport)
    await client.ask("/api/copy", {"source": "none", "destination": "x"}, to="a")
    await client.ask(f"/api/blobs/sha256:{'0' * 64}", method="HEAD", to="a")
    backend.transport = watched.inner

    assert watched.once == [True, True]


async def test_rate_and_concurrency_bound_it_and_budgets_do_not() -> None:
    """Rate limits bound management, token budgets do not."""
    limits = KeyLimits(requests_per_minute=2, tokens_per_day=1)
    async with managed(limits=limits) as client:
        replies = [await client.ask("/api/pull", PULL, to="a") for _ in range(3)]

    assert [reply.status for reply in replies] == [200, 200, 429]
    assert "retry-after" in replies[-1].headers
    assert [record.reason for record in client.scenario.records] == [None, None, "rate"]
    assert len(client.paths("a")) == 2


async def test_a_pull_holds_a_place_to_its_end() -> None:
    """A pull holds its place among the key's requests until its last byte is sent."""
    async with managed(limits=KeyLimits(concurrent_requests=1)) as client:
        client.scenario.simulators["a"].script(Script(pace=1), path="/api/pull")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pull, client, "a", 200)
            await trio.sleep(2)
            await _pull(client, "b", 429)
        await _pull(client, "b", 200)


async def _pull(client: ManagingClient, to: str, status: int) -> None:
    assert (await client.ask("/api/pull", PULL, to=to)).status == status
