"""One backend: how to reach it, and its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import attrs
import httpx
import trio

from ollama_gateway import clock
from ollama_gateway.backends.breaker import Breaker
from ollama_gateway.backends.catalog import Listing, allows, is_remote
from ollama_gateway.backends.health import Health
from ollama_gateway.backends.outgoing import Outgoing
from ollama_gateway.backends.replica import Replica
from ollama_gateway.backends.transport import Transport
from ollama_gateway.backends.weights import weights_of
from ollama_gateway.wire.names import ModelName

FAILED_POLLS_TO_DOWN: Final = 3
UNLISTED: Final = "-"
"""The key of all unlisted models: cloud names, of which a client can invent any number."""
IN_USE_SECONDS: Final = 300.0
"""Seconds for which a loaded model counts as in use; Ollama keeps one for as long by default."""


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
    replicas: dict[str, Replica] = attrs.field(factory=dict, init=False, repr=False)
    """By weights (`weights_of`)."""
    used_at: dict[str, float] = attrs.field(factory=dict, init=False, repr=False)
    """When loaded weights were last used, as far as is known; the latest use comes last."""
    listing: Listing | None = attrs.field(default=None, init=False, repr=False)
    listed_at: float = attrs.field(default=-math.inf, init=False)
    """When it last answered a poll, on the event loop's clock."""
    failed_polls: int = attrs.field(default=0, init=False)
    error: str | None = attrs.field(default=None, init=False)
    """Why the last poll failed: one of the gateway's own texts."""
    polls: int = attrs.field(default=0, init=False)
    polls_begun: int = attrs.field(default=0, init=False)
    latest_poll: int = attrs.field(default=0, init=False)
    """The highest number of an ended poll; an older poll that ends later is ignored."""
    warm: set[str] = attrs.field(factory=set, init=False, repr=False)
    """Weights that were loaded at the last poll, or have answered since (`weights_of`)."""
    contexts: dict[str, int] = attrs.field(factory=dict, init=False, repr=False)
    """The context in tokens with which weights were loaded at the last poll."""
    blobs: dict[str, str] = attrs.field(factory=dict, init=False, repr=False)
    """By digest, the blobs of models whose description was asked for; empty if it names none."""
    _weights: dict[str, str] = attrs.field(factory=dict, init=False, repr=False)
    """The weights that were looked for since the listing or `blobs` changed, by model key."""
    unanswered: dict[trio.CancelScope, ModelName | None] = attrs.field(factory=dict, init=False)
    """Cancel scopes of requests without a good chunk yet, and their model; None for management."""
    load_changed: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    """Set when a request has loaded or unloaded a model; a new event each time."""
    _idle: trio.Event | None = attrs.field(default=None, init=False, repr=False)
    """Set when the last attempt ends, if a task waits for that."""
    outgoing: Outgoing = attrs.field(init=False, repr=False)
    """Makes its requests."""

    def __attrs_post_init__(self) -> None:
        self.outgoing = Outgoing.of(self.url, self.headers)

    def take_settings_of(self, other: Backend) -> None:
        """Be reached and used from now on as another backend with this name and URL is.

        The state stays, and attempts that run go on over the old transport. Models that may not be
        used any more leave the listing; others join it at the next poll.
        """
        self.priority, self.slots, self.headers = other.priority, other.slots, other.headers
        self.transport, self.outgoing = other.transport, other.outgoing
        if self.patterns != other.patterns:
            self.patterns = other.patterns
            if self.listing is not None:
                self.take_over(self.listing.allowed_by(self.patterns), clock.now(), self.listed_at)

    def attempt_ended(self) -> None:
        """Count an attempt that occupied it as ended."""
        self.in_flight -= 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no attempt occupies it."""
        while self.in_flight:
            self._idle = trio.Event()
            await self._idle.wait()
            self._idle = None

    @property
    def is_up(self) -> bool:
        """True from a good poll until three in a row have failed."""
        return self.listing is not None and self.failed_polls < FAILED_POLLS_TO_DOWN

    def hosts(self, model: ModelName) -> bool:
        """Return True if the last listing has the model; cloud models are served unlisted."""
        if self.listing is None:
            return False
        return model.key in self.listing.models or (model.cloud and allows(self.patterns, model))

    def has_warm(self, model: ModelName) -> bool:
        """Return True if the model was loaded at the last poll, or has answered since."""
        return self.has_warm_key(model.key)

    def has_warm_key(self, key: str) -> bool:
        """Do the same for a model key."""
        return self.listing is not None and self._weights_of(key) in self.warm

    def has_answered(self, model: ModelName) -> None:
        """Note that the model is loaded now; ignore models that the backend does not list."""
        if self.listing is not None and model.key in self.listing.models:
            self.warm.add(self._weights_of(model.key))

    def take_over(self, listing: Listing, now: float, listed_at: float | None = None) -> None:
        """Use a listing, and the models that are loaded; it may be older than these."""
        before, self.listing = self.listing, listing
        self.listed_at = now if listed_at is None else listed_at
        if listing is not before:
            self._weights.clear()
            if self.blobs:
                listed = {entry["digest"] for entry in listing.models.values()}
                self.blobs = {digest: self.blobs[digest] for digest in listed & self.blobs.keys()}
        loaded = {self._weights_of(key): entry for key, entry in listing.running.items()}
        self.warm = set(loaded)
        self.contexts = {
            weights: tokens
            for weights, entry in loaded.items()
            if type(tokens := entry.get("context_length")) is int and tokens > 0
        }
        self._note_uses(before, listing, now)

    def note_blob(self, digest: str, blob: str) -> None:
        """Note where the weights of a model are, or that its description does not tell."""
        self.blobs[digest] = blob
        self._weights.clear()
        if blob:
            self._rename(digest, blob)

    def _rename(self, digest: str, blob: str) -> None:
        """Keep the measurements of weights whose blob has become known."""
        if digest in self.warm:
            self.warm.add(blob)
        if digest in self.used_at:
            used = max(self.used_at.pop(digest), self.used_at.get(blob, -math.inf))
            self.used_at = dict(sorted({**self.used_at, blob: used}.items(), key=lambda it: it[1]))
        before, self.replicas = self.replicas, {}
        for weights, one in sorted(before.items(), key=lambda it: it[1].running, reverse=True):
            renamed = weights if weights == UNLISTED else self._weights_of(one.key)
            self.replicas.setdefault(renamed, one)

    def _note_uses(self, before: Listing | None, listing: Listing, now: float) -> None:
        """Note which loaded models were used: the end of each request moves their `expires_at`."""
        used_at = {weights: now for weights, one in self.replicas.items() if one.running}
        used_at.pop(UNLISTED, None)
        for key, entry in listing.running.items():
            weights = self._weights_of(key)
            known = before.running.get(key) if before else None
            is_unchanged = known is not None and known.get("expires_at") == entry.get("expires_at")
            seen = self.used_at.get(weights, now) if is_unchanged else now
            used_at[weights] = max(seen, used_at.get(weights, seen))
        self.used_at = dict(sorted(used_at.items(), key=lambda item: item[1]))

    def note_use(self, model: ModelName, now: float) -> None:
        """Note that an attempt for a model begins or ends, unless the model runs elsewhere."""
        if model.cloud or self.is_remote(model):
            return
        weights = self.weights_of(model)
        self.used_at.pop(weights, None)
        self.used_at[weights] = now

    def may_evict(self, model: ModelName, now: float) -> bool:
        """Return True if loading the model may unload another that is in use (`replica.py`)."""
        weights = self.weights_of(model)
        others = (used for other, used in reversed(self.used_at.items()) if other != weights)
        return now - next(others, -math.inf) < IN_USE_SECONDS

    def is_loading_another(self, weights: str) -> bool:
        """Return True if Ollama loads other weights than these now."""
        others = (one for key, one in self.replicas.items() if key != weights)
        return any(one.loading_since is not None for one in others)

    @property
    def is_full(self) -> bool:
        """True if all its slots are taken."""
        return 0 < self.slots <= self.in_flight

    def has_slot(self) -> bool:
        """Return True if one of its slots is free."""
        return not self.is_full

    def health_of(self, model: ModelName) -> Health:
        """Return the health of a model on this backend."""
        is_listed = self.listing is not None and model.key in self.listing.models
        key = model.key if is_listed else UNLISTED
        if key not in self.health:
            self.health[key] = Health()
        return self.health[key]

    def weights_of(self, model: ModelName) -> str:
        """Return the key of a model's replica."""
        listing = self.listing
        if listing is None or model.key not in listing.models:
            return UNLISTED
        return self._weights_of(model.key)

    def _weights_of(self, key: str) -> str:
        """Find the weights of a model key once for each listing, as every request asks for them."""
        listing = self.listing
        if listing is None:
            return key
        if (known := self._weights.get(key)) is not None:
            return known
        weights = weights_of(listing, key, self.blobs)
        if key in listing.models:
            self._weights[key] = weights
        return weights

    def replica_of(self, model: ModelName) -> Replica:
        """Return the replica that serves a model here."""
        weights = self.weights_of(model)
        if weights not in self.replicas:
            self.replicas[weights] = Replica(UNLISTED if weights == UNLISTED else model.key)
        return self.replicas[weights]

    def learned_capacity(self, key: str) -> int:
        """Return the capacity that was learned for a model key; it begins with 1."""
        weights = UNLISTED if key == UNLISTED or self.listing is None else self._weights_of(key)
        replica = self.replicas.get(weights)
        return replica.capacity.value if replica else 1

    def prefill_speed(self, key: str) -> float | None:
        """Return the measured tokens of a prompt that a model key reads in a second, or None."""
        weights = UNLISTED if key == UNLISTED or self.listing is None else self._weights_of(key)
        replica = self.replicas.get(weights)
        seconds = replica.prefill.seconds_per_token if replica else None
        return round(1 / seconds, 1) if seconds else None

    def needs_load(self, model: ModelName) -> bool:
        """Return True if Ollama would have to load the model first."""
        return not (self.has_warm(model) or model.cloud or self.is_remote(model))

    def forget_unlisted(self) -> None:
        """Forget the measurements of models that the listing does not have any more."""
        if (listing := self.listing) is None:
            return
        listed = {UNLISTED, *listing.models}
        self.health = {key: health for key, health in self.health.items() if key in listed}
        self.replicas = {
            weights: replica
            for weights, replica in self.replicas.items()
            if replica.key == UNLISTED
            or (replica.key in listed and self._weights_of(replica.key) == weights)
        }

    def is_remote(self, model: ModelName) -> bool:
        """Return True if the backend lists the name for a cloud model, as an alias of it."""
        entry = self.listing.models.get(model.key) if self.listing else None
        return entry is not None and is_remote(entry)

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
