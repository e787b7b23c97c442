"""The backends and their present state; changed only by functions that do not await.

A backend is *up* from its first good poll until three polls in a row have failed. When it goes
down, its models leave the lists but stay known for routing: a request for a model whose backends
are all down gets a 503 with `Retry-After`, not a 403 (`check` tells the two apart). Its attempts
without a good chunk are cancelled at once, as no answer will come. A *paused* backend gets no new
attempts, and keeps its streams and its models in the lists.

Every change that may give room to a waiting request ends with `line.dispatch()`.
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
"""Seconds for which an unlisted model stays known for routing."""
UNLISTED: Final = "-"
"""The health key of all unlisted models: cloud names, of which a client can invent any number."""

log = get_logger("backends")


class ModelDown(Exception):
    """The model is known, but no backend that hosts it can be asked now.

    Args:
        reason: `backends_down`, or `backends_paused` if all its backends that are up are paused.

    """

    def __init__(self, reason: str = "backends_down") -> None:
        super().__init__(reason)
        self.reason = reason


class ModelUnknown(Exception):
    """No backend hosts the model, or has listed it in the last `REMEMBERED_SECONDS`."""


@attrs.define(eq=False)
class Backend:
    """One Ollama server: how to reach it, and its state."""

    name: str
    url: httpx.URL
    transport: Transport = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Sent with every request; may contain secrets."""
    priority: int = 1
    patterns: tuple[str, ...] = ("*",)
    slots: int = 0
    """Maximum of concurrent attempts; 0 means no maximum."""
    in_flight: int = attrs.field(default=0, init=False)
    is_paused: bool = attrs.field(default=False, init=False)
    breaker: Breaker = attrs.field(factory=Breaker, init=False, repr=False)
    """Counts failed connections; `health` has one breaker for each model."""
    health: dict[str, Health] = attrs.field(factory=dict, init=False, repr=False)
    """By model key."""
    listing: Listing | None = attrs.field(default=None, init=False, repr=False)
    failed_polls: int = attrs.field(default=0, init=False)
    error: str | None = attrs.field(default=None, init=False)
    """Why the last poll failed: one of the gateway's own texts."""
    polls: int = attrs.field(default=0, init=False)
    polls_begun: int = attrs.field(default=0, init=False)
    latest_poll: int = attrs.field(default=0, init=False)
    """The highest number of an ended poll; an older poll that ends later is ignored."""
    answered: set[str] = attrs.field(factory=set, init=False, repr=False)
    """Keys of listed models that have answered since the last poll."""
    unanswered: set[trio.CancelScope] = attrs.field(factory=set, init=False, repr=False)
    """Cancel scopes of attempts without a good chunk yet."""
    outgoing: Outgoing = attrs.field(init=False, repr=False)
    """Makes its requests."""

    def __attrs_post_init__(self) -> None:
        self.outgoing = Outgoing.of(self.url, self.headers)

    @property
    def is_up(self) -> bool:
        """True from a good poll until three in a row have failed."""
        return self.listing is not None and self.failed_polls < FAILED_POLLS_TO_DOWN

    def hosts(self, model: ModelName) -> bool:
        """True if the last listing has the model; cloud models are served without being listed."""
        if self.listing is None:
            return False
        return model.key in self.listing.models or (model.cloud and allows(self.patterns, model))

    def has_warm(self, model: ModelName) -> bool:
        """True if the model was loaded at the last poll, or has answered since."""
        return self.has_warm_key(model.key)

    def has_warm_key(self, key: str) -> bool:
        """Do the same for a model key."""
        is_running = self.listing is not None and key in self.listing.running
        return is_running or key in self.answered

    def has_answered(self, model: ModelName) -> None:
        """Note that the model is loaded now; ignore models that the backend does not list."""
        if self.listing is not None and model.key in self.listing.models:
            self.answered.add(model.key)

    @property
    def is_full(self) -> bool:
        """True if all its slots are taken."""
        return 0 < self.slots <= self.in_flight

    def health_of(self, model: ModelName) -> Health:
        """Return the health of a model on this backend."""
        is_listed = self.listing is not None and model.key in self.listing.models
        key = model.key if is_listed else UNLISTED
        if key not in self.health:
            self.health[key] = Health()
        return self.health[key]

    def spelling(self, model: ModelName) -> str | None:
        """Return the model's name as the backend spells it; None if it does not list the model."""
        entry = self.listing.models.get(model.key) if self.listing else None
        return entry["name"] if entry else None

    def context(self, model: ModelName) -> int | None:
        """Return the context length from the listing (`/api/tags`, since Ollama 0.30), or None."""
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
        """Sort by priority; equal priorities keep the order of the settings."""
        ordered = sorted(backends, key=lambda backend: backend.priority)
        return cls(tuple(ordered), metrics or Metrics())

    async def aclose(self) -> None:
        """Close all idle connections, forced, so that no backend can delay it."""
        with trio.move_on_after(1, shield=True):
            for backend in self.all:
                await backend.transport.aclose()

    @property
    def were_all_polled(self) -> bool:
        """True once every backend has been polled."""
        return all(backend.polls for backend in self.all)

    def named(self, name: str) -> Backend | None:
        """Return the backend of that name, or None."""
        return next((backend for backend in self.all if backend.name == name), None)

    def check(self, model: ModelName, now: float, only: Backend | None = None) -> None:
        """Raise ModelDown or ModelUnknown if no backend can serve the model now.

        `only` is the one backend that the request allows.
        """
        hosts = [b for b in self.all if b.is_up and b.hosts(model) and only in (None, b)]
        if not hosts:
            is_elsewhere = only is not None and only.is_up
            is_down = self._is_known(model, now) and not is_elsewhere
            raise ModelDown if is_down else ModelUnknown
        if all(backend.is_paused for backend in hosts):
            raise ModelDown("backends_paused")

    def context(self, model: ModelName) -> int | None:
        """Return the largest context length that a backend lists for the model, or None."""
        found = (backend.context(model) for backend in self.all)
        return max((tokens for tokens in found if tokens), default=None)

    def polled(self, backend: Backend, listing: Listing, now: float) -> None:
        """Record a successful poll."""
        if not backend.is_up:
            log.info("backend up", backend=backend.name, models=len(listing.models))
            for health in backend.health.values():
                health.backoff_until = now  # the process that was full has ended
        backend.polls += 1
        backend.failed_polls, backend.error = 0, None
        backend.listing = listing
        backend.answered.clear()
        listed = {UNLISTED, *listing.models}
        backend.health = {key: health for key, health in backend.health.items() if key in listed}
        self._renew(now)

    def failed(self, backend: Backend, reason: str, now: float) -> None:
        """Record a failed poll; the third in a row takes the backend down and ends its attempts."""
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
        """Use a listing that another process has read, until this process has polled."""
        if backend.polls == 0:
            backend.listing = listing
            self._renew(now)

    def lost(self, backend: Backend, model: ModelName, now: float) -> None:
        """Take a model that the backend lists but lacks off its listing, until the next poll."""
        if backend.listing is None or model.key not in backend.listing.models:
            return
        models = {k: entry for k, entry in backend.listing.models.items() if k != model.key}
        backend.listing = attrs.evolve(backend.listing, models=models)
        log.warning("backend lacks a model it lists", backend=backend.name, model=model.short)
        self._renew(now)

    def forget(self, model: ModelName) -> None:
        """Forget a deleted model, unless a backend still lists it."""
        if not any(b.listing and model.key in b.listing.models for b in self.all):
            self._last_seen.pop(model.key, None)

    def pause(self, names: Collection[str]) -> None:
        """Pause exactly these backends, and resume all others."""
        for backend in self.all:
            is_paused = backend.name in names
            if backend.is_paused != is_paused:
                log.info("backend paused" if is_paused else "backend resumed", backend=backend.name)
            backend.is_paused = is_paused
        self.line.dispatch()

    def breaker_opened(
        self, backend: Backend, model: ModelName | None, reason: str, seconds: float
    ) -> None:
        """Log and count a breaker that opened; without a model it is the backend's own."""
        name = model.short if model else None
        waits = round(seconds, 1)
        log.warning(
            "breaker opened", backend=backend.name, model=name, reason=reason, seconds=waits
        )
        self.metrics.breaker_changed(backend.name, "opened", reason)

    def breaker_closed(self, backend: Backend, model: ModelName | None) -> None:
        """Log and count a breaker that closed."""
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
