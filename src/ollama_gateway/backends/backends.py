"""The backends and what is known of them now; changed only by functions that do not await.

A backend is *up* from its first good poll until three polls in a row have failed. Its models
leave the lists when it goes down, but stay known for routing: a model whose backends are all down
is a 503 that says when to come back, not a 403 (`check` tells the two apart). When a backend goes
down, its attempts without a good chunk are cancelled at once: they are waiting for nobody. One that
is *paused* gets no new attempts, and keeps its streams and its place in the lists.

Whatever may give room to a request that waits ends with `line.dispatch()`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import attrs
import httpx
import trio

from ollama_gateway.backends.breaker import Breaker
from ollama_gateway.backends.catalog import Catalog, Listing, allows
from ollama_gateway.backends.health import Health
from ollama_gateway.backends.mismatch import log_digest_mismatches
from ollama_gateway.backends.outgoing import Outgoing
from ollama_gateway.backends.transport import Transport
from ollama_gateway.backends.waiting import WaitingLine
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.wire.names import ModelName

FAILED_POLLS_TO_DOWN: Final = 3
REMEMBERED_SECONDS: Final = 24 * 3600.0
"""Seconds for which a model that is listed nowhere stays known for routing."""
UNLISTED: Final = "-"
"""The health key of all unlisted models: cloud names, of which a client can invent any number."""

log = get_logger("backends")


class ModelDown(Exception):
    """The model is known, and no backend that hosts it may be asked now.

    Args:
        reason: `backends_down`, or `backends_paused` where that is all that keeps it.

    """

    def __init__(self, reason: str = "backends_down") -> None:
        super().__init__(reason)
        self.reason = reason


class ModelUnknown(Exception):
    """No backend hosts the model, nor did for as long as is remembered."""


@attrs.define(eq=False)
class Backend:
    """One Ollama server: how to reach it, and how it does."""

    name: str
    url: httpx.URL
    transport: Transport = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Sent with every request; may hold secrets."""
    priority: int = 1
    patterns: tuple[str, ...] = ("*",)
    slots: int = 0
    """Attempts at once; 0 is no cap."""
    in_flight: int = attrs.field(default=0, init=False)
    is_paused: bool = attrs.field(default=False, init=False)
    breaker: Breaker = attrs.field(factory=Breaker, init=False, repr=False)
    """Of connecting to it at all; each of its models has one of its own."""
    health: dict[str, Health] = attrs.field(factory=dict, init=False, repr=False)
    """By the model's key."""
    listing: Listing | None = attrs.field(default=None, init=False, repr=False)
    failed_polls: int = attrs.field(default=0, init=False)
    error: str | None = attrs.field(default=None, init=False)
    """Why the last poll failed: a fixed text of ours."""
    polls: int = attrs.field(default=0, init=False)
    polls_begun: int = attrs.field(default=0, init=False)
    latest_poll: int = attrs.field(default=0, init=False)
    """The number of the poll that began last of those that ended: none before it counts now."""
    answered: set[str] = attrs.field(factory=set, init=False, repr=False)
    """Keys of the listed models that have answered since the last poll."""
    unanswered: set[trio.CancelScope] = attrs.field(factory=set, init=False, repr=False)
    """Scopes of the attempts that have no good chunk yet."""
    outgoing: Outgoing = attrs.field(init=False, repr=False)
    """What makes its requests."""

    def __attrs_post_init__(self) -> None:
        self.outgoing = Outgoing.of(self.url, self.headers)

    @property
    def is_up(self) -> bool:
        """Answered a poll, and not failed three in a row since."""
        return self.listing is not None and self.failed_polls < FAILED_POLLS_TO_DOWN

    def hosts(self, model: ModelName) -> bool:
        """Whether the last listing has the model; a cloud name is served without being listed."""
        if self.listing is None:
            return False
        return model.key in self.listing.models or (model.cloud and allows(self.patterns, model))

    def has_warm(self, model: ModelName) -> bool:
        """Whether the model was loaded at the last poll, or has answered since."""
        return self.has_warm_key(model.key)

    def has_warm_key(self, key: str) -> bool:
        """The same by the model's key."""
        is_running = self.listing is not None and key in self.listing.running
        return is_running or key in self.answered

    def has_answered(self, model: ModelName) -> None:
        """Note that the model is loaded now, as far as it is one that the backend lists."""
        if self.listing is not None and model.key in self.listing.models:
            self.answered.add(model.key)

    @property
    def is_full(self) -> bool:
        """Whether as many attempts run as it has slots."""
        return 0 < self.slots <= self.in_flight

    def health_of(self, model: ModelName) -> Health:
        """How it does with a model."""
        is_listed = self.listing is not None and model.key in self.listing.models
        key = model.key if is_listed else UNLISTED
        if key not in self.health:
            self.health[key] = Health()
        return self.health[key]

    def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        content: bytes | httpx.AsyncByteStream = b"",
    ) -> httpx.Request:
        """A request or a poll as this backend gets it: its own address, host and headers.

        The length of a streamed body is said in `headers`, where it is known.
        """
        return self.outgoing.request(method, path, headers, content)

    def spelling(self, model: ModelName) -> str | None:
        """How the backend itself writes the model's name; None for what it does not list."""
        entry = self.listing.models.get(model.key) if self.listing else None
        return entry["name"] if entry else None

    def context(self, model: ModelName) -> int | None:
        """The context that the backend lists for a model (`/api/tags`, since Ollama 0.30)."""
        entry = self.listing.models.get(model.key) if self.listing else None
        details = entry.get("details") if entry else None
        tokens = details.get("context_length") if isinstance(details, dict) else None
        return tokens if type(tokens) is int and tokens > 0 else None


