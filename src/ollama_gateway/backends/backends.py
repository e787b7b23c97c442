"""The backends and their present state; changed only by functions that do not await.

A backend is *up* from its first good poll until three polls in a row have failed. When it goes
down, its models leave the lists but stay known for routing: a request for a model whose backends
are all down gets a 503 with `Retry-After`, not a 403 (`check` tells the two apart). Its attempts
without a good chunk are cancelled at once, as no answer will come. A *paused* backend gets no new
attempts, and keeps its streams and its models in the lists.

Every change that may let a waiting request go on ends with `line.dispatch`. It names the backend or
the health that has changed, or neither where a backend may host models that it did not host before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ollama_gateway import clock
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.catalog import Catalog, Listing
from ollama_gateway.backends.hiding import log_hidden_models
from ollama_gateway.backends.mismatch import log_digest_mismatches
from ollama_gateway.backends.waiting import Waiter, WaitingLine
from ollama_gateway.log import get_logger
from ollama_gateway.reasons import AnyReason, Reason
from ollama_gateway.wire.names import ModelName

if TYPE_CHECKING:
    from ollama_gateway.backends.affinity import Affinity
    from ollama_gateway.metrics import Metrics

REMEMBERED_SECONDS: Final = 24 * 3600.0
"""Seconds for which the models of a backend that is down stay known for routing."""

log = get_logger("backends")


class ModelDown(Exception):
    """The model is known, but no backend that hosts it can be asked now.

    Args:
        reason: `backends_down`, or `backends_paused` if all its backends that are up are paused.

    """

    def __init__(self, reason: Reason = Reason.BACKENDS_DOWN) -> None:
        super().__init__(reason)
        self.reason = reason


class ModelUnknown(Exception):
    """No backend hosts the model, and none that is down hosted it."""


@attrs.define(eq=False)
class Backends:
    """All backends in order of preference, and the catalog of those that are up."""

    all: tuple[Backend, ...]
    """Replaced whole by `replace`."""
    metrics: Metrics | None = None
    """Counts breakers; None in commands, which serve nothing."""
    hidden: Collection[str] = ()
    """Keys of models that exact aliases hide where a backend lists them."""
    affinity: Affinity | None = None
    """Which conversations are where; None if it does not count."""
    line: WaitingLine = attrs.field(factory=WaitingLine, init=False)
    catalog: Catalog = attrs.field(factory=Catalog, init=False)
    last_version: str | None = attrs.field(default=None, init=False)
    replaced: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    """Set when `all` is replaced; a new event each time."""
    _paused: Collection[str] = attrs.field(factory=frozenset, init=False)

    @classmethod
    def of(
        cls,
        backends: Iterable[Backend],
        metrics: Metrics | None = None,
        hidden: Collection[str] = (),
    ) -> Backends:
        """Sort by priority; equal priorities keep the order of the settings."""
        return cls(_ordered(backends), metrics, hidden)

    def hide(self, keys: Collection[str]) -> None:
        """Let exact aliases hide the models of these keys from now on."""
        log_hidden_models(Catalog(), self.catalog, {*keys}.difference(self.hidden))
        self.hidden = keys

    def replace(self, backends: Iterable[Backend]) -> None:
        """Use these backends from now on. Those that were used before keep their state.

        A backend that is removed gets no new attempts; those that run go on. A new one gets
        attempts from its first good poll.
        """
        before, self.all = self.all, _ordered(backends)
        for backend in self.all:
            backend.is_paused = backend.name in self._paused
        kept = [backend for backend in self.all if backend in before]
        if kept != [backend for backend in before if backend in kept]:
            self.catalog = Catalog()  # it keeps the order of the backends that it knows
        self._renew()
        self.replaced.set()
        self.replaced = trio.Event()
        self.line.dispatch()

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
            is_down = self._may_come_back(model, now) and not is_elsewhere
            raise ModelDown if is_down else ModelUnknown
        if all(backend.is_paused for backend in hosts):
            raise ModelDown(Reason.BACKENDS_PAUSED)

    def is_remote(self, model: ModelName) -> bool:
        """Return True if any backend lists the name for a cloud model."""
        return any(backend.is_remote(model) for backend in self.all)

    def context(self, model: ModelName) -> int | None:
        """Return the largest context length that a backend lists for the model, or None."""
        found = (backend.context(model) for backend in self.all)
        return max((tokens for tokens in found if tokens), default=None)

    def polled(self, backend: Backend, listing: Listing, now: float) -> None:
        """Record a successful poll; one that finds what the last one found costs a comparison."""
        was_up = backend.is_up
        if not was_up:
            log.info("backend up", backend=backend.name, models=len(listing.models))
            for health in backend.health.values():
                health.backoff_until = now  # the process that was full has ended
            backend.blobs.clear()  # those that it did not tell are asked for again
            backend.replicas.clear()  # the next one may have other slots
        backend.polls += 1
        backend.failed_polls, backend.error = 0, None
        backend.take_over(listing, now)
        if self._renew() or not was_up:
            backend.forget_unlisted()
            self.line.dispatch()

    def polled_running(self, backend: Backend, running: object) -> None:
        """Record what a backend has loaded; `running` is its answer to `/api/ps`."""
        if backend.listing is not None:
            listing = backend.listing.with_running(running, backend.patterns)
            backend.take_over(listing, clock.now(), backend.listed_at)
            self._renew()

    def failed(self, backend: Backend, reason: str) -> None:
        """Record a failed poll; the third in a row takes the backend down and ends its attempts."""
        was_up = backend.is_up
        backend.polls += 1
        backend.failed_polls += 1
        backend.error = reason
        if backend.is_up:
            return
        for scope, model in backend.unanswered.items():
            if model is None or self._is_elsewhere(model, backend):
                scope.cancel()
        if was_up or backend.polls == 1:
            log.warning("backend down", backend=backend.name, reason=reason)
        self._renew()
        if was_up:
            self.line.dispatch(backend)

    def _is_elsewhere(self, model: ModelName, backend: Backend) -> bool:
        """Return True if another backend could serve the model now.

        If none could, a busy machine that answers no polls is better than none.
        """
        others = (other for other in self.all if other is not backend)
        return any(b.is_up and not b.is_paused and b.hosts(model) for b in others)

    def models_without_backend(self, now: float) -> list[str]:
        """Return the models that only backends list which are down or paused, by listed name.

        Empty if no backend is up. A backend's last listing counts for `REMEMBERED_SECONDS`.
        """
        live = [b for b in self.all if b.is_up and not b.is_paused]
        known = [b for b in self.all if now - b.listed_at < REMEMBERED_SECONDS] if live else []
        served = {key for b in live if b.listing for key in b.listing.models}
        names = {
            key: str(entry["name"])
            for b in known
            if b.listing
            for key, entry in b.listing.models.items()
            if key not in served
        }
        return sorted(names.values())

    def restore(self, backend: Backend, listing: Listing, now: float) -> None:
        """Use a listing that another process has read, until this process has polled."""
        if backend.polls == 0:
            backend.take_over(listing.allowed_by(backend.patterns), now)
            self._renew()
            self.line.dispatch()

    def lost(self, backend: Backend, model: ModelName) -> None:
        """Take a model that the backend lists but lacks off its listing, until the next poll."""
        if backend.listing is None or model.key not in backend.listing.models:
            return
        backend.listing = backend.listing.without(model.key)
        log.warning("backend lacks a model it lists", backend=backend.name, model=model.short)
        self._renew()
        self.line.dispatch(backend)

    def pause(self, names: Collection[str]) -> None:
        """Pause exactly these backends, and resume all others."""
        self._paused = names
        changed = [b for b in self.all if b.is_paused != (b.name in names)]
        for backend in changed:
            backend.is_paused = not backend.is_paused
            event = "backend paused" if backend.is_paused else "backend resumed"
            log.info(event, backend=backend.name)
        for backend in changed:
            self.line.dispatch(backend)

    def loaded(self, backend: Backend, model: ModelName, seconds: float | None) -> None:
        """Count a load that has ended, and its seconds where a stream has shown them."""
        if self.metrics is not None:
            name = backend.spelling(model) or model.short
            self.metrics.loaded(name, backend.name, seconds)

    def breaker_opened(
        self, backend: Backend, model: ModelName | None, reason: AnyReason, seconds: float
    ) -> None:
        """Log and count a breaker that opened; without a model it is the backend's own."""
        name = model.short if model else None
        waits = round(seconds, 1)
        log.warning(
            "breaker opened", backend=backend.name, model=name, reason=reason, seconds=waits
        )
        self._count_breaker(backend, "opened", reason)
        self.line.dispatch(backend.health_of(model) if model else backend)

    def breaker_closed(self, backend: Backend, model: ModelName | None) -> None:
        """Log and count a breaker that closed."""
        log.info("breaker closed", backend=backend.name, model=model.short if model else None)
        self._count_breaker(backend, "closed", "answered")
        self.line.dispatch(backend.health_of(model) if model else backend)

    def _count_breaker(self, backend: Backend, change: str, reason: str) -> None:
        if self.metrics is not None:
            self.metrics.breaker_changed(backend.name, change, reason)

    @contextmanager
    def in_line(self, waiter: Waiter, now: float) -> Iterator[Waiter]:
        """Stand in line as `line.joined` lets one, and record the seconds."""
        was_served = False
        try:
            with self.line.joined(waiter, now):
                yield waiter
            was_served = True
        finally:
            if self.metrics is not None:
                self.metrics.waited(clock.now() - now, was_served=was_served)

    def _renew(self) -> bool:
        """Bring the catalog up to date; return True if it has changed."""
        up = {b.name: b.listing for b in self.all if b.is_up and b.listing is not None}
        before, self.catalog = self.catalog, self.catalog.renewed(up)
        if self.catalog is before:
            return False
        log_digest_mismatches(before, self.catalog)
        log_hidden_models(before, self.catalog, self.hidden)
        self.last_version = self.catalog.version or self.last_version
        return True

    def _may_come_back(self, model: ModelName, now: float) -> bool:
        """Return True if a backend that is down hosted the model, or may turn out to host it."""
        if not self.were_all_polled or model.cloud:
            return True
        down = (backend for backend in self.all if not backend.is_up)
        return any(b.hosts(model) and now - b.listed_at < REMEMBERED_SECONDS for b in down)


def _ordered(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    return tuple(sorted(backends, key=lambda backend: backend.priority))
