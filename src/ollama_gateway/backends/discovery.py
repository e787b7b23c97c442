"""Discovery: one worker for each backend polls its models, never by an inference request.

A poll asks `/api/version` and `/api/tags`, then `/api/ps`. Ollama can hold `/api/ps` back while it
loads a model, so a missing answer there is no failure and the previous one stays. A failed poll is
repeated sooner than the interval, so that a dead backend is known within seconds.

Where a poll leaves open which models share their weights, a few questions to `/api/show` follow it
(`weights.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Final, cast

import anyio
import attrs
import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Listing, listing_intake, version_of
from ollama_gateway.backends.connecting import connect_fault
from ollama_gateway.backends.weights import blob_in, unclear_models
from ollama_gateway.errors import BadRequest
from ollama_gateway.tls_faults import tls_fault
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.parts import whole

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of one answer to a poll."""
RUNNING_TIMEOUT: Final = 1.0
"""Seconds for `/api/ps`: the start waits for a poll, and must not wait for a model to load."""
NEW_SECONDS: Final = 3.0
"""Seconds that a reload waits for polls of new backends."""
RUNNING_INTERVAL: Final = 1.0
"""Seconds between two questions for the loaded models."""
MAX_SHOWN: Final = 5
"""Descriptions that are asked for after one poll."""
SHOW_TIMEOUT: Final = 1.0
"""Seconds for all of them."""
RETRY_AFTER_FAILURE: Final = 2.0
"""Seconds between failed polls, unless the interval is shorter: a backend that stops answering is
down within `3 * (2 s + timeout)`."""
API_PATH: Final = re.compile(r"/(v1|api)(?:/|$)", re.IGNORECASE)
"""A part of Ollama's own paths, which people copy into a backend's URL."""


class PollFailed(Exception):
    """A backend did not answer a poll as Ollama does; the message is the gateway's own text."""


async def poll(backend: Backend, timeout: float) -> Listing:
    """Poll a backend, as its requests reach it; raises PollFailed within `timeout` seconds."""
    try:
        with anyio.fail_after(timeout):
            version = await _get(backend, "/api/version")
            tags = await _fetch(backend, "GET", "/api/tags")
            listing = await _listing(backend, version, tags)
    except TimeoutError:
        raise PollFailed("no answer in time") from None
    running: object = None
    with anyio.move_on_after(min(timeout, RUNNING_TIMEOUT)):
        try:
            running = await _get(backend, "/api/ps")
        except PollFailed:
            running = None
    if running is None:
        return listing
    return listing.with_running(running, backend.patterns)


async def _listing(backend: Backend, version: object, tags: _Polled) -> Listing:
    """Return the models and the version as polled, and the models loaded at the last poll.

    An answer that is the last one's, byte for byte, is not parsed again; one that says the same in
    other bytes leaves the models the objects that they are.
    """
    known = backend.listing
    if known is not None and known.source == tags.source:
        told = version_of(version)
        return known if known.version == told else attrs.evolve(known, version=told)
    listing = Listing.read(version, await _parsed(backend, tags), None, backend.patterns)
    if known is None:
        return attrs.evolve(listing, source=tags.source)
    models = known.models if listing.models == known.models else listing.models
    return attrs.evolve(listing, models=models, running=known.running, source=tags.source)


async def _get(backend: Backend, path: str) -> object:
    return await _parsed(backend, await _fetch(backend, "GET", path))


@attrs.frozen
class _Polled:
    """One answer to a poll.

    Args:
        path: the path that was asked.
        chunks: its bytes.
        source: their hash.

    """

    path: str
    chunks: list[bytes]
    source: bytes