@attrs.define(eq=False)
class Backends:
    """All backends in order of preference, and the catalog of those that are up."""

    all: tuple[Backend, ...]
    metrics: Metrics = attrs.field(factory=Metrics)
    line: WaitingLine = attrs.field(factory=WaitingLine, init=False)
    catalog: Catalog = attrs.field(factory=Catalog, init=False)
    last_version: str | None = attrs.field(default=None, init=False)
    _last_seen: dict[str, float] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(cls, backends: Iterable[Backend], metrics: Metrics | None = None) -> Backends:
        """Order by priority; equal priorities keep the order of the settings."""
        ordered = sorted(backends, key=lambda backend: backend.priority)
        return cls(tuple(ordered), metrics or Metrics())

    async def aclose(self) -> None:
        """Close the connections that are kept for next requests; forced, so it takes no time."""
        with trio.move_on_after(1, shield=True):
            for backend in self.all:
                await backend.transport.aclose()

    @property
    def were_all_polled(self) -> bool:
        """Whether the first round of discovery is over."""
        return all(backend.polls for backend in self.all)

    def named(self, name: str) -> Backend | None:
        """The backend of that name."""
        return next((backend for backend in self.all if backend.name == name), None)

    def check(self, model: ModelName, now: float, only: Backend | None = None) -> None:
        """Raise ModelDown or ModelUnknown where no backend hosts the model now.

        `only` is the one that may be asked, where the request has named it.
        """
        hosts = [b for b in self.all if b.is_up and b.hosts(model) and only in (None, b)]
        if not hosts:
            is_elsewhere = only is not None and only.is_up
            is_down = self._is_known(model, now) and not is_elsewhere
            raise ModelDown if is_down else ModelUnknown
        if all(backend.is_paused for backend in hosts):
            raise ModelDown("backends_paused")

    def context(self, model: ModelName) -> int | None:
        """Tokens that the model was trained for, the most of any backend; None if none says."""
        found = (backend.context(model) for backend in self.all)
        return max((tokens for tokens in found if tokens), default=None)

    def polled(self, backend: Backend, listing: Listing, now: float) -> None:
        """A poll succeeded: the catalog is what it says."""
        if not backend.is_up:
            log.info("backend up", backend=backend.name, models=len(listing.models))
            for health in backend.health.values():
                health.backoff_until = now  # it was another process that said that it is full
        backend.polls += 1
        backend.failed_polls, backend.error = 0, None
        backend.listing = listing
        backend.answered.clear()
        kept = {UNLISTED, *listing.models}
        backend.health = {key: health for key, health in backend.health.items() if key in kept}
        self._renew(now)

    def failed(self, backend: Backend, reason: str, now: float) -> None:
        """A poll failed; the third in a row takes the backend out and ends its attempts."""
        was_up = backend.is_up
        backend.polls += 1
        backend.failed_polls += 1
        backend.error = reason
        if backend.is_up:
            return
        for scope in backend.unanswered:
            scope.cancel()
        if was_up or backend.polls == 1:
            log.warning("backend down", backend=backend.name, reason=reason)
        self._renew(now)

    def restore(self, backend: Backend, listing: Listing, now: float) -> None:
        """Take over what another process saw, until this one has polled by itself."""
        if backend.polls == 0:
            backend.listing = listing
            self._renew(now)

    def lost(self, backend: Backend, model: ModelName, now: float) -> None:
        """A backend has not what it lists: the model is off its list until the next poll."""
        if backend.listing is None or model.key not in backend.listing.models:
            return
        models = {k: entry for k, entry in backend.listing.models.items() if k != model.key}
        backend.listing = attrs.evolve(backend.listing, models=models)
        log.warning("backend lacks a model it lists", backend=backend.name, model=model.short)
        self._renew(now)

    def forget(self, model: ModelName) -> None:
        """A model was deleted: where no backend lists it any more, nobody hosts it."""
        if not any(b.listing and model.key in b.listing.models for b in self.all):
            self._last_seen.pop(model.key, None)

    def pause(self, names: Collection[str]) -> None:
        """Give these backends no new attempts, and all others some again."""
        for backend in self.all:
            is_paused = backend.name in names
            if backend.is_paused != is_paused:
                log.info("backend paused" if is_paused else "backend resumed", backend=backend.name)
            backend.is_paused = is_paused
        self.line.dispatch()

    def breaker_opened(
        self, backend: Backend, model: ModelName | None, reason: str, seconds: float
    ) -> None:
        """Tell of a breaker that opened; of the backend as a whole where no model is named."""
        name = model.short if model else None
        waits = round(seconds, 1)
        log.warning(
            "breaker opened", backend=backend.name, model=name, reason=reason, seconds=waits
        )
        self.metrics.breaker_changed(backend.name, "opened", reason)

    def breaker_closed(self, backend: Backend, model: ModelName | None) -> None:
        """Tell of a breaker that closed."""
        log.info("breaker closed", backend=backend.name, model=model.short if model else None)
        self.metrics.breaker_changed(backend.name, "closed", "answered")
        self.line.dispatch()

    def _renew(self, now: float) -> None:
        up = [(b.name, b.listing) for b in self.all if b.is_up and b.listing is not None]
        before, self.catalog = self.catalog, Catalog.union(up)
        log_digest_mismatches(before, self.catalog)
        self.last_version = self.catalog.version or self.last_version
        for backend in self.all:
            if backend.is_up and backend.listing is not None:
                self._last_seen.update(dict.fromkeys(backend.listing.models, now))
        self._last_seen = {
            k: at for k, at in self._last_seen.items() if now - at < REMEMBERED_SECONDS
        }
        self.line.dispatch()

    def _is_known(self, model: ModelName, now: float) -> bool:
        if not self.were_all_polled or model.cloud:
            return True
        return now - self._last_seen.get(model.key, -math.inf) < REMEMBERED_SECONDS
