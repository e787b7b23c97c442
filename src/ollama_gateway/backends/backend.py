"""One backend: how to reach it, and its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import attrs
import httpx
import trio

from ollama_gateway.backends.breaker import Breaker
from ollama_gateway.backends.catalog import Listing, allows, is_remote
from ollama_gateway.backends.health import Health
from ollama_gateway.backends.outgoing import Outgoing
from ollama_gateway.backends.transport import Transport
from ollama_gateway.wire.names import ModelName

FAILED_POLLS_TO_DOWN: Final = 3
UNLISTED: Final = "-"
"""The health key of all unlisted models: cloud names, of which a client can invent any number."""


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
    """Weights that were loaded at the last poll, or have answered since (`Listing.weights_of`)."""
    unanswered: dict[trio.CancelScope, ModelName | None] = attrs.field(factory=dict, init=False)
    """Cancel scopes of requests without a good chunk yet, and their model; None for management."""
    load_changed: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    """Set when a request has loaded or unloaded a model; a new event each time."""
    outgoing: Outgoing = attrs.field(init=False, repr=False)
    """Makes its requests."""

    def __attrs_post_init__(self) -> None:
        self.outgoing = Outgoing.of(self.url, self.headers)

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
        return self.listing is not None and self.listing.weights_of(key) in self.warm

    def has_answered(self, model: ModelName) -> None:
        """Note that the model is loaded now; ignore models that the backend does not list."""
        if self.listing is not None and model.key in self.listing.models:
            self.warm.add(self.listing.weights_of(model.key))

    def take_over(self, listing: Listing, now: float) -> None:
        """Use a listing, and what it says is loaded."""
        self.listing, self.listed_at = listing, now
        self.warm = set(map(listing.weights_of, listing.running))

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