async def _fetch(backend: Backend, method: str, path: str, content: bytes = b"") -> _Polled:
    """Read an answer; raises PollFailed."""
    try:
        response = await backend.transport.handle_async_request(
            backend.outgoing.request(method, path, [(b"accept", b"application/json")], content)
        )
        try:
            if response.status_code != httpx.codes.OK:
                raise PollFailed(f"{path} answered {response.status_code}{_hint(backend)}")
            return await _read(path, cast("httpx.AsyncByteStream", response.stream))
        finally:
            await response.aclose()
    except httpx.ConnectTimeout:
        raise PollFailed("no connection in time") from None
    except httpx.ConnectError as error:
        raise PollFailed(_with("cannot connect", connect_fault(error))) from None
    except (httpx.TransportError, BadRequest) as error:
        if fault := tls_fault(error):
            raise PollFailed(_with("the connection broke", fault)) from None
        raise _no_ollama(backend, path) from None


def _no_ollama(backend: Backend, path: str) -> PollFailed:
    return PollFailed(f"{path} did not answer as Ollama does{_hint(backend)}")


def _hint(backend: Backend) -> str:
    """Return a hint if the URL goes on where paths begin that the gateway adds itself."""
    found = API_PATH.search(backend.url.path)
    return f": its URL should end before /{found[1]}" if found else ""


def _with(what: str, why: str | None) -> str:
    return f"{what}: {why}" if why else what


async def _read(path: str, stream: httpx.AsyncByteStream) -> _Polled:
    """Read the bytes of an answer; raises BadRequest if they are too many."""
    chunks, size, source = [], 0, hashlib.blake2b()
    async for chunk in stream:
        size += len(chunk)
        if size > MAX_ANSWER:
            raise BadRequest("too long")
        chunks.append(chunk)
        source.update(chunk)
    return _Polled(path, chunks, source.digest())


async def _parsed(backend: Backend, answer: _Polled) -> object:
    """Parse a JSON answer, a long one in turns; raises PollFailed."""
    intake = listing_intake()
    try:
        for chunk in answer.chunks:
            intake.add(chunk)
            if intake.has_work:
                await in_turns(intake.work())
        return await in_turns(whole(await in_turns(intake.end())))
    except (BadRequest, ValueError):
        raise _no_ollama(backend, answer.path) from None


@attrs.define(eq=False)
class BackendDiscovery:
    """Keeps `backends` up to date by polls."""

    backends: Backends
    interval: float
    """Seconds between two polls of a backend."""
    timeout: float
    """Seconds that a poll may take."""
    _all_polled: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def watch(self, backend: Backend) -> None:
        """Poll one backend for ever."""
        examined: object = None
        while True:
            await self.poll_once(backend)
            if failed := backend.failed_polls > 0:
                examined = None
            elif backend.listing is not None and backend.listing.models is not examined:
                models = backend.listing.models
                examined = None if await self.learn_weights(backend) else models
            await anyio.sleep(min(self.interval, RETRY_AFTER_FAILURE) if failed else self.interval)

    async def learn_weights(self, backend: Backend) -> bool:
        """Ask a backend for descriptions of models that may share their weights, a few at a time.

        Each digest is asked for once while the backend is up, whatever comes of it. Returns whether
        there was any to ask for.
        """
        if backend.listing is None:
            return False
        unclear = list(islice(unclear_models(backend.listing, backend.blobs), MAX_SHOWN))
        with anyio.move_on_after(min(self.timeout, SHOW_TIMEOUT)), suppress(PollFailed):
            for entry in unclear:
                backend.note_blob(entry["digest"], "")
                question = json.dumps({"model": entry["name"]}).encode()
                answer = await _fetch(backend, "POST", "/api/show", question)
                backend.note_blob(entry["digest"], blob_in(await _parsed(backend, answer)))
        return bool(unclear)

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

    async def poll_new(self, backends: Iterable[Backend]) -> None:
        """Poll backends that will be used next, so that requests find them up; give up after 3 s.

        They need not be among `backends` yet.
        """
        with anyio.move_on_after(min(self.timeout, NEW_SECONDS)):
            async with anyio.create_task_group() as polls:
                for backend in backends:
                    polls.start_soon(self.poll_once, backend)

    async def first_round(self) -> None:
        """Wait until every backend has been polled, at most `timeout` seconds."""
        with anyio.move_on_after(self.timeout):
            await self._all_polled.wait()
