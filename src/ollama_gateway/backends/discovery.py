"""Discovery: one worker for each backend polls its models, never by an inference request.

A poll asks `/api/version` and `/api/tags`, then `/api/ps`. Ollama can hold `/api/ps` back while it
loads a model, so a missing answer there is no failure and the previous one stays. A failed poll is
repeated sooner than the interval, so that a dead backend is known within seconds.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, cast

import anyio
import attrs
import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Listing, listing_intake
from ollama_gateway.backends.connecting import connect_fault, tls_fault
from ollama_gateway.errors import BadRequest
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.parts import whole

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of one answer to a poll."""
RUNNING_TIMEOUT: Final = 1.0
"""Seconds for `/api/ps`: the start waits for a poll, and must not wait for a model to load."""
RUNNING_INTERVAL: Final = 1.0
"""Seconds between two questions for what is loaded."""
RETRY_AFTER_FAILURE: Final = 2.0
"""Seconds between failed polls, unless the interval is shorter: a backend that stops answering is
down within `3 * (2 s + timeout)`."""


class PollFailed(Exception):
    """A backend did not answer a poll as Ollama does; the message is the gateway's own text."""


async def poll(backend: Backend, timeout: float) -> Listing:
    """Poll a backend, as its requests reach it; raises PollFailed within `timeout` seconds."""
    try:
        with anyio.fail_after(timeout):
            version = await _get(backend, "/api/version")
            tags = await _get(backend, "/api/tags")
    except TimeoutError:
        raise PollFailed("no answer in time") from None
    running: object = None
    with anyio.move_on_after(min(timeout, RUNNING_TIMEOUT)):
        try:
            running = await _get(backend, "/api/ps")
        except PollFailed:
            running = None
    listing = Listing.read(version, tags, running, backend.patterns)
    if running is None and backend.listing is not None:
        return attrs.evolve(listing, running=backend.listing.running)
    return listing


async def _get(backend: Backend, path: str) -> object:
    try:
        response = await backend.transport.handle_async_request(
            backend.outgoing.request("GET", path, [(b"accept", b"application/json")])
        )
        try:
            if response.status_code != httpx.codes.OK:
                raise PollFailed(f"{path} answered {response.status_code}")
            return await _read(cast("httpx.AsyncByteStream", response.stream))
        finally:
            await response.aclose()
    except httpx.ConnectTimeout:
        raise PollFailed("no connection in time") from None
    except httpx.ConnectError as error:
        fault = tls_fault(error) or connect_fault(error)
        raise PollFailed(_with("cannot connect", fault)) from None
    except (httpx.TransportError, BadRequest, ValueError) as error:
        if fault := tls_fault(error):
            raise PollFailed(_with("the connection broke", fault)) from None
        raise PollFailed(f"{path} did not answer as Ollama does") from None


def _with(what: str, why: str | None) -> str:
    return f"{what}: {why}" if why else what


async def _read(stream: httpx.AsyncByteStream) -> object:
    """Read a JSON answer, a long one in turns; raises BadRequest if it is not JSON or too long."""
    intake = listing_intake()
    async for chunk in stream:
        if intake.size + len(chunk) > MAX_ANSWER:
            raise BadRequest("too long")
        intake.add(chunk)
        if intake.has_work:
            await in_turns(intake.work())
    return await in_turns(whole(await in_turns(intake.end())))


@attrs.frozen
class BackendDiscovery:
    """Keeps `backends` up to date by polls."""

    backends: Backends
    interval: float
    timeout: float
    _all_polled: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def watch(self, backend: Backend) -> None:
        """Poll one backend for ever."""
        while True:
            await self.poll_once(backend)
            failed = backend.failed_polls > 0
            await anyio.sleep(min(self.interval, RETRY_AFTER_FAILURE) if failed else self.interval)

    async def watch_running(self, backend: Backend) -> None:
        """Ask a backend what it has loaded whenever a request has changed that, without end.

        It is asked at once, and again after a second, since Ollama unloads a model a little later.
        """
        while True:
            await backend.load_changed.wait()
            backend.load_changed = trio.Event()
            for _ in range(2):
                await self.poll_running(backend)
                await anyio.sleep(RUNNING_INTERVAL)

    async def poll_running(self, backend: Backend) -> None:
        """Ask a backend once what it has loaded; if it does not answer, nothing changes."""
        with anyio.move_on_after(min(self.timeout, RUNNING_TIMEOUT)), suppress(PollFailed):
            self.backends.polled_running(backend, await _get(backend, "/api/ps"))

    async def poll_once(self, backend: Backend) -> None:
        """Poll one backend and record the outcome, unless a later poll has ended first."""
        backend.polls_begun += 1
        number = backend.polls_begun
        outcome: Listing | PollFailed
        try:
            outcome = await poll(backend, self.timeout)
        except PollFailed as failure:
            outcome = failure
        if number < backend.latest_poll:
            return
        backend.latest_poll = number
        if isinstance(outcome, Listing):
            self.backends.polled(backend, outcome, anyio.current_time())
        else:
            self.backends.failed(backend, str(outcome))
        if self.backends.were_all_polled:
            self._all_polled.set()

    async def refresh(self, backend: Backend) -> None:
        """Poll a backend whose models have changed; give up after `timeout` seconds."""
        with anyio.move_on_after(self.timeout):
            await self.poll_once(backend)

    async def first_round(self) -> None:
        """Wait until every backend has been polled, at most `timeout` seconds."""
        with anyio.move_on_after(self.timeout):
            await self._all_polled.wait()
